"""Panels with captions and colour bars."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (16, 19, 26)
_INK = (232, 236, 243)
_FAINT = (150, 158, 172)
_NO_DATA = (28, 32, 41)


@dataclass(frozen=True)
class Scale:
    """How values become colours."""

    low: float
    high: float
    colormap: int
    unit: str = 'm'
    logarithmic: bool = False
    reverse: bool = False

    def colors(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of values (H, W); a dark tone where they are not known."""
        colors = self._look_up(np.clip(self.fraction(values), 0, 1))
        colors[~known] = _NO_DATA
        return colors

    def fraction(self, values: np.ndarray | float) -> np.ndarray | float:
        """Position of values along the colour bar: 0 at its low end, 1 at its high end."""
        if self.logarithmic:
            return np.log(np.maximum(values, 1e-6) / self.low) / np.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values between the ends, in rising order."""
        if self.logarithmic:
            decades = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))))
            values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 4
            decade = 10.0 ** np.floor(np.log10(rough))
            step = decade * max(digit for digit in (1, 2, 5) if digit * decade <= rough * 1.001)
            values = [step * index for index in range(1, int(np.ceil(self.high / step)) + 1)]
        inside = [value for value in values if 0.02 < self.fraction(value) < 0.98]
        return sorted(float(value) for value in inside)

    def bar(self, width: int, height: int) -> np.ndarray:
        """(height, width, 3) colour bar, low on the left."""
        return self._look_up(np.tile(np.linspace(0, 1, width), (height, 1)))

    def _look_up(self, fraction: np.ndarray) -> np.ndarray:
        level = ((1 - fraction if self.reverse else fraction) * 255).astype(np.uint8)
        return cv2.cvtColor(cv2.applyColorMap(level, self.colormap), cv2.COLOR_BGR2RGB)


CONFIDENCE = Scale(0.0, 1.0, cv2.COLORMAP_VIRIDIS, unit='')


@dataclass(frozen=True)
class Panel:
    """An image with its caption, and the scale of its colours where it has one."""

    image: np.ndarray
    caption: str
    scale: Scale | None = None
    note: str = ''


def depth_scale(depth: np.ndarray) -> Scale:
    """Colours over the depths that occur: red near, blue far."""
    low, high = np.percentile(depth[depth > 0], [1, 99]) if (depth > 0).any() else (1, 10)
    low = max(float(low), 0.1)
    high = max(float(high), 1.5 * low)
    return Scale(low, high, cv2.COLORMAP_TURBO, logarithmic=True, reverse=True)


def points_on_image(rgb: np.ndarray, sparse: np.ndarray, scale: Scale) -> np.ndarray:
    """The LiDAR's points, enlarged to be seen, over the darkened image."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    ground = cv2.cvtColor((grey * 0.45).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    near = _enlarged(np.divide(1, sparse, out=np.zeros_like(sparse), where=sparse > 0))
    depth = np.divide(1, near, out=np.zeros_like(near), where=near > 0)
    return np.where(depth[..., None] > 0, scale.colors(depth, depth > 0), ground)


def error_image(depth: np.ndarray, truth: np.ndarray, scale: Scale) -> np.ndarray:
    """Absolute error where there is ground truth, with single pixels enlarged to be visible."""
    known = truth > 0
    error = np.where(known, np.abs(depth - truth), -1).astype(np.float32)
    if known.mean() < 0.3:
        error = _enlarged(error)
    return scale.colors(error, error >= 0)


def _enlarged(values: np.ndarray) -> np.ndarray:
    """Give lone pixels the size that they need to be seen in a smaller panel."""
    side = 1 + 2 * round(values.shape[1] / 640)
    return cv2.dilate(values, np.ones((side, side), np.uint8))


class Page:
    """A dark page that panels and text are put on."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new('RGB', (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: int, y: int, text: str, size: int, *, faint: bool = False, right=False):
        """Put text at its upper left corner, or its upper right one."""
        self._draw.text(
            (x, y),
            text,
            font=font(size),
            fill=_FAINT if faint else _INK,
            anchor='ra' if right else 'la',
        )

    def panel(self, x: int, y: int, width: int, height: int, panel: Panel) -> None:
        """Put a panel; its caption stands above it and takes `caption_height(width)`."""
        size = caption_size(width)
        self.text(x, y, panel.caption, size)
        if panel.scale is not None:
            self._color_bar(x + width, y, width // 4, size, panel.scale)
        elif panel.note:
            self.text(x + width, y, panel.note, size, faint=True, right=True)
        image = Image.fromarray(panel.image).resize((width, height), Image.Resampling.LANCZOS)
        self.image.paste(image, (x, y + caption_height(width)))

    def _color_bar(self, right: int, y: int, width: int, size: int, scale: Scale) -> None:
        """A bar with its ends and round values between them written below."""
        small = max(9, size * 5 // 8)
        ends = (f'{scale.low:.1f}'.removesuffix('.0'), _label(scale.high, scale.unit))
        widths = [int(self._draw.textlength(text, font=font(small))) for text in ends]
        # The labels of the ends stand below the ends, as those of the ticks below the ticks.
        left, right = right - widths[1] // 2 - width, right - widths[1] // 2
        height, below = max(size // 2, 4), y + max(size // 2, 4) + 3
        self.image.paste(Image.fromarray(scale.bar(width, height)), (left, y))
        taken = [(left - widths[0] // 2, left + widths[0] // 2)]
        last = right - widths[1] // 2
        for text, x in ((ends[0], left), (ends[1], right)):
            self._tick(x, below, text, small)
        for value in scale.ticks():
            x, text = left + round(width * float(scale.fraction(value))), f'{value:g}'
            half = int(self._draw.textlength(text, font=font(small))) // 2
            if x - half > taken[-1][1] + small // 2 and x + half < last - small // 2:
                taken.append((x - half, x + half))
                self._tick(x, below, text, small)

    def _tick(self, x: int, below: int, text: str, size: int) -> None:
        self._draw.line((x, below - 3, x, below), fill=_FAINT)
        self._draw.text((x, below), text, font=font(size), fill=_FAINT, anchor='ma')


def _label(value: float, unit: str) -> str:
    """The high end with its unit; it is where it is by the data, so it has few digits."""
    digits = 0 if value >= 20 else 1
    return f'{value:.{digits}f} {unit}'.strip()


def caption_size(width: int) -> int:
    """Height in pixels of a caption's letters above a panel of this width."""
    return max(11, width // 42)


def caption_height(width: int) -> int:
    """Height in pixels that a panel's caption takes."""
    return caption_size(width) * 8 // 5


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; before version 10.1 it has one size only."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def grid(
    page: Page, panels: Sequence[Panel], columns: int, cell: tuple[int, int], top: int, gap: int
) -> int:
    """Put panels of cell size (width, height) row by row; returns the y below them."""
    width, height = cell
    step = height + caption_height(width) + gap
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        page.panel(gap + column * (width + gap), top + row * step, width, height, panel)
    return top + -(-len(panels) // columns) * step

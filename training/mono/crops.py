"""What a monocular network trains on: crops of unlabelled images, by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmd3c_ros.core.camera import Camera
from training.augmentation import ToneSpread, resized, resized_depth, toned
from training.generation.sources import (
    BadImageError,
    Mixture,
    Source,
    SourceConfig,
    SourceImage,
    open_source,
)
from training.scenes.frames import load_frame


@dataclass(frozen=True)
class CropConfig:
    """Which part of an image is seen, and how.

    height, width: of the student's input, pixels. smallest: least height of the part that is cut
        out, as a fraction of the largest part of this shape; 1 takes the largest.
    detail: the teachers' patches of local-global distillation are cut from the part at so many
        times the student's resolution.
    repeated: number of different parts of each image; 0 draws a new one every time. Where parts
        repeat, what teachers say of them can be kept on disk (``python -m training.mono.labels``).
    flip: probability to mirror left to right. colour: strength of changes of exposure, contrast
        and colour, which only the student sees.
    fov_deg: horizontal field of view of an image whose camera is unknown, for position maps.
    """

    height: int = 448
    width: int = 448
    smallest: float = 0.5
    detail: float = 1.0
    repeated: int = 0
    flip: float = 0.5
    colour: float = 0.5
    fov_deg: float = 60.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32:
            raise ValueError(
                f'crop: expected at least 32x32 pixels, got {self.width}x{self.height}'
            )
        if not 0 < self.smallest <= 1 or not 1 <= self.detail <= 4:
            raise ValueError(
                'crop: expected smallest of above 0 to 1 and detail of 1 to 4, got '
                f'{self.smallest}, {self.detail}'
            )
        if self.repeated < 0 or not 0 <= self.flip <= 1 or self.colour < 0:
            raise ValueError(
                'crop: expected repeated and colour of 0 or more and flip of 0 to 1, got '
                f'{self.repeated}, {self.colour}, {self.flip}'
            )
        if not 0 < self.fov_deg < 180:
            raise ValueError(f'crop: expected fov_deg of 0 to 180, got {self.fov_deg}')


@dataclass(frozen=True, eq=False)
class Part:
    """Part of an image at the student's size.

    rgb: (h, w, 3) uint8; large: the same part at the teachers' patches' resolution. depth: (h, w)
    float32, m, 0 = sky, where the image has it exactly. K: (3, 3), pixels of rgb.
    """

    rgb: np.ndarray
    large: np.ndarray
    depth: np.ndarray | None
    K: np.ndarray


def cut(image: SourceImage, config: CropConfig, rng: np.random.Generator) -> Part:
    """A random part of an image, mirrored or not; drawn from rng alone."""
    height, width = image.rgb.shape[:2]
    K = image.K
    if K is None:
        focal = width / 2 / np.tan(np.radians(config.fov_deg) / 2)
        K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    scale = min(height / config.height, width / config.width) * rng.uniform(config.smallest, 1)
    h, w = (max(1, round(scale * n)) for n in (config.height, config.width))
    h, w = min(h, height), min(w, width)
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    window = np.s_[top : top + h, left : left + w]
    camera = Camera.from_K(K, width, height).crop(left, top, w, h)
    size = config.width, config.height
    camera = camera.scaled(*size)
    rgb = image.rgb[window]
    large = (round(config.width * config.detail), round(config.height * config.detail))
    small = resized(rgb, size)
    large = small if config.detail == 1 else resized(rgb, large)
    depth = None if image.depth is None else resized_depth(image.depth[window], size)
    if rng.random() < config.flip:
        small, large = small[:, ::-1], large[:, ::-1]
        depth = None if depth is None else depth[:, ::-1]
        camera = camera.flipped()
    small, large = np.ascontiguousarray(small), np.ascontiguousarray(large)
    return Part(small, large, None if depth is None else np.ascontiguousarray(depth), camera.K)


def recoloured(rgb: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Other exposure, contrast and colours; float32 (h, w, 3) in 0..1."""
    image = rgb.astype(np.float32) / 255
    return toned(image, ToneSpread(), strength, rng).clip(0, 1) if strength else image


class Frames(Source):
    """Simulated frames of ``python -m training.scenes``, which have exact depth."""

    def __init__(self, root: str | Path) -> None:
        self._files = sorted(Path(root).glob('*.npz'))
        if not self._files:
            raise FileNotFoundError(
                f'{root}: expected frames (*.npz); make them with python -m training.scenes'
            )

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        return f'scenes/{self._files[index].stem}'

    def read(self, index: int) -> SourceImage:
        try:
            frame = load_frame(self._files[index])
        except (OSError, ValueError) as error:
            raise BadImageError(str(error)) from error
        return SourceImage(self.name(index), frame.rgb, frame.depth, frame.K)


def open_images(sources: Sequence[SourceConfig], scenes: str, seed: int) -> Source:
    """Images of all sources and of a folder of simulated frames, in one random order."""
    found = [open_source(source) for source in sources]
    if scenes:
        found.append(Frames(scenes))
    if not found:
        raise ValueError('images: expected sources or scenes, got none')
    return Mixture(found, seed)


def read_any(source: Source, index: int) -> SourceImage:
    """The image of that number, or the next one that reads.

    Raises BadImageError where none of ten does: then it is not the images.
    """
    for offset in range(10):
        try:
            return source.read((index + offset) % len(source))
        except BadImageError as error:
            fault = error
    raise fault

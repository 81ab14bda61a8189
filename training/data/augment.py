"""Random changes of a training sample, all on the one Sample object, so that none is half done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.datasets.files import random_points
from dmd3c_ros.datasets.lines import line_labels
from dmd3c_ros.datasets.sample import Sample
from training.augmentation import jittered, resized_depth

PLACES = ('random', 'centre', 'bottom')


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a sample, in this order. 0 leaves a step out."""

    flip: float = 0.5
    """Probability to mirror left to right."""
    rotate_deg: float = 0.0
    """Turn about the centre by up to this, either way; corners without content stay unknown."""
    scale_min: float = 1.0
    scale_max: float = 1.0
    """Resize by a factor within these bounds; depth stays, the intrinsics follow."""
    scale_depth: bool = False
    """An enlarged scene is a nearer one instead: depth is divided by the factor and the focal
    length stays, as a network that is not told the intrinsics must see it."""
    crop_height: int = 0
    crop_width: int = 0
    """Window, pixels; a smaller image is an error."""
    crop_top_min: int = 0
    """The window starts at this row or below, pixels: above it KITTI has no ground truth."""
    crop_place: str = 'random'
    """'random', 'centre', or 'bottom': the lowest rows, at a random column."""
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    """Each is multiplied by a factor within 1 -+ this."""
    pca: float = 0.0
    """Spread of AlexNet's noise along the image's principal colours; 0.1 in BP-Net."""
    points: int = 0
    """Draw the input anew: so many random points of the ground truth."""
    lines: int = 64
    """Lines of the sensor, for the next setting."""
    drop_lines: float = 0.0
    """Largest fraction of the lines to remove; the fraction itself is drawn."""
    drop_points: float = 0.0
    """Largest fraction of the points to remove; the fraction itself is drawn."""

    def __post_init__(self) -> None:
        for name in ('flip', 'drop_lines', 'drop_points', 'brightness', 'contrast', 'saturation'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name}: expected 0..1, got {getattr(self, name)}')
        if (self.crop_height > 0) != (self.crop_width > 0):
            raise ValueError(
                f'crop: expected height and width, got {self.crop_height}, {self.crop_width}'
            )
        if self.crop_place not in PLACES:
            raise ValueError(f'crop_place: expected one of {PLACES}, got {self.crop_place!r}')
        if not 0 < self.scale_min <= self.scale_max:
            raise ValueError(
                f'scale: expected 0 < minimum <= maximum, got {self.scale_min}, {self.scale_max}'
            )
        if not 0 <= self.rotate_deg <= 45:
            raise ValueError(f'rotate_deg: expected 0..45, got {self.rotate_deg}')
        for name in ('crop_height', 'crop_width', 'crop_top_min', 'points', 'pca'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name}: expected at least 0, got {getattr(self, name)}')


def augment(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """A random variant of a sample; the sample itself stays as it is.

    Raises:
        ValueError: the sample is smaller than the window, or has no ground truth to draw from.
    """
    if rng.random() < config.flip:
        sample = sample.flipped()
    if config.rotate_deg:
        sample = rotated(sample, rng.uniform(-config.rotate_deg, config.rotate_deg))
    if (config.scale_min, config.scale_max) != (1, 1):
        factor = rng.uniform(config.scale_min, config.scale_max)
        sample = scaled(sample, factor, nearer=config.scale_depth)
    if config.crop_height:
        sample = _cropped(sample, config, rng)
    jitter = config.brightness, config.contrast, config.saturation, config.pca
    sample = replace(sample, rgb=jittered(sample.rgb, *jitter, rng))
    sparse = sample.sparse
    if config.points:
        if sample.truth is None:
            raise ValueError(f'{sample.name}: expected ground truth to draw points from')
        sparse = random_points(sample.truth, config.points, rng)
    if config.drop_lines:
        sparse = _without_lines(sparse, sample.K, config, rng)
    if config.drop_points:
        fraction = config.drop_points * rng.random()
        sparse = np.where(rng.random(sparse.shape) < fraction, np.float32(0), sparse)
    return replace(sample, sparse=sparse)


def rotated(sample: Sample, degrees: float) -> Sample:
    """A sample turned counter-clockwise about the image's centre, as by a roll of the camera.

    Depth along the optical axis does not change by a roll. The principal point turns with the
    pixels; that the centre is not it, and fx not fy, is neglected. What comes from outside is
    black and unknown.
    """
    rows, columns = sample.size
    M = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), degrees, 1.0)

    def turn(image: np.ndarray, interpolation: int, outside: float) -> np.ndarray:
        return cv2.warpAffine(
            image, M, (columns, rows), flags=interpolation, borderValue=[outside] * 3
        )

    images = _each(
        sample,
        rgb=lambda image: turn(image, cv2.INTER_LINEAR, 0),
        depth=lambda image: turn(image, cv2.INTER_NEAREST, 0),
        disparity=lambda image: turn(image, cv2.INTER_NEAREST, np.nan),
    )
    K = np.array(sample.K, np.float64)
    K[:2, 2] = M @ [K[0, 2], K[1, 2], 1]
    return replace(sample, K=K, **images)


def scaled(sample: Sample, factor: float, nearer: bool = False) -> Sample:
    """A sample resized by a factor; a pixel keeps its depth, the intrinsics follow.

    nearer: depth is divided by the factor instead, and the focal length stays.
    """
    rows, columns = sample.size
    size = round(columns * factor), round(rows * factor)
    distance = factor if nearer else 1.0
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR

    images = _each(
        sample,
        rgb=lambda image: cv2.resize(image, size, interpolation=smooth),
        depth=lambda image: resized_depth(image, size) / np.float32(distance),
        disparity=lambda image: resized_depth(image, size),
    )
    camera = Camera.from_K(sample.K, columns, rows).scaled(*size)
    K = camera.K
    K = np.array([[K[0, 0] / distance, 0, K[0, 2]], [0, K[1, 1] / distance, K[1, 2]], [0, 0, 1]])
    return replace(sample, K=K, **images)


def _each(
    sample: Sample,
    rgb: Callable[[np.ndarray], np.ndarray],
    depth: Callable[[np.ndarray], np.ndarray],
    disparity: Callable[[np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
    """Every image of a sample, changed by what suits its kind."""
    kinds = {'rgb': rgb, 'disparity': disparity}
    return {name: kinds.get(name, depth)(image) for name, image in sample.images().items()}


def _cropped(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    rows, columns = sample.size
    lowest, rightmost = rows - config.crop_height, columns - config.crop_width
    if lowest < 0 or rightmost < 0:
        raise ValueError(
            f'{sample.name}: expected at least {config.crop_width}x{config.crop_height} for the '
            f'window, got {columns}x{rows}'
        )
    if config.crop_place == 'centre':
        top, left = lowest // 2, rightmost // 2
    else:
        highest = lowest if config.crop_place == 'bottom' else config.crop_top_min
        top = int(rng.integers(min(highest, lowest), lowest + 1))
        left = int(rng.integers(0, rightmost + 1))
    return sample.cropped(left, top, config.crop_width, config.crop_height)


def _without_lines(
    sparse: np.ndarray, K: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    labels = line_labels(sparse, K, config.lines)
    fraction = config.drop_lines * rng.random()
    # Elevations from the lowest to the highest are rounded to lines 0 ... lines.
    dropped = rng.random(config.lines + 1) < fraction
    return np.where((labels >= 0) & ~dropped[labels], sparse, np.float32(0))

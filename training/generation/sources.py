"""Unlabelled images: the five sources of the paper's Table 1 by their own layouts, any folder,
and the simulation, whose images come with exact depth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.io.images import read_rgb

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
MIN_SIDE = 64  # pixels; smaller images are icons or damaged
MAX_SIDE = 2560  # pixels; larger ones are shrunk as they are read: no teacher looks that closely


@dataclass(frozen=True, eq=False)
class SourceImage:
    """name: where it comes from. rgb: (H, W, 3) uint8. A simulated one also has its exact depth
    (H, W) float32, m, 0 = sky, and its intrinsics K (3, 3)."""

    name: str
    rgb: np.ndarray
    depth: np.ndarray | None = None
    K: np.ndarray | None = None


class Prediction(NamedTuple):
    """A teacher's prediction for an image.

    values: (h, w) float32 at the teacher's own resolution, NaN where unknown. metric:
    whether they are depth in m (0 = none); relative inverse depth, larger when nearer, otherwise.
    """

    values: np.ndarray
    metric: bool


class BadImageError(ValueError):
    """An image that cannot be used; the message says why."""


class Source(ABC):
    """Images by number, in an order that never changes."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Where an image comes from, without reading it."""

    @abstractmethod
    def read(self, index: int) -> SourceImage:
        """Read an image. Raises BadImageError."""


class Files(Source):
    """Image files below a folder.

    Args:
        root: folder.
        patterns: globs below it; other files are ignored.
        label: what the files are called in names and errors.

    Raises:
        FileNotFoundError: no folder, or no image in it; says where images were expected.
    """

    def __init__(self, root: str | Path, patterns: Sequence[str], label: str) -> None:
        self._root, self._label = Path(root), label
        if not self._root.is_dir():
            raise FileNotFoundError(f'{label}: no folder {root}')
        found = {
            path.relative_to(self._root).as_posix()
            for pattern in patterns
            for path in self._root.glob(pattern)
            if path.suffix.lower() in _SUFFIXES
        }
        if not found:
            raise FileNotFoundError(
                f'{label}: expected images as {" or ".join(patterns)} in {root}, found none'
            )
        self._files = sorted(found)

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        return f'{self._label}/{self._files[index]}'

    def read(self, index: int) -> SourceImage:
        path = self._root / self._files[index]
        try:
            rgb = read_rgb(path)
        except (OSError, ValueError, cv2.error) as error:
            raise BadImageError(str(error)) from error
        height, width = rgb.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise BadImageError(
                f'{path}: expected at least {MIN_SIDE} pixels a side, got {width}x{height}'
            )
        if max(height, width) > MAX_SIDE:
            scale = MAX_SIDE / max(height, width)
            size = round(width * scale), round(height * scale)
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        return SourceImage(self.name(index), rgb)


class Simulated(Source):
    """Images of the simulation with exact depth, each of its own scene and camera."""

    def __init__(self, kind: str, count: int, seed: int, width: int, height: int) -> None:
        from dmd3c_ros.simulation import KINDS

        if kind not in KINDS:
            raise ValueError(f'simulation: expected one of {", ".join(KINDS)}, got {kind!r}')
        if count < 1:
            raise ValueError(f'simulation: expected a count of at least 1, got {count}')
        self._kind, self._count, self._seed = kind, count, seed
        self._size = width, height

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f'simulation/{self._kind}/{self._seed}/{index:06d}'

    def read(self, index: int) -> SourceImage:
        from dmd3c_ros.simulation import build, camera_mount, render

        rng = np.random.default_rng([self._seed, index])
        scene = build(self._kind, int(rng.integers(2**31)))
        width, height = self._size
        focal = width * rng.uniform(0.45, 0.9)
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        mount = camera_mount(rng.uniform(1.2, 1.9), rng.normal(0, 0.03))
        scene = scene.at(rng.uniform(0, 4))
        pose = scene.ground_pose(scene.time_s) @ mount
        view = render(scene, pose, Camera.from_K(K, width, height), threads=1)
        return SourceImage(self.name(index), view.rgb, view.depth, K)


@dataclass(frozen=True)
class SourceConfig:
    """One source of images.

    name: coco, google_landmarks, nuscenes, cityscapes, davis, folder or simulation.
    root: folder of the data set as unpacked. split: where the data set has several; empty for the
        one that has the number of images in Table 1.
    limit: use at most so many images, spread over the source; 0 for all.
    kind, count, seed, width, height: of the simulation (street or indoor).
    """

    name: str
    root: str = ''
    split: str = ''
    limit: int = 0
    kind: str = 'street'
    count: int = 100
    seed: int = 0
    width: int = 1216
    height: int = 352

    def __post_init__(self) -> None:
        if self.name not in (*_LAYOUTS, 'simulation'):
            raise ValueError(
                f'source: expected one of {", ".join((*_LAYOUTS, "simulation"))}, '
                f'got {self.name!r}'
            )


@dataclass(frozen=True)
class _Layout:
    """Globs of a data set, with {split} filled in, and the split of Table 1."""

    patterns: tuple[str, ...]
    split: str = ''


_LAYOUTS = {
    # 118,287 images.
    'coco': _Layout(('{split}/*.jpg',), 'train2017'),
    # 117,577 images; folders are named after the first three digits of the image's number.
    'google_landmarks': _Layout(('{split}/?/?/?/*.jpg',), 'test'),
    # Key frames of all cameras. nuImages, with about as many images as Table 1 says, looks alike.
    'nuscenes': _Layout(('{split}/CAM_*/*.jpg',), 'samples'),
    # 19,998 images with coarse labels.
    'cityscapes': _Layout(('leftImg8bit/{split}/*/*_leftImg8bit.png',), 'train_extra'),
    # Every frame of every sequence.
    'davis': _Layout(('JPEGImages/{split}/*/*.jpg', 'DAVIS/JPEGImages/{split}/*/*.jpg'), '480p'),
    'folder': _Layout(('**/*',)),
}


class _Thinned(Source):
    """Evenly spread images of another source."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._picked = np.linspace(0, len(source), limit, endpoint=False).astype(int)

    def __len__(self) -> int:
        return len(self._picked)

    def name(self, index: int) -> str:
        return self._source.name(self._picked[index])

    def read(self, index: int) -> SourceImage:
        return self._source.read(self._picked[index])


class Mixture(Source):
    """Several sources in one random order, so that every shard holds some of each."""

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self._sources = list(sources)
        pairs = [(s, i) for s, source in enumerate(self._sources) for i in range(len(source))]
        order = np.random.default_rng(seed).permutation(len(pairs))
        self._pairs = np.array(pairs, np.int64).reshape(-1, 2)[order]

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, index: int) -> str:
        source, number = self._pairs[index]
        return self._sources[source].name(int(number))

    def read(self, index: int) -> SourceImage:
        source, number = self._pairs[index]
        return self._sources[source].read(int(number))


def open_source(config: SourceConfig) -> Source:
    """The source that a configuration names.

    Raises FileNotFoundError for a folder that is missing or laid out otherwise.
    """
    if config.name == 'simulation':
        return Simulated(config.kind, config.count, config.seed, config.width, config.height)
    layout = _LAYOUTS[config.name]
    patterns = [p.format(split=config.split or layout.split) for p in layout.patterns]
    source = Files(config.root, patterns, config.name)
    return _Thinned(source, config.limit) if 0 < config.limit < len(source) else source

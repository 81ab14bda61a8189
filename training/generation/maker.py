"""The steps of generation, each a pure function of the configuration and the sample's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from training.generation.shards import StoredSample, encode_sample
from training.generation.simulate import SimulationConfig, View, draw_view, scan_view, sparse_depth
from training.generation.sources import (
    BadImageError,
    Mixture,
    Prediction,
    SourceConfig,
    SourceImage,
    open_source,
)
from training.generation.teacher import Teacher, TeacherConfig

LIDAR_TIMES = ('generation', 'load')
BACKENDS = ('processes', 'ray')
SAMPLES_VERSION = 2
"""Raised whenever the same settings make other samples, so that a folder never holds two kinds.

1, or none noted: the image was resized, then the window cut. 2: the window is cut first.
"""
_LEAST_KNOWN = 0.02  # share of pixels with depth below which a sample teaches nothing


@dataclass(frozen=True)
class GenerateConfig:
    """One set of shards.

    out: folder. seed: of every random draw. sources: where images come from.
    lidar: 'generation' stores the sparse depth of one sensor in each sample; 'load' leaves it to
        training, which then draws another sensor each time it reads the sample.
    shard_size: images per shard. jpeg_quality: 0..100.
    batch: images per task, which the teacher sees together. workers: processes (or Ray tasks at
        a time); 1 works in this process, 0 takes all CPUs.
    backend: 'processes', or 'ray' with the cluster at ray_address (empty: a local one) and so many
        teachers, each on teacher_gpus GPUs.
    """

    out: str
    seed: int = 0
    sources: tuple[SourceConfig, ...] = ()
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    lidar: str = 'generation'
    shard_size: int = 1000
    jpeg_quality: int = 95
    batch: int = 4
    workers: int = 0
    backend: str = 'processes'
    ray_address: str = ''
    teachers: int = 1
    teacher_gpus: float = 0.0

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError('sources: expected at least one source of images')
        if self.lidar not in LIDAR_TIMES:
            raise ValueError(f'lidar: expected one of {LIDAR_TIMES}, got {self.lidar!r}')
        if self.backend not in BACKENDS:
            raise ValueError(f'backend: expected one of {BACKENDS}, got {self.backend!r}')
        if min(self.shard_size, self.batch, self.teachers) < 1 or self.workers < 0:
            raise ValueError(
                'shard_size, batch, teachers: expected at least 1; workers: 0 or more'
            )

    def content(self) -> dict:
        """What decides about the samples: all but where and how fast they are made."""
        content = asdict(self)
        for name in ('out', 'workers', 'backend', 'ray_address', 'teachers'):
            del content[name]
        del content['teacher_gpus'], content['teacher']['device'], content['teacher']['cache']
        if not self.teacher.assistant:
            # Shards made before there was such a thing are the same.
            for name in ('assistant', 'assistant_size', 'assistant_share'):
                del content['teacher'][name]
        return content


class Batch(NamedTuple):
    """Numbers of the images that the teacher sees together, and of the samples still wanted."""

    together: tuple[int, ...]
    wanted: tuple[int, ...]


class Rejected(NamedTuple):
    """An image that gives no sample, and why."""

    reason: str


class Maker:
    """The steps of one sample apart from the teacher; a pure function of seed and number."""

    def __init__(self, config: GenerateConfig) -> None:
        self.config = config
        self.source = Mixture([open_source(s) for s in config.sources], config.seed)

    def read(self, index: int) -> SourceImage | Rejected:
        """The image of that number."""
        try:
            return self.source.read(index)
        except BadImageError as error:
            return Rejected(str(error))

    def view(self, index: int, image: SourceImage, prediction: Prediction) -> View | Rejected:
        """Crop, depth and camera of an image."""
        rng = np.random.default_rng([self.config.seed, index, 0])
        view = draw_view(image, prediction, self.config.simulation, rng)
        if (view.depth > 0).mean() < _LEAST_KNOWN:
            return Rejected('expected some depth, got only sky')
        return view

    def sample(
        self, index: int, image: SourceImage, prediction: Prediction
    ) -> StoredSample | Rejected:
        """The whole sample."""
        view = self.view(index, image, prediction)
        if isinstance(view, Rejected):
            return view
        meta: dict[str, object] = {'source': image.name}
        sparse = None
        if self.config.lidar == 'generation':
            rng = np.random.default_rng([self.config.seed, index, 1])
            try:
                sweep = scan_view(view, self.config.simulation, rng)
            except ValueError as error:
                return Rejected(str(error))
            sparse = sparse_depth(sweep, view.camera)
            meta |= {'sensor': sweep.pattern, 'lines': sweep.lines}
        return StoredSample(view.rgb, view.depth, sparse, view.camera.K, meta)


_MAKERS: dict[str, Maker] = {}


def _maker(config: GenerateConfig) -> Maker:
    """The maker of this process, which lists the images of its sources only once."""
    key = repr(config)
    if key not in _MAKERS:
        cv2.setNumThreads(1)
        _MAKERS.clear()
        _MAKERS[key] = Maker(config)
    return _MAKERS[key]


def read_images(config: GenerateConfig, batch: Batch) -> list[SourceImage | Rejected]:
    """First step, in a worker."""
    maker = _maker(config)
    return [maker.read(index) for index in batch.together]


def make_samples(
    config: GenerateConfig,
    batch: Batch,
    images: Sequence[SourceImage | Rejected],
    predictions: Sequence[Prediction | None],
) -> list[dict[str, bytes] | Rejected]:
    """Last step, in a worker: encoded samples."""
    maker = _maker(config)
    made: list[dict[str, bytes] | Rejected] = []
    for index, image, prediction in zip(batch.together, images, predictions, strict=True):
        if index not in batch.wanted:
            continue
        result = image
        if not isinstance(image, Rejected):
            result = maker.sample(index, image, prediction)
        if isinstance(result, StoredSample):
            result = encode_sample(result, config.jpeg_quality)
        made.append(result)
    return made


_KEPT: dict[tuple[int, ...], list[SourceImage | Rejected]] = {}


def read_and_keep(config: GenerateConfig, batch: Batch) -> list[SourceImage | Rejected]:
    """First step, in the worker that makes the last one too."""
    _KEPT[batch.together] = read_images(config, batch)
    return _KEPT[batch.together]


def make_kept(
    config: GenerateConfig, batch: Batch, predictions: Sequence[Prediction | None]
) -> list[dict[str, bytes] | Rejected]:
    """Last step, of the images that this worker has kept."""
    return make_samples(config, batch, _KEPT.pop(batch.together), predictions)


def teach(teacher: Teacher, images: Sequence[SourceImage | Rejected]) -> list[Prediction | None]:
    """Middle step, beside the teacher: its depth of the images that were read."""
    good = [image for image in images if isinstance(image, SourceImage)]
    predictions = iter(teacher.predict(good) if good else [])
    return [next(predictions) if isinstance(p, SourceImage) else None for p in images]

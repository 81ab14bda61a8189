"""Training samples by number, from shards, simulated scenes or data sets.

A sample is drawn from the run's seed and its number alone (frame, crop, sensor, colours), so that
a run that is resumed, or has another number of processes, sees the same samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.networks import Convention
from dmd3c_ros.datasets import DepthDataset, Sample, open_dataset
from training.augmentation import network_inputs
from training.data.augment import AugmentConfig, augment
from training.generation.shards import ShardReader, StoredSample
from training.generation.simulate import SimulationConfig, View, scan_view, sparse_depth
from training.scenes.frames import load_frame
from training.scenes.sampling import SamplingConfig, draw_sample

_UNLIMITED = 2**40
_CYCLE = 1000


class Samples(Dataset, ABC):
    """Training samples: (number) -> tensors.

    image (3, H, W), normalized by the network's convention; sparse and depth (1, H, W), m, 0 =
    unknown; K (3, 3), pixels; where there is such a thing, disparity (1, H, W) of the teacher
    (NaN = unknown) and sweep (1, H, W), m: all points of a LiDAR of which sparse holds a part.
    """

    def __len__(self) -> int:
        return _UNLIMITED

    @abstractmethod
    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Sample of that number; numbers never end."""

    @property
    @abstractmethod
    def held_out(self) -> Dataset:
        """Samples for validation: few, whole, not augmented."""

    @property
    def stored(self) -> Dataset:
        """Everything that a run may read, one by one as it is stored, to see whether it reads."""
        return self.held_out


def tensors(sample: Sample, convention: Convention) -> dict[str, Tensor]:
    """A sample as tensors; see Samples."""
    image, sparse = network_inputs(sample.rgb.astype(np.float32) / 255, sample.sparse, convention)
    result = {
        'image': image,
        'sparse': sparse,
        'K': torch.from_numpy(np.asarray(sample.K, np.float32)),
    }
    truth = np.zeros_like(sample.sparse) if sample.truth is None else sample.truth
    maps = {'depth': truth, 'disparity': sample.disparity}
    for name, values in maps.items():
        if values is not None:
            result[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
    return result


class Shuffle:
    """Endless order of ``count`` items: a new permutation for each time through them."""

    def __init__(self, seed: int, count: int) -> None:
        self._seed, self._count = seed, count
        # A worker may hold samples of the end of one time and the beginning of the next.
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, 7, epoch]).permutation(self._count)

    def __call__(self, number: int) -> int:
        epoch, place = divmod(number, self._count)
        return int(self._order(epoch)[place])

    def __reduce__(self) -> tuple:
        return Shuffle, (self._seed, self._count)


@dataclass(frozen=True)
class ShardsConfig:
    """Shards of ``python -m training.generate``.

    root: their folder. held_out: samples kept for validation. simulation: draws the sensor of
    samples that were stored without one.
    """

    root: str
    held_out: int = 200
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)


class ShardSamples(Samples):
    """Samples of shards; the first ones are held out."""

    def __init__(self, config: ShardsConfig, seed: int, convention: Convention) -> None:
        self._reader = ShardReader(config.root)
        self._config, self._seed, self._convention = config, seed, convention
        _check_held_out(config.root, config.held_out, len(self._reader))
        self._shuffle = Shuffle(seed, len(self._reader) - config.held_out)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._seed, number])
        sample = self._sample(self._config.held_out + self._shuffle(number), rng)
        return tensors(augment(sample, self._config.augment, rng), self._convention)

    @property
    def held_out(self) -> Dataset:
        return _HeldOut(
            lambda i: self._sample(i, np.random.default_rng(i)),
            self._config.held_out,
            self._convention,
        )

    @property
    def stored(self) -> Dataset:
        return _ByIndex(self._reader.__getitem__, len(self._reader))

    def _sample(self, index: int, rng: np.random.Generator) -> Sample:
        stored = self._reader[index]
        sparse = self._scanned(stored, rng) if stored.sparse is None else stored.sparse
        name = str(stored.meta.get('source', index))
        return Sample(name=name, K=stored.K, rgb=stored.rgb, sparse=sparse, truth=stored.depth)

    def _scanned(self, stored: StoredSample, rng: np.random.Generator) -> np.ndarray:
        height, width = stored.depth.shape
        view = View(stored.rgb, stored.depth, Camera.from_K(stored.K, width, height))
        return sparse_depth(scan_view(view, self._config.simulation, rng), view.camera)


@dataclass(frozen=True)
class ScenesConfig:
    """Frames of ``python -m training.scenes``: simulated drives with their own LiDAR's sweeps.

    root: their folder. held_out: frames kept for validation.
    """

    root: str
    held_out: int = 48
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


class SceneSamples(Samples):
    """Samples of simulated frames; the first frames are held out."""

    def __init__(self, config: ScenesConfig, seed: int, convention: Convention) -> None:
        self._files = sorted(Path(config.root).glob('*.npz'))
        if not self._files:
            raise FileNotFoundError(
                f'{config.root}: expected frames (*.npz); make them with python -m training.scenes'
            )
        _check_held_out(config.root, config.held_out, len(self._files))
        self._config, self._seed, self._convention = config, seed, convention

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self._seed, number))
        files = self._files[self._config.held_out :]
        file = files[rng.integers(len(files))]
        return draw_sample(file, rng, self._config.sampling, self._convention)

    @property
    def held_out(self) -> Dataset:
        sampling = self._config.sampling.for_validation()
        files = self._files[: self._config.held_out]
        return _ByIndex(
            lambda i: draw_sample(files[i], np.random.default_rng(i), sampling, self._convention),
            len(files),
        )

    @property
    def stored(self) -> Dataset:
        return _ByIndex(lambda index: load_frame(self._files[index]), len(self._files))


@dataclass(frozen=True)
class DatasetConfig:
    """A labelled data set by its name in ``dmd3c_ros.datasets``.

    root: its folder. disparity: also read the monocular depth next to the images.
    validation_name, validation_root: the set that decides which weights are the best ones, empty
        for the same root. validation_limit: number of its frames to use, evenly spread; 0 for all.
    """

    name: str
    root: str
    disparity: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validation_name: str = 'kitti-selection'
    validation_root: str = ''
    validation_limit: int = 0


class DatasetSamples(Samples):
    """Samples of a labelled data set."""

    def __init__(self, config: DatasetConfig, seed: int, convention: Convention) -> None:
        options = {'disparity': True} if config.disparity else {}
        self._frames: DepthDataset = open_dataset(config.name, config.root, **options)
        root = config.validation_root or config.root
        self._validation = open_dataset(config.validation_name, root)
        self._config, self._seed, self._convention = config, seed, convention
        self._shuffle = Shuffle(seed, len(self._frames))

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._seed, number])
        sample = self._frames[self._shuffle(number)]
        return tensors(augment(sample, self._config.augment, rng), self._convention)

    @property
    def held_out(self) -> Dataset:
        total = len(self._validation)
        count = min(self._config.validation_limit or total, total)
        picked = np.linspace(0, total, count, endpoint=False).astype(int)
        return _HeldOut(lambda i: self._validation[int(picked[i])], count, self._convention)

    @property
    def stored(self) -> Dataset:
        first = len(self._frames)

        def get(index: int) -> Sample:
            if index < first:
                return self._frames[index]
            return self._validation[index - first]

        return _ByIndex(get, first + len(self._validation))


class _ByIndex(Dataset):
    """A function of an index as a data set; built in each process, never pickled."""

    def __init__(self, get: object, count: int) -> None:
        self._get, self._count = get, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._get(index)


class _HeldOut(_ByIndex):
    """Whole samples as tensors."""

    def __init__(self, get: object, count: int, convention: Convention) -> None:
        super().__init__(lambda index: tensors(get(index), convention), count)


class MixedSamples(Samples):
    """Samples of several sources, each with its share of any long run of numbers.

    Each source goes through its own frames as if it were alone. The first one validates.
    """

    def __init__(self, parts: Sequence[Samples], shares: Sequence[float], seed: int) -> None:
        self._parts, self._seed = list(parts), seed
        # Of 1000 samples that follow each other; what rounding leaves over is the last one's.
        edges = np.rint(np.cumsum(shares) / np.sum(shares) * _CYCLE).astype(int)
        self._counts = np.diff(edges, prepend=0)
        if self._counts.min() < 1:
            raise ValueError(
                f'mixed: expected a share of at least 1 in {_CYCLE} of each, got {list(shares)}'
            )
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """Source of each place of a cycle, and the number of its sample that comes there."""
        rng = np.random.default_rng([self._seed, 11, cycle])
        source = rng.permutation(np.repeat(np.arange(len(self._parts)), self._counts))
        rank = np.zeros(_CYCLE, int)
        for part, count in enumerate(self._counts):
            rank[source == part] = cycle * count + np.arange(count)
        return source, rank

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        cycle, place = divmod(number, _CYCLE)
        source, rank = self._order(cycle)
        return self._parts[source[place]][int(rank[place])]

    def __reduce__(self) -> tuple:
        return MixedSamples, (self._parts, self._counts, self._seed)

    @property
    def held_out(self) -> Dataset:
        return self._parts[0].held_out

    @property
    def stored(self) -> Dataset:
        return ConcatDataset([part.stored for part in self._parts])


class _Completed(Samples):
    """A source among others: what these have and it lacks is unknown in its samples."""

    def __init__(self, samples: Samples, names: frozenset[str]) -> None:
        self._samples, self._names = samples, names

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        sample = self._samples[number]
        if 'disparity' in self._names:
            sample.setdefault('disparity', torch.full_like(sample['depth'], float('nan')))
        if 'sweep' in self._names:
            sample.setdefault('sweep', sample['sparse'])
        return sample

    @property
    def held_out(self) -> Dataset:
        return self._samples.held_out

    @property
    def stored(self) -> Dataset:
        return self._samples.stored


@dataclass(frozen=True)
class DataConfig:
    """Source of the samples: exactly one of the first three, or several in ``mixed``.

    share: among others in ``mixed``, how many of the samples come from here. All of these have
    windows of one size. The first one validates.
    """

    shards: ShardsConfig | None = None
    scenes: ScenesConfig | None = None
    dataset: DatasetConfig | None = None
    mixed: tuple[DataConfig, ...] = ()
    share: float = 1.0

    def __post_init__(self) -> None:
        given = [c for c in (self.shards, self.scenes, self.dataset, self.mixed) if c]
        if len(given) != 1:
            raise ValueError(
                f'data: expected one of shards, scenes, dataset, mixed; got {len(given)}'
            )
        if not self.share > 0:
            raise ValueError(f'share: expected above 0, got {self.share}')
        if any(part.mixed for part in self.mixed):
            raise ValueError('mixed: expected sources, got a mixture among them')
        sizes = {part.window for part in self.mixed}
        if len(sizes) > 1:
            shown = ', '.join(f'{width}x{height}' for height, width in sorted(sizes))
            raise ValueError(f'mixed: expected windows of one size, got {shown}')

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the samples, pixels; 0, 0 where those of the source stay."""
        if self.scenes is not None:
            sampling = self.scenes.sampling
            return sampling.height // 32 * 32, sampling.width // 32 * 32
        if self.mixed:
            return self.mixed[0].window
        augment = (self.shards or self.dataset).augment
        return augment.crop_height, augment.crop_width

    def open(self, seed: int, convention: Convention) -> Samples:
        """Raises FileNotFoundError where the data are not."""
        if self.mixed:
            names = frozenset(name for part in self.mixed for name in part.extras)
            parts = [_Completed(part.open(seed, convention), names) for part in self.mixed]
            return MixedSamples(parts, [part.share for part in self.mixed], seed)
        if self.shards is not None:
            return ShardSamples(self.shards, seed, convention)
        if self.scenes is not None:
            return SceneSamples(self.scenes, seed, convention)
        return DatasetSamples(self.dataset, seed, convention)

    @property
    def extras(self) -> tuple[str, ...]:
        """What its samples hold beyond what all of them do."""
        if self.scenes is not None:
            return ('sweep',)
        return ('disparity',) if self.dataset is not None and self.dataset.disparity else ()


def _check_held_out(root: str, held_out: int, total: int) -> None:
    if not 0 < held_out < total:
        raise ValueError(
            f'{root}: expected at least one sample to hold out and one to train on, got '
            f'{held_out} of {total} held out'
        )

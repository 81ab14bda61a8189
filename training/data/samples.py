"""Training samples by number, from whatever they come: shards, simulated scenes, data sets.

A sample is drawn from the run's seed and its number alone (frame, crop, sensor, colours), so that
a run that goes on after a kill, or on another number of processes, sees the same samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.networks import Convention
from dmd3c_ros.datasets import DepthDataset, Sample, open_dataset
from training.data.augment import AugmentConfig, augment
from training.generation.shards import ShardReader, StoredSample
from training.generation.simulate import SimulationConfig, View, scan_view, sparse_depth
from training.scenes.frames import load_frame
from training.scenes.sampling import SamplingConfig, draw_sample

_UNLIMITED = 2**40


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
    image = sample.rgb.astype(np.float32).transpose(2, 0, 1) / 255
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (convention.mean, convention.std))
    result = {
        'image': torch.from_numpy((image - mean) / std),
        'K': torch.from_numpy(np.asarray(sample.K, np.float32)),
    }
    truth = np.zeros_like(sample.sparse) if sample.truth is None else sample.truth
    maps = {'sparse': sample.sparse, 'depth': truth, 'disparity': sample.disparity}
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

    root: its folder. disparity: also read the monocular depth beside the images.
    validation_name, validation_root: the set that decides which weights are the best ones, empty
        for the same root. validation_limit: use so many of its frames, evenly spread; 0 for all.
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
    """A function of an index as a data set; built anew in each process, never pickled."""

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


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from: exactly one of the three."""

    shards: ShardsConfig | None = None
    scenes: ScenesConfig | None = None
    dataset: DatasetConfig | None = None

    def __post_init__(self) -> None:
        given = [c for c in (self.shards, self.scenes, self.dataset) if c is not None]
        if len(given) != 1:
            raise ValueError(f'data: expected one of shards, scenes, dataset; got {len(given)}')

    def open(self, seed: int, convention: Convention) -> Samples:
        """Raises FileNotFoundError where the data are not."""
        if self.shards is not None:
            return ShardSamples(self.shards, seed, convention)
        if self.scenes is not None:
            return SceneSamples(self.scenes, seed, convention)
        return DatasetSamples(self.dataset, seed, convention)


def _check_held_out(root: str, held_out: int, total: int) -> None:
    if not 0 < held_out < total:
        raise ValueError(
            f'{root}: expected at least one sample to hold out and one to train on, got '
            f'{held_out} of {total} held out'
        )

"""Samples of monocular distillation by number, drawn from the run's seed and the number alone."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dmd3c_ros.core.networks import Convention
from training.data.samples import Samples, Shuffle
from training.generation.sources import SourceImage

from .crops import Part, cut, open_images, read_any, recoloured
from .labels import Labelled, LabelShards, inverse_depth, repeated_part, windows
from .settings import EXACT, MonoConfig


class MonoSamples(Samples):
    """Training samples: (number) -> tensors.

    image (3, h, w), normalized by the student's convention, its colours changed; teacher (), the
    number of the teacher that this sample is of; K (3, 3), pixels. Where a teacher's words are at
    hand: label (1, h, w), relative inverse depth, NaN = unknown, and, for local-global
    distillation, patches, a list of (1, h', w'), one a window. Else plain (3, h, w) and large
    (3, H, W), the image in 0..1 for networks that teach while training. depth (1, h, w), m,
    0 = sky: exact, where it is known and only for validation.
    """

    def __init__(self, config: MonoConfig, convention: Convention) -> None:
        self._config, self._convention = config, convention
        data = config.data
        self._labels = LabelShards(data.labels) if data.labels else None
        if self._labels is None:
            self._source = open_images(data.sources, data.scenes, config.seed)
        else:
            _check_labels(config, self._labels)
        self._windows = windows(data.crop, config)
        self._count = len(self._labels if self._labels is not None else self._source)
        if data.held_out >= self._count:
            raise ValueError(
                f'held_out: expected less than the {self._count} images, got {data.held_out}'
            )
        parts = 1 if self._labels is not None else max(data.crop.repeated, 1)
        self._parts = parts
        self._shuffle = Shuffle(config.seed, (self._count - data.held_out) * parts)
        chances = np.array([teacher.probability for teacher in config.teachers])
        self._chances = chances / chances.sum()

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._config.seed, number])
        teacher = int(rng.choice(len(self._chances), p=self._chances))
        place = self._shuffle(number) + self._config.data.held_out * self._parts
        return self._tensors(self._look(place, rng), teacher, rng)

    @property
    def held_out(self) -> Dataset:
        """The first images, each one part, in their own colours, of the primary teacher."""
        return _HeldOut(self, self._config.data.held_out)

    def validation_sample(self, index: int) -> dict[str, Tensor]:
        """Sample of an image that is held out."""
        rng = np.random.default_rng([self._config.seed, 5, index])
        labelled = self._look(index * self._parts, rng)
        sample = self._tensors(labelled, 0, None)
        if labelled.part.depth is not None:
            sample['depth'] = torch.from_numpy(labelled.part.depth)[None]
        return sample

    def _look(self, place: int, rng: np.random.Generator) -> Labelled:
        """Part ``place`` of all, with whatever is known of it."""
        if self._labels is not None:
            return self._labels[place]
        image = read_any(self._source, place // self._parts)
        part = self._part(image, place, rng)
        known = []
        if self._config.teachers[0].model == EXACT:
            if part.depth is None:
                raise ValueError(
                    f'{image.name}: expected an image with exact depth for the teacher '
                    f'{EXACT!r}; other images need a network that teaches'
                )
            known = [inverse_depth(part.depth)] * len(self._config.teachers)
        return Labelled(part, known, [[] for _ in known])

    def _part(self, image: SourceImage, place: int, rng: np.random.Generator) -> Part:
        if self._config.data.crop.repeated:
            return repeated_part(image, self._config, place)
        return cut(image, self._config.data.crop, rng)

    def _tensors(
        self, labelled: Labelled, teacher: int, rng: np.random.Generator | None
    ) -> dict[str, Tensor]:
        """rng: draws the student's colours; without one they stay."""
        part, maps, patches = labelled
        strength = self._config.data.crop.colour if rng is not None else 0.0
        image = recoloured(part.rgb, strength, rng)
        mean, std = (np.float32(v) for v in (self._convention.mean, self._convention.std))
        sample = {
            'image': _channels((image - mean) / std),
            'teacher': torch.tensor(teacher),
            'K': torch.from_numpy(part.K.astype(np.float32)),
        }
        if maps:
            height, width = part.rgb.shape[:2]
            label = _enlarged(maps[teacher], (width, height))
            sample['label'] = torch.from_numpy(label)[None]
            if patches[teacher] and self._config.loss.local_global:
                sample['patches'] = [
                    torch.from_numpy(_enlarged(patch, (window.width, window.height)))[None]
                    for patch, window in zip(patches[teacher], self._windows, strict=True)
                ]
        else:
            sample['plain'] = _channels(part.rgb.astype(np.float32) / 255)
            sample['large'] = _channels(part.large.astype(np.float32) / 255)
        return sample


def _check_labels(config: MonoConfig, labels: LabelShards) -> None:
    """Raise ValueError for labels of other parts, teachers or windows than a run asks for."""
    asked = {'crop': config.content()['data']['crop'], 'teachers': len(config.teachers)}
    held = {'crop': labels.claim['data']['crop'], 'teachers': len(labels.claim['teachers'])}
    if config.loss.local_global:
        c = config.loss
        asked['patches'] = [c.patch_rows, c.patch_columns, c.patch_overlap]
        held['patches'] = labels.claim['patches']
    for name, wanted in asked.items():
        if held[name] != wanted:
            raise ValueError(
                f'{config.data.labels}: expected labels of {name} {wanted}, got {held[name]}'
            )


class _HeldOut(Dataset):
    def __init__(self, samples: MonoSamples, count: int) -> None:
        self._samples, self._count = samples, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._samples.validation_sample(index)


def _channels(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Relative inverse depth at a size (width, height); unknown pixels stay so."""
    if values.shape[::-1] == size:
        return values
    known = np.isfinite(values)
    filled = cv2.resize(np.where(known, values, 0).astype(np.float32), size)
    near = cv2.resize(known.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.where(near > 0, filled, np.nan).astype(np.float32)

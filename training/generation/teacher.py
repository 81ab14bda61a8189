"""Monocular teachers: f_mo of Eq. 3 of DMD3C, from an image to dense relative or metric depth."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dmd3c_ros.io.atomic import write_bytes
from training.generation.sources import Prediction, SourceImage

if TYPE_CHECKING:  # torch takes seconds to import, which workers without a model need not spend
    from torch import Tensor, nn

log = logging.getLogger(__name__)

_LEVELS = 65534  # of the 16-bit codes; 0 stands for unknown


class Teacher(ABC):
    """From images to depth. ``identity`` names the weights and settings, for the cache."""

    identity: str

    @abstractmethod
    def predict(self, images: Sequence[SourceImage]) -> list[Prediction]:
        """Depth of a batch of images of any sizes."""


class ExactTeacher(Teacher):
    """Passes on the depth of simulated images."""

    identity = 'exact'

    def predict(self, images: Sequence[SourceImage]) -> list[Prediction]:
        """Raises ValueError for an image without depth of its own."""
        for image in images:
            if image.depth is None:
                raise ValueError(
                    f'{image.name}: expected a simulated image, got one without exact depth; '
                    'images need a teacher model'
                )
        return [Prediction(image.depth, True) for image in images]


@dataclass(frozen=True)
class TeacherConfig:
    """Which teacher, and how it processes an image.

    model: 'exact', or a local folder or hub name of a depth estimation model of transformers
        (depth-anything/Depth-Anything-V2-Small-hf, -Base-hf, -Large-hf and their Metric-Indoor
        and Metric-Outdoor variants; Distill Any Depth, Intel/dpt-large and the like work too), or
        a file of a monocular network: a student of ``training.mono``, or the authors' own of Depth
        Anything V2.
    assistant: a second model, in the same terms, which teaches assistant_share of the images in
        place of the first, as in Distill Any Depth; empty for none. assistant_size: its size, 0
        for that of the first.
    size: shorter side of the image for the model, pixels.
    mean, std: of the colours (0..1) that the model expects; empty for those of ImageNet.
    device: 'auto', 'cpu', 'cuda' or 'cuda:N'. half: float16 on a GPU.
    cache: folder of finished depth, empty for none.
    """

    model: str = 'depth-anything/Depth-Anything-V2-Large-hf'
    size: int = 518
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    device: str = 'auto'
    half: bool = True
    cache: str = ''
    assistant: str = ''
    assistant_size: int = 0
    assistant_share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.assistant_share <= 1:
            raise ValueError(f'assistant_share: expected 0 to 1, got {self.assistant_share}')
        if self.size < 14:
            raise ValueError(f'size: expected at least 14 pixels, got {self.size}')
        if not {len(self.mean), len(self.std)} <= {0, 3} or min(self.std, default=1) <= 0:
            raise ValueError(
                f'mean, std: expected three values, std above 0, got {self.mean}, {self.std}'
            )


class ModelTeacher(Teacher):
    """A network with its input convention and device."""

    metric = False

    def __init__(self, config: TeacherConfig, model: nn.Module, patch: int) -> None:
        import torch

        from dmd3c_ros.core.networks import Convention

        self._mean = np.float32(config.mean or Convention.mean)
        self._std = np.float32(config.std or Convention.std)
        device = config.device
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self._device = torch.device(device)
        self._config, self._patch = config, patch
        self.identity = _digest(model, config)
        self._dtype = torch.float32
        if config.half and self._device.type == 'cuda':
            self._dtype = torch.float16
        self._model = model.to(self._device, self._dtype).eval()
        log.info(
            'teacher %s on %s, %s', config.model, device, 'metric' if self.metric else 'relative'
        )

    @abstractmethod
    def _say(self, batch: Tensor) -> Tensor:
        """Prediction (B, h, w) of the model for normalized images (B, 3, h, w)."""

    def predict(self, images: Sequence[SourceImage]) -> list[Prediction]:
        """Images that come to the same size go through the model together."""
        import torch

        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        inputs = [self._prepare(image.rgb) for image in images]
        for index, image in enumerate(inputs):
            groups[tuple(image.shape)].append(index)
        values: dict[int, np.ndarray] = {}
        for indices in groups.values():
            batch = torch.from_numpy(np.stack([inputs[i] for i in indices])).to(
                self._device, self._dtype
            )
            with torch.inference_mode():
                depth = self._say(batch).float().cpu().numpy()
            values.update(zip(indices, depth, strict=True))
        return [Prediction(values[i], self.metric) for i in range(len(images))]

    def _prepare(self, rgb: np.ndarray) -> np.ndarray:
        """(3, h, w) normalized, both sides multiples of the model's patch, the shape kept."""
        height, width = rgb.shape[:2]
        scale = self._config.size / min(height, width)
        size = [max(round(n * scale / self._patch), 1) * self._patch for n in (width, height)]
        interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        image = cv2.resize(rgb, size, interpolation=interpolation).astype(np.float32) / 255
        image = (image - self._mean) / self._std
        return image.transpose(2, 0, 1)


class HubTeacher(ModelTeacher):
    """A depth estimation model of transformers, Depth Anything V2 (NeurIPS 2024) by default.

    Raises OSError (of transformers) where the model is neither a folder nor on the hub.
    """

    def __init__(self, config: TeacherConfig) -> None:
        import torch
        from transformers import AutoModelForDepthEstimation

        model = AutoModelForDepthEstimation.from_pretrained(config.model, dtype=torch.float32)
        # Absent in models that are always relative, such as MiDaS.
        self.metric = getattr(model.config, 'depth_estimation_type', 'relative') == 'metric'
        super().__init__(config, model, _patch_size(model.config))

    def _say(self, batch: Tensor) -> Tensor:
        return self._model(pixel_values=batch).predicted_depth


class FileTeacher(ModelTeacher):
    """A monocular network from a file. Raises as ``dmd3c_ros.core.weights.mono.load``.

    A student's inverse depth has any shift: the farthest pixel of an image counts as infinitely
    far, as in images with sky.
    """

    def __init__(self, config: TeacherConfig) -> None:
        from dmd3c_ros.core.weights.mono import load

        model = load(config.model)
        super().__init__(config, model, model.convention.size_multiple)

    def _say(self, batch: Tensor) -> Tensor:
        disparity = self._model(batch).disparity[:, 0]
        if self._model.zero_is_far:
            return disparity
        return disparity - disparity.amin((1, 2), keepdim=True)


class TwoTeachers(Teacher):
    """Either of two teachers for each image, drawn by the image's content alone.

    share: of the second one.
    """

    def __init__(self, first: Teacher, second: Teacher, share: float) -> None:
        self._teachers, self._share = (first, second), share
        parts = (first.identity, second.identity, repr(share))
        self.identity = hashlib.sha256('/'.join(parts).encode()).hexdigest()

    def predict(self, images: Sequence[SourceImage]) -> list[Prediction]:
        """Each teacher sees its own images together."""
        chosen = [self._draws_second(image) for image in images]
        made: dict[int, Prediction] = {}
        for number, teacher in enumerate(self._teachers):
            own = [i for i, second in enumerate(chosen) if second == number]
            if own:
                found = teacher.predict([images[i] for i in own])
                made.update(zip(own, found, strict=True))
        return [made[i] for i in range(len(images))]

    def _draws_second(self, image: SourceImage) -> bool:
        digest = hashlib.sha256(np.ascontiguousarray(image.rgb)).digest()
        return int.from_bytes(digest[:8], 'big') < self._share * 2**64


def _patch_size(config: object) -> int:
    for part in (getattr(config, 'backbone_config', None), config):
        patch = getattr(part, 'patch_size', None)
        if isinstance(patch, int):
            return patch
    return 32


def _digest(model: nn.Module, config: TeacherConfig) -> str:
    """Name of the weights and of all settings that change the prediction."""
    digest = hashlib.sha256(repr((config.size, config.mean, config.std)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


class CachedTeacher(Teacher):
    """Caches predictions on disk, by the content of the image and the teacher's identity.

    16 bit between the smallest and the largest value of each image: the error is at most
    1 / 131068 of that range. Files are written whole or not at all, so that several processes may
    share a folder; an unreadable one is generated again.
    """

    def __init__(self, teacher: Teacher, folder: str | Path) -> None:
        self._teacher, self._folder = teacher, Path(folder)
        self.identity = teacher.identity

    def predict(self, images: Sequence[SourceImage]) -> list[Prediction]:
        """As the teacher, which is asked only about images that are new."""
        paths = [self._path(image) for image in images]
        found = {i: p for i, path in enumerate(paths) if (p := _load(path)) is not None}
        new = [i for i in range(len(images)) if i not in found]
        if new:
            made = self._teacher.predict([images[i] for i in new])
            for i, prediction in zip(new, made, strict=True):
                write_bytes(paths[i], _encode(prediction))
                # Decoded again: a sample must not depend on whether its depth was cached.
                found[i] = _decode(_encode(prediction))
        return [found[i] for i in range(len(images))]

    def _path(self, image: SourceImage) -> Path:
        digest = hashlib.sha256(self.identity.encode())
        digest.update(repr(image.rgb.shape).encode())
        digest.update(np.ascontiguousarray(image.rgb))
        key = digest.hexdigest()
        return self._folder / key[:2] / f'{key}.npz'


def _encode(prediction: Prediction) -> bytes:
    known = np.isfinite(prediction.values)
    low = prediction.values.min(initial=np.inf, where=known) if known.any() else 0.0
    high = prediction.values.max(initial=-np.inf, where=known) if known.any() else 0.0
    step = (float(high) - float(low)) / _LEVELS or 1.0
    code = np.where(known, np.rint((np.where(known, prediction.values, low) - low) / step) + 1, 0)
    png = cv2.imencode('.png', code.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    file = io.BytesIO()
    np.savez(file, png=png, low=float(low), step=step, metric=prediction.metric)
    return file.getvalue()


def _decode(data: bytes) -> Prediction:
    with np.load(io.BytesIO(data)) as content:
        code = cv2.imdecode(content['png'], cv2.IMREAD_UNCHANGED)
        low, step, metric = (content[name].item() for name in ('low', 'step', 'metric'))
    if code is None:
        raise ValueError('expected a PNG inside')
    values = np.where(code > 0, low + (code - 1.0) * step, np.nan)
    return Prediction(values.astype(np.float32), metric)


def _load(path: Path) -> Prediction | None:
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning('%s: not readable, generated again (%s)', path, error)
        return None


def open_teacher(config: TeacherConfig) -> Teacher:
    """The teacher, or the two, that a configuration names, with their cache."""
    first = _open_one(config)
    if not config.assistant:
        return first
    size = config.assistant_size or config.size
    second = _open_one(replace(config, model=config.assistant, size=size))
    return TwoTeachers(first, second, config.assistant_share)


def _open_one(config: TeacherConfig) -> Teacher:
    if config.model == 'exact':
        return ExactTeacher()
    teacher = FileTeacher(config) if Path(config.model).is_file() else HubTeacher(config)
    return CachedTeacher(teacher, config.cache) if config.cache else teacher

"""Write the monocular depth that stage 2 compares with: ``python -m training.disparity``.

Every training image of a data set gets a 16-bit grey PNG in the folder ``disp`` next to it, where
``dmd3c_ros.datasets`` looks for it: relative inverse depth, linear in the teacher's output, 0 at
the farthest pixel of the image and 65535 at the nearest. Existing files are kept, so that an
interrupted run can be resumed; ``parts`` and ``part`` divide the work among machines.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import cv2
import numpy as np
from rich.progress import track

from dmd3c_ros.datasets import DepthDataset, open_dataset
from dmd3c_ros.io.images import encode
from training.command_line import run_command
from training.generation.backends import in_order
from training.generation.sources import Prediction, SourceImage
from training.generation.teacher import Teacher, TeacherConfig, open_teacher

log = logging.getLogger(__name__)

_NEAREST = 65535
_UNDER_WAY = 3  # batches: one is read, one is before the teacher, one is written
_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class DisparityConfig:
    """Which images, and which teacher.

    dataset, root: a data set of ``dmd3c_ros.datasets`` that holds monocular depth, and its folder.
    teacher: the network that looks at them. batch: images that it sees together. parts, part: of
    so many machines this one has that number, from 0 on.
    """

    root: str
    dataset: str = 'kitti-train'
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    batch: int = 8
    parts: int = 1
    part: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.part < self.parts:
            raise ValueError(
                'expected batch of at least 1 and part from 0 to parts - 1, got '
                f'{self.batch}, {self.part} of {self.parts}'
            )


def write_disparities(config: DisparityConfig) -> int:
    """Write the missing files; returns their number.

    Raises:
        FileNotFoundError: the data set does not exist.
        ValueError: the data set has no monocular depth; or images could not be read, which are
            listed after all others have been written.
    """
    dataset = open_dataset(config.dataset, config.root)
    if not hasattr(dataset, 'disparity_file'):
        raise ValueError(f'{config.dataset}: expected a data set that holds monocular depth')
    mine = range(config.part, len(dataset), config.parts)
    todo = [index for index in mine if not dataset.disparity_file(index).exists()]
    log.info('%d of %d images already have monocular depth', len(mine) - len(todo), len(mine))
    batches = [todo[i : i + config.batch] for i in range(0, len(todo), config.batch)]
    teacher, lock, unreadable = open_teacher(config.teacher), Lock(), []

    def work(indices: Sequence[int]) -> int:
        images = _read(dataset, indices, unreadable)
        with lock:
            predictions = _predict(teacher, images)
        for index, prediction in zip(images, predictions, strict=True):
            height, width = images[index].shape[:2]
            encode(dataset.disparity_file(index), disparity(prediction, width, height))
        return len(images)

    written = sum(track(in_order(work, batches, _UNDER_WAY), 'batches', total=len(batches)))
    if unreadable:
        raise ValueError(
            f'{len(unreadable)} images could not be read, {written} were written: '
            + '; '.join(unreadable[:_NAMED_AT_MOST])
        )
    log.info('%d files written', written)
    return written


def _read(
    dataset: DepthDataset, indices: Sequence[int], unreadable: list[str]
) -> dict[int, np.ndarray]:
    images = {}
    for index in indices:
        try:
            images[index] = dataset.image(index)
        except (OSError, ValueError) as error:
            log.warning('skipped: %s', error)
            unreadable.append(str(error))
    return images


def _predict(teacher: Teacher, images: dict[int, np.ndarray]) -> list[Prediction]:
    asked = [SourceImage(str(index), rgb) for index, rgb in images.items()]
    return teacher.predict(asked) if asked else []


def disparity(prediction: Prediction, width: int, height: int) -> np.ndarray:
    """Codes (height, width) uint16 of a prediction: 0 for its farthest pixel, 65535 its nearest.

    Depth of a metric teacher is inverted first; where it has none, and where a teacher knows
    nothing, a pixel is as far as can be.
    """
    values = np.asarray(prediction.values, np.float32)
    if prediction.metric:
        values = np.where(values > 0, 1 / np.maximum(values, 1e-3), np.float32(0))
    known = np.isfinite(values)
    farthest = values.min(initial=np.inf, where=known)
    values = np.where(known, values, farthest if known.any() else np.float32(0))
    values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.zeros((height, width), np.uint16)
    return np.rint((values - low) / (high - low) * _NEAREST).astype(np.uint16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_command('disparity', DisparityConfig, write_disparities, arguments, __doc__)


if __name__ == '__main__':
    main()

"""One frame of a depth completion data set, and what a data set is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

import numpy as np

from dmd3c_ros.core.camera import Camera

_IMAGE = {'image': True}


@dataclass(frozen=True, eq=False)
class Sample:
    """A frame. Images share one size; depth is in m along the optical axis, 0 = unknown.

    Operations on pixels go through every field marked as an image, so that none is forgotten.
    """

    name: str
    K: np.ndarray
    """(3, 3) float64 intrinsics, pixels; integer coordinates are pixel centres."""
    rgb: np.ndarray = field(metadata=_IMAGE)
    """(H, W, 3) uint8."""
    sparse: np.ndarray = field(metadata=_IMAGE)
    """(H, W) float32, the input."""
    truth: np.ndarray | None = field(default=None, metadata=_IMAGE)
    """(H, W) float32, the ground truth; None where there is none."""
    disparity: np.ndarray | None = field(default=None, metadata=_IMAGE)
    """(H, W) float32 relative inverse depth of a monocular network, 0 (far) to 1 (near), NaN =
    unknown; None where there is none."""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(
                f'{self.name}: rgb: expected (H, W, 3) uint8, got {self.rgb.shape} '
                f'{self.rgb.dtype}'
            )
        for name, image in self.images().items():
            if image.shape[:2] != self.rgb.shape[:2]:
                raise ValueError(
                    f'{self.name}: {name}: expected {self.rgb.shape[:2]} as the image, '
                    f'got {image.shape[:2]}'
                )
        if np.shape(self.K) != (3, 3):
            raise ValueError(f'{self.name}: K: expected (3, 3), got {np.shape(self.K)}')

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def images(self) -> dict[str, np.ndarray]:
        """The images that this sample has, by field name."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.metadata.get('image') and getattr(self, f.name) is not None
        }

    def cropped(self, left: int, top: int, width: int, height: int) -> Sample:
        """The window with this upper left pixel and size.

        Raises ValueError: the window is empty or reaches outside.
        """
        rows, columns = self.size
        inside = left >= 0 and top >= 0 and left + width <= columns and top + height <= rows
        if not inside or width < 1 or height < 1:
            raise ValueError(
                f'{self.name}: expected a window inside {columns}x{rows}, got {width}x{height} '
                f'at ({left}, {top})'
            )
        window = np.s_[top : top + height, left : left + width]
        cut = {name: np.ascontiguousarray(image[window]) for name, image in self.images().items()}
        camera = Camera.from_K(self.K, columns, rows).crop(left, top, width, height)
        return replace(self, K=camera.K, **cut)

    def flipped(self) -> Sample:
        """Mirrored left to right; the principal point moves with the pixels."""
        mirrored = {
            name: np.ascontiguousarray(image[:, ::-1]) for name, image in self.images().items()
        }
        rows, columns = self.size
        return replace(self, K=Camera.from_K(self.K, columns, rows).flipped().K, **mirrored)


class DepthDataset(ABC):
    """Frames by index, read on access; works directly with torch's DataLoader.

    A frame that cannot be read raises FileNotFoundError or ValueError naming the file.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read one frame."""

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

"""Recorded and simulated drives alike: what camera and LiDAR saw, and where it was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points
from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices

RINGS = ('all', 'even', 'odd')
# For a drive with one frame, which has no rate: KITTI's.
_SINGLE_FRAME_PERIOD_NS = 100_000_000


class DriveFrame(NamedTuple):
    """One instant of a drive.

    stamp_ns, points_stamp_ns: of the image and of the sweep. rgb (H, W, 3) uint8; points (N, 3 or
    4) float32, m, LiDAR frame, a fourth column its reflectance. depth: exact, (H, W) float32, m,
    0 = none; T_world_camera (4, 4): exact pose of the rectified camera, m; None where not known.
    """

    stamp_ns: int
    points_stamp_ns: int
    rgb: np.ndarray
    points: np.ndarray
    camera: Camera
    T_camera_lidar: np.ndarray
    depth: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None

    def sparse(self) -> np.ndarray:
        """Depth (H, W) float32, m, 0 = unknown, of the points that fall into the image."""
        return project_points(self.points, self.T_camera_lidar, self.camera)


class Drive(ABC):
    """A finite sequence of frames of one rig, in order or by index."""

    camera: Camera
    T_camera_lidar: np.ndarray
    period_ns: int
    """Time between frames."""
    has_depth = False
    """Whether frames carry exact depth."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words, for reports."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def stamp_ns(self, index: int) -> int:
        """Stamp of a frame's image, without reading the frame."""

    @abstractmethod
    def __getitem__(self, index: int) -> DriveFrame: ...

    def __iter__(self) -> Iterator[DriveFrame]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class SimulatedDrive(Drive):
    """A simulated drive with exact depth and poses; rendered frame by frame when iterated, or as a
    whole if a frame is requested by its index.

    scene: 'street' or 'indoor'. seed: random seed of everything. lidar: scan pattern.
    frames: length. rate_hz: frames per second. width, height: of the image, pixels.
    field_of_view_deg: horizontal field of view. start_ns: stamp of the first frame.
    """

    scene: str = 'street'
    seed: int = 7
    lidar: str = 'hdl64e'
    frames: int = 40
    rate_hz: float = 10.0
    width: int = 1216
    height: int = 352
    field_of_view_deg: float = 80.0
    start_ns: int = 0
    has_depth = True

    @property
    def title(self) -> str:
        """Scene, seed and LiDAR."""
        return f'simulated {self.scene}, seed {self.seed}, {self.lidar}'

    def __len__(self) -> int:
        return self.frames

    @property
    def period_ns(self) -> int:
        """Time between frames."""
        return round(1e9 / self.rate_hz)

    @cached_property
    def camera(self) -> Camera:
        """A pinhole of that size and field of view."""
        from dmd3c_ros.simulation import pinhole

        return pinhole(self.width, self.height, self.field_of_view_deg)

    @cached_property
    def T_camera_lidar(self) -> np.ndarray:
        """The LiDAR sits above the camera."""
        from dmd3c_ros.simulation import lidar_mount

        return lidar_mount()

    def stamp_ns(self, index: int) -> int:
        """Time of a frame; image and sweep share it."""
        return self.start_ns + index * self.period_ns

    def __getitem__(self, index: int) -> DriveFrame:
        return self._frames[index]

    def render(self) -> SimulatedDrive:
        """Render all frames now, not when the first one is requested."""
        len(self._frames)
        return self

    @cached_property
    def _frames(self) -> list[DriveFrame]:
        return list(self)

    def __iter__(self) -> Iterator[DriveFrame]:
        from dmd3c_ros.simulation import PATTERNS, Rig, drive

        if self.lidar not in PATTERNS:
            raise ValueError(f'lidar: expected one of {", ".join(PATTERNS)}; got {self.lidar!r}')
        rig = Rig(self.camera, self.T_camera_lidar, PATTERNS[self.lidar])
        frames = drive(self.seed, self.frames, rig, self.scene, self.rate_hz)
        for index, frame in enumerate(frames):
            yield DriveFrame(
                self.stamp_ns(index),
                self.stamp_ns(index),
                frame.rgb,
                frame.points,
                frame.camera,
                frame.T_camera_lidar,
                frame.depth,
                frame.T_world_lidar @ np.linalg.inv(frame.T_camera_lidar),
            )


class RecordedDrive(Drive):
    """A KITTI raw drive, read frame by frame; its poses are not known.

    frames: how many to read at most. camera: its folder. rings: laser rings of each sweep to
    keep, of RINGS. names: of the frames. Raises FileNotFoundError and ValueError naming the file.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int | None = None,
        camera: str = 'image_02',
        rings: str = 'all',
    ) -> None:
        self._drive, self._rings = KittiDrive(path, camera), rings
        self.names = self._drive.names[:frames]
        self.camera, self.T_camera_lidar = self._drive.camera, self._drive.T_camera_lidar
        gaps = np.diff([self.stamp_ns(index) for index in range(len(self))])
        self.period_ns = int(np.median(gaps)) if len(gaps) else _SINGLE_FRAME_PERIOD_NS

    @property
    def title(self) -> str:
        """Data set and folder."""
        return f'KITTI {self._drive.path.resolve().name}'

    def __len__(self) -> int:
        return len(self.names)

    def stamp_ns(self, index: int) -> int:
        """Time of the image."""
        return self._drive.stamp_ns(index)

    def __getitem__(self, index: int) -> DriveFrame:
        frame = self._drive[index]
        points = frame.points
        if self._rings != 'all':
            points = points[ring_indices(points) % 2 == (self._rings == 'odd')]
        return DriveFrame(
            frame.stamp_ns,
            frame.points_stamp_ns,
            frame.rgb,
            points,
            self.camera,
            self.T_camera_lidar,
        )

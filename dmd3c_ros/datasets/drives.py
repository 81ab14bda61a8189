"""Recorded and simulated drives alike: what camera and LiDAR saw, and where it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points
from dmd3c_ros.core.transforms import transform
from dmd3c_ros.io.kitti_raw import KittiDrive


class RigFrame(NamedTuple):
    """One instant of a drive.

    rgb (H, W, 3) uint8; points (N, 3) float32, m, LiDAR frame; T_world_camera (4, 4): exact pose
    of the rectified camera, m, where it is known.
    """

    stamp_ns: int
    rgb: np.ndarray
    points: np.ndarray
    camera: Camera
    T_camera_lidar: np.ndarray
    T_world_camera: np.ndarray | None = None

    def sparse(self) -> np.ndarray:
        """Depth (H, W) float32, m, 0 = unknown, of the points that fall into the image."""
        return project_points(self.points, self.T_camera_lidar, self.camera)


@dataclass(frozen=True)
class SimulatedDrive:
    """A simulated drive, exact poses included; rendered frame by frame.

    scene: 'street' or 'indoor'. seed: number that everything follows from. lidar: scan pattern.
    frames: length. rate_hz: frames a second. width, height: of the image, pixels.
    field_of_view_deg: of the image from left to right.
    """

    scene: str = 'street'
    seed: int = 7
    lidar: str = 'hdl64e'
    frames: int = 40
    rate_hz: float = 10.0
    width: int = 1216
    height: int = 352
    field_of_view_deg: float = 80.0

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[RigFrame]:
        from dmd3c_ros.simulation import PATTERNS, Rig, drive, lidar_mount, pinhole

        if self.lidar not in PATTERNS:
            raise ValueError(f'lidar: expected one of {", ".join(PATTERNS)}; got {self.lidar!r}')
        camera = pinhole(self.width, self.height, self.field_of_view_deg)
        rig = Rig(camera, lidar_mount(), PATTERNS[self.lidar])
        for frame in drive(self.seed, self.frames, rig, self.scene, self.rate_hz):
            yield RigFrame(
                round(frame.stamp_s * 1e9),
                frame.rgb,
                frame.points,
                frame.camera,
                frame.T_camera_lidar,
                frame.T_world_lidar @ np.linalg.inv(frame.T_camera_lidar),
            )


class RecordedDrive:
    """A KITTI raw drive, read frame by frame; its poses are not known.

    frames: how many to read at most. Raises FileNotFoundError and ValueError naming the file.
    """

    def __init__(self, path: str | Path, frames: int | None = None) -> None:
        self._drive = KittiDrive(path)
        self._length = len(self._drive) if frames is None else min(frames, len(self._drive))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[RigFrame]:
        return (drive_frame(self._drive, index) for index in range(len(self)))


def drive_frame(drive: KittiDrive, index: int) -> RigFrame:
    """One frame of a KITTI raw drive."""
    frame = drive[index]
    points = frame.points[:, :3]
    return RigFrame(frame.stamp_ns, frame.rgb, points, drive.camera, drive.T_camera_lidar)


def rectified_from_lidar(camera: Camera, T_camera_lidar: np.ndarray) -> np.ndarray:
    """T_rectified_lidar (4, 4): from the LiDAR's frame to the frame in which depth is measured.

    Camera's P = K [I | t] places the rectified camera at -t in the frame that R turns into.
    """
    return transform(camera.R, np.linalg.solve(camera.K, camera.P[:, 3])) @ T_camera_lidar

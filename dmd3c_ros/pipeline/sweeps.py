"""Sweeps brought to where the camera sees them when it takes the image, on a rig that moves.

The node and the commands on bags share it; messages are taken by their fields.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dmd3c_ros.core.deskew import deskew, move
from dmd3c_ros.core.transform_buffer import TransformBuffer, TransformError
from dmd3c_ros.messages.clouds import cloud_to_points, points_and_validity
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.point_times import point_times
from dmd3c_ros.messages.stamps import stamp_ns_of

from .settings import MotionSettings

# Older sweeps do not count, even where no newer ones came meanwhile, s.
_OLDEST_S = 10.0


class _Aligned(NamedTuple):
    """points (N, 3) float32, m, all where the LiDAR sees them at the sweep's stamp, and its pose
    then: T_fixed_lidar (4, 4)."""

    points: np.ndarray
    T_fixed_lidar: np.ndarray


@dataclass
class _Remembered:
    """A sweep that may be needed again: the message until it is aligned."""

    stamp_ns: int
    cloud: Any
    aligned: _Aligned | None = None


class SweepAligner:
    """Transforms the points of a sweep to the camera, according to `MotionSettings`.

    transforms: None if T_camera_lidar is given without fixed_frame. Stamps of clouds are
    in the camera's clock (see `shift_stamp`). `remember` may be called by another thread.
    """

    def __init__(self, settings: MotionSettings, transforms: TransformBuffer | None) -> None:
        if settings.fixed_frame and transforms is None:
            raise ValueError('fixed_frame: expected a source of transforms, got none')
        self._settings, self._transforms = settings, transforms
        self._lock = threading.Lock()
        self._recent: list[_Remembered] = []

    def remember(self, cloud: Any, kept: int) -> None:
        """Store an arriving sweep for accumulation.

        kept: sweeps that may arrive before the requested one.
        """
        if self._settings.accumulate_sweeps == 1:
            return
        with self._lock:
            self._recent.append(_Remembered(stamp_ns_of(cloud), cloud))
            del self._recent[: -(self._settings.accumulate_sweeps + kept)]

    def locate(
        self, cloud: Any, camera_frame: str, image_ns: int, T_camera_lidar: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3) float32, m, and the transform (4, 4) to the camera's optical frame.

        T_camera_lidar: the extrinsics, None to look it up too. Raises TransformError while a
        transform is missing, MessageError for a cloud that cannot be used.
        """
        until_s = time.monotonic() + self._settings.transform_timeout
        if self._settings.fixed_frame:
            return self._locate_moving(cloud, camera_frame, image_ns, T_camera_lidar, until_s)
        points = cloud_to_points(cloud)
        if T_camera_lidar is None:
            if self._transforms is None:
                raise MessageError(
                    'extrinsics: T_camera_lidar was cleared at run time; reconfigure '
                    'the node to look them up in TF'
                )
            frames = camera_frame, cloud.header.frame_id
            T_camera_lidar = self._transforms.wait_for(
                lambda: self._transforms.lookup(*frames, stamp_ns_of(cloud)), until_s
            )
        return points, T_camera_lidar

    def _locate_moving(
        self,
        cloud: Any,
        camera_frame: str,
        image_ns: int,
        T_camera_lidar: np.ndarray | None,
        until_s: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        fixed, lidar_frame = self._settings.fixed_frame, cloud.header.frame_id
        known = camera_frame if T_camera_lidar is None else lidar_frame
        T_camera_fixed = self._transforms.wait_for(
            lambda: self._transforms.lookup(known, fixed, image_ns), until_s
        )
        if T_camera_lidar is not None:
            T_camera_fixed = T_camera_lidar @ T_camera_fixed
        now, *earlier = self._sweeps(cloud, until_s)
        if not earlier:
            return now.points, T_camera_fixed @ now.T_fixed_lidar
        moved = [move(s.points, T_camera_fixed @ s.T_fixed_lidar) for s in (now, *earlier)]
        return np.concatenate(moved), np.eye(4)

    def _sweeps(self, cloud: Any, until_s: float) -> list[_Aligned]:
        """This sweep and those accumulated with it; of these, those that can be used."""
        stamp_ns = stamp_ns_of(cloud)
        with self._lock:
            recent = list(self._recent)
        own = next((r for r in recent if r.stamp_ns == stamp_ns), None)
        now = self._align(cloud, until_s)
        if own is not None:
            own.aligned, own.cloud = now, None
        oldest_ns = stamp_ns - round(_OLDEST_S * 1e9)
        before = sorted(
            (r for r in recent if oldest_ns < r.stamp_ns < stamp_ns), key=lambda r: r.stamp_ns
        )
        sweeps = [now]
        for one in before[::-1][: self._settings.accumulate_sweeps - 1]:
            try:
                if one.aligned is None:
                    one.aligned, one.cloud = self._align(one.cloud, until_s=0.0), None
            except (TransformError, MessageError):
                # Its own frame was skipped with the reason.
                continue
            sweeps.append(one.aligned)
        return sweeps

    def _align(self, cloud: Any, until_s: float) -> _Aligned:
        points, valid = points_and_validity(cloud)
        if not valid.all():
            points = points[valid]
        stamp_ns, frame = stamp_ns_of(cloud), cloud.header.frame_id
        fixed, find = self._settings.fixed_frame, self._transforms
        times = self._times(cloud, valid, stamp_ns)

        def poses(seconds: np.ndarray) -> np.ndarray:
            at_ns = stamp_ns + np.rint(seconds * 1e9).astype(np.int64)
            return find.wait_for(
                lambda: find.lookup_full(frame, stamp_ns, frame, at_ns, fixed), until_s
            )

        if times is not None:
            points = deskew(points, times, poses)
        T_fixed_lidar = find.wait_for(lambda: find.lookup(fixed, frame, stamp_ns), until_s)
        return _Aligned(points, T_fixed_lidar)

    def _times(self, cloud: Any, valid: np.ndarray, stamp_ns: int) -> np.ndarray | None:
        settings = self._settings
        if not settings.deskew:
            return None
        own_ns = stamp_ns - settings.lidar_offset_ns
        return point_times(
            cloud, valid, own_ns, settings.point_time_field, settings.point_time_unit
        )

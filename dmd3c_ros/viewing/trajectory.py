"""Trajectory of a bag's camera, by LiDAR odometry on the sweeps paired with its images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dmd3c_ros.bags.completion import output_names
from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.records import BagError
from dmd3c_ros.bags.selection import find_inputs
from dmd3c_ros.bags.transforms import read_transforms
from dmd3c_ros.core.transform_buffer import TransformError
from dmd3c_ros.datasets.drives import DriveFrame
from dmd3c_ros.messages.clouds import cloud_to_points
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.pipeline.outputs import OUTPUTS
from dmd3c_ros.pipeline.settings import NodeSettings
from dmd3c_ros.slam.reference import Reference

from .frames import ViewFrame

_log = logging.getLogger(__name__)


def with_trajectory(frames: Iterable[ViewFrame], path: Path) -> Iterator[ViewFrame]:
    """The frames of a bag with their poses; as they are where the bag has no sweeps or extrinsics,
    or kiss-icp is not installed, which the log says.
    """
    with Bag(path) as bag:
        finder: _Poses | None = None
        lost = False
        for frame in frames:
            try:
                finder = finder or (None if lost else _Poses(bag))
                pose = None if finder is None else finder.pose(frame)
            except (BagError, MessageError, TransformError, ImportError) as error:
                _log.warning('no trajectory: %s', error)
                finder, lost, pose = None, True, None
            yield frame._replace(T_world_camera=pose)


class _Poses:
    """Poses of frames that come in their order. Raises BagError where an input is missing."""

    def __init__(self, bag: Bag) -> None:
        inputs = find_inputs(bag, leave=output_names('', tuple(OUTPUTS)).values())
        self._bag, self._transforms = bag, read_transforms(bag)
        self._camera_frame = bag.first(inputs.image).header.frame_id
        self._sweeps = bag.records([inputs.points])
        self._near = [next(self._sweeps, None)]
        self._slop_ns = NodeSettings().sync_slop * 1e9
        self._reference, self._used = Reference(), -1

    def pose(self, frame: ViewFrame) -> np.ndarray | None:
        """T_first_camera (4, 4); the last one if no sweep is paired with the image."""
        cloud = self._sweep(frame.stamp_ns)
        if cloud is not None:
            extrinsics = self._transforms.lookup(
                self._camera_frame, cloud.header.frame_id, frame.stamp_ns
            )
            points = cloud_to_points(cloud)
            self._reference.add(
                DriveFrame(
                    frame.stamp_ns, frame.stamp_ns, frame.rgb, points, frame.camera, extrinsics
                )
            )
        return self._reference.poses[-1] if self._reference.poses else None

    def _sweep(self, stamp: int) -> Any:
        """The cloud stamped nearest, within the slop, if it was not taken before."""
        while self._near[-1] is not None and self._near[-1].stamp_ns < stamp:
            self._near = [self._near[-1], next(self._sweeps, None)]
        known = [record for record in self._near if record is not None]
        if not known:
            return None
        best = min(known, key=lambda record: abs(record.stamp_ns - stamp))
        found = best.stamp_ns
        if found == self._used or abs(found - stamp) > self._slop_ns:
            return None
        self._used = found
        return self._bag.decode(best)

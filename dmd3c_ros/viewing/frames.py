"""What there is to see of a drive, a bag or the results of a run, frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmd3c_ros.bags.frames import FrameSource
from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.rgbd import DEPTH_TOPIC, RecordedFrames, confidence_name
from dmd3c_ros.bags.selection import IMAGE
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.datasets.drives import DriveFrame, RecordedDrive
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.messages.images import depth_from_image
from dmd3c_ros.pipeline.arrays import complete_points
from dmd3c_ros.slam.reference import Reference

_log = logging.getLogger(__name__)
# For depth images whose times are not known.
_PERIOD_NS = 100_000_000


class ViewFrame(NamedTuple):
    """One instant; None for unknown parts.

    rgb (H, W, 3) uint8; sparse and dense (H, W) float32, m, 0 = unknown; confidence (H, W)
    float32, 0 to 1; T_world_camera (4, 4), m.
    """

    stamp_ns: int
    rgb: np.ndarray | None = None
    sparse: np.ndarray | None = None
    dense: np.ndarray | None = None
    confidence: np.ndarray | None = None
    camera: Camera | None = None
    T_world_camera: np.ndarray | None = None


def of_drive(frames: Iterable[DriveFrame], completer: DepthCompleter) -> Iterator[ViewFrame]:
    """Frames of a drive, completed; with the simulator's poses, else KISS-ICP's if installed."""
    reference: Reference | None = Reference()
    for frame in frames:
        sparse, completion = complete_points(
            completer, frame.rgb, frame.points, frame.T_camera_lidar, frame.camera
        )
        pose = None
        if reference is not None:
            try:
                pose = reference.add(frame)
            except ImportError as error:
                _log.warning('no trajectory: %s', error)
                reference = None
        yield ViewFrame(frame.stamp_ns, frame.rgb, sparse, *completion, frame.camera, pose)


def of_source(source: FrameSource) -> Iterator[ViewFrame]:
    """Frames of a bag, completed while reading."""
    for frame in source.frames():
        image, completion = frame.image, frame.completion
        yield ViewFrame(frame.stamp_ns, image.rgb, frame.sparse, *completion, image.camera)


def of_recorded(path: Path, depth: str = DEPTH_TOPIC) -> Iterator[ViewFrame]:
    """Frames of a bag that has dense depth, with the confidence and sparse depth that it has."""
    # A separate bag for each, because their files are read at different places at the same time.
    with Bag(path) as bag, Bag(path) as second, Bag(path) as third:
        confidence = _Beside(second, confidence_name(depth))
        beside = depth.removesuffix('depth_registered/image_rect')
        sparse = _Beside(third, f'{beside}sparse/image_rect')
        for frame in RecordedFrames(bag, depth):
            yield ViewFrame(
                frame.stamp_ns,
                frame.rgb,
                sparse.at(frame.stamp_ns),
                np.nan_to_num(frame.depth),
                confidence.at(frame.stamp_ns),
                frame.camera,
            )


def of_run(folder: Path, drive: RecordedDrive | None = None) -> Iterator[ViewFrame]:
    """Depth images that `complete kitti` or `demo` wrote; with the drive, its images and sweeps
    too. Raises FileNotFoundError if there are none.
    """
    files = sorted((folder / 'depth' if (folder / 'depth').is_dir() else folder).glob('*.png'))
    files = [file for file in files if file.stem.isdigit()]
    if not files:
        raise FileNotFoundError(
            f'{folder}: expected a drive, a bag, or depth images (NUMBER.png, 16-bit) that '
            'complete kitti or demo wrote'
        )
    names = {} if drive is None else {name: index for index, name in enumerate(drive.names)}
    for number, file in enumerate(files):
        dense, index = read_depth_png(file), names.get(file.stem)
        if index is None:
            yield ViewFrame(number * _PERIOD_NS, dense=dense)
        else:
            frame = drive[index]
            yield ViewFrame(frame.stamp_ns, frame.rgb, frame.sparse(), dense, None, frame.camera)


class _Beside:
    """Images of a topic by their stamps, which must be requested in order."""

    def __init__(self, bag: Bag, name: str) -> None:
        topics = [topic for topic in bag.topics if topic.name == name and topic.type == IMAGE]
        self._bag, self._records = bag, bag.records(topics)
        self._next = next(self._records, None)

    def at(self, stamp: int) -> np.ndarray | None:
        """Image (H, W) float32 of the stamp, 0 = unknown; None where the bag has none."""
        while self._next is not None and self._next.stamp_ns < stamp:
            self._next = next(self._records, None)
        if self._next is None or self._next.stamp_ns != stamp:
            return None
        return depth_from_image(self._bag.decode(self._next))

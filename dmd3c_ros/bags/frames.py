"""Synchronized frames of a bag, completed as the node completes its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..conversions import MessageError, camera_to_info, cloud_to_points
from ..core.camera import Camera
from ..core.completer import Completion, DepthCompleter
from ..core.projection import HiddenPointFilter, project_points, remove_hidden_points
from ..io.calibration import read_camera, read_extrinsics, read_lens
from ..message_types import CameraInfo, Header, Time
from ..node.settings import NodeSettings
from ..pictures import PictureReader, picture_to_rgb
from .pairing import PairingReport, Synchronizer
from .reader import Bag
from .records import BagError, Record, stamp_ns
from .selection import Inputs
from .static_transforms import TF_TYPE, StaticTransforms


@dataclass(frozen=True)
class Rig:
    """Where calibration comes from that the bag lacks, or has wrong.

    camera_file: ROS camera calibration (YAML), K (3x3) or P (3x4) as text, instead of CameraInfo.
    extrinsics_file: T_camera_lidar as text (4x4) or YAML, instead of /tf_static.
    """

    camera_file: Path | None = None
    extrinsics_file: Path | None = None


class Frame(NamedTuple):
    """One completed image.

    record_ns: time of recording of the message that completed the set. stamp_ns: the image's.
    header: the image's. info: the rectified picture's CameraInfo, under that header. rgb
    (H, W, 3) uint8; sparse and completion (H, W) float32, m, 0 = unknown.
    """

    record_ns: int
    stamp_ns: int
    header: Header
    info: Any
    camera: Camera
    rgb: np.ndarray
    sparse: np.ndarray
    completion: Completion

    def depth(self, min_confidence: float) -> np.ndarray:
        """Depth (H, W) float32, m, 0 = unknown or less sure than `min_confidence`."""
        sure = self.completion.confidence >= min_confidence
        return np.where(sure, self.completion.depth, np.float32(0))


@dataclass
class FrameSource:
    """Pairs the messages of a bag and completes the sets.

    Frames that cannot be used are counted in `report` under their reason, and left out.
    """

    bag: Bag
    inputs: Inputs
    completer: DepthCompleter
    settings: NodeSettings = field(default_factory=NodeSettings)
    hidden_points: HiddenPointFilter = field(default_factory=HiddenPointFilter)
    rig: Rig = field(default_factory=Rig)

    def __post_init__(self) -> None:
        topics = [topic for topic in self.inputs if topic is not None]
        # The sweep last, as in the node; the report measures it against the image.
        self._order = {topic.key: index for index, topic in enumerate(topics)}
        self.report = PairingReport(tuple(topic.name for topic in topics), self.settings.sync_slop)
        self._synchronizer: Synchronizer[Record] = Synchronizer(
            len(topics), self.settings.sync_queue_size, self.settings.sync_slop
        )
        self._info: CameraInfo | None = None
        self._pictures = PictureReader(self.settings.rectify, self.inputs.image.name)
        self._transforms: StaticTransforms | None = None
        self._T_camera_lidar: np.ndarray | None = None
        if self.rig.extrinsics_file is not None:
            self._T_camera_lidar = read_extrinsics(self.rig.extrinsics_file)

    def take(self, record: Record) -> Frame | None:
        """The frame that this record completes, or None."""
        index = self._order.get(record.topic.key)
        if index is None:
            return None
        stamp = stamp_ns(record.data)
        self.report.stamps[index].append(stamp)
        found = self._synchronizer.add(index, stamp, record)
        if found is None:
            return None
        self.report.add_set([stamp_ns(member.data) for member in found])
        try:
            frame = self._complete(record.time_ns, found)
        except (MessageError, BagError) as error:
            self.report.drops[str(error)] += 1
            return None
        self.report.completed += 1
        return frame

    def frames(self) -> Iterator[Frame]:
        """All frames of the bag."""
        topics = [topic for topic in self.inputs if topic is not None]
        for record in self.bag.records(topics):
            frame = self.take(record)
            if frame is not None:
                yield frame

    # ---------------------------------------------------------------- the way of one frame

    def _complete(self, record_ns: int, found: tuple[Record, ...]) -> Frame:
        image_record, *rest = found
        image, cloud = self.bag.decode(image_record), self.bag.decode(rest[-1])
        header = _header(image.header)
        rgb = picture_to_rgb(image)
        info = self.bag.decode(rest[0]) if len(rest) > 1 else self._info_from_file(rgb)
        picture = self._pictures.read(rgb, info, header)
        camera = picture.camera
        points = cloud_to_points(cloud)
        T_camera_lidar = self._extrinsics(header.frame_id, cloud.header.frame_id)
        sparse = project_points(points, T_camera_lidar, camera)
        if not sparse.any():
            raise MessageError('points: none falls into the image; are the extrinsics right?')
        if self.settings.filter_hidden_points:
            sparse = remove_hidden_points(sparse, self.hidden_points)
        try:
            completion = self.completer.complete(picture.rgb, sparse, camera.K)
        except ValueError as error:
            raise MessageError(f'completion failed: {error}') from error
        stamp = stamp_ns(image_record.data)
        completion = picture.limited(completion)
        return Frame(
            record_ns, stamp, header, picture.info, camera, picture.rgb, sparse, completion
        )

    def _info_from_file(self, rgb: np.ndarray) -> Any:
        """CameraInfo of the calibration file, for a picture of this size."""
        height, width = rgb.shape[:2]
        if self._info is None or (self._info.height, self._info.width) != (height, width):
            path = self.rig.camera_file
            try:
                camera = read_camera(path, width, height)
                lens = read_lens(path) if self.settings.rectify else None
            except ValueError as error:
                raise MessageError(str(error)) from error
            self._info = camera_to_info(camera, Header(), lens)
        return self._info

    def _extrinsics(self, camera_frame: str, lidar_frame: str) -> np.ndarray:
        if self._T_camera_lidar is not None:
            return self._T_camera_lidar
        if self._transforms is None:
            self._transforms = read_static_transforms(self.bag)
        return self._transforms.find(camera_frame, lidar_frame)


def read_static_transforms(bag: Bag) -> StaticTransforms:
    """The tree of all messages on topics called tf_static."""
    transforms = StaticTransforms()
    topics = [t for t in bag.of_type(TF_TYPE) if t.name.rsplit('/', 1)[-1] == 'tf_static']
    for record in bag.records(topics):
        transforms.add(bag.decode(record).transforms)
    return transforms


def _header(header: Any) -> Header:
    """The bag's header as the conversions take it."""
    stamp = Time(sec=int(header.stamp.sec), nanosec=int(header.stamp.nanosec))
    return Header(stamp=stamp, frame_id=header.frame_id)

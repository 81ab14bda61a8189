"""Synchronized frames of a bag, completed as the node completes its own."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import QosDurability

from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.core.memory import MEMORY_ERRORS, is_out_of_memory
from dmd3c_ros.core.projection import HiddenPointFilter
from dmd3c_ros.core.transform_buffer import TransformError
from dmd3c_ros.io.calibration import read_camera, read_distortion, read_extrinsics
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.stamps import shift_stamp, stamp_ns_of, time_message, time_ns
from dmd3c_ros.messages.types import CameraInfo, Header
from dmd3c_ros.pipeline.frame import Frame, FramePipeline
from dmd3c_ros.pipeline.rectification import ImageRectifier
from dmd3c_ros.pipeline.settings import MotionSettings, NodeSettings
from dmd3c_ros.pipeline.sweeps import SweepAligner

from .pairing import PairingReport, Synchronizer
from .reader import Bag
from .records import BagError, Record, Topic
from .selection import InputTopics
from .transforms import RecordedTransforms

_REMEMBERED_INFOS = 20
# What differs between frames with the same reason: the time gap to a transform, and the number of
# points in the sweep.
_PERIOD, _COUNT = re.compile(r'\d+\.\d+ s'), re.compile(r'none of \d+')


@dataclass(frozen=True)
class Rig:
    """Where calibration comes from that the bag lacks, or has wrong.

    camera_file: instead of CameraInfo, any file that `read_camera` reads.
    extrinsics_file: T_camera_lidar instead of the bag's transforms, any that `read_extrinsics`
        reads.
    calibration_camera: which camera of a calibration file of KITTI.
    """

    camera_file: Path | None = None
    extrinsics_file: Path | None = None
    calibration_camera: str = 'image_02'


@dataclass
class FrameSource:
    """Pairs the messages of a bag and completes the sets.

    Unusable frames are counted in `report` by reason, and skipped. If memory already runs out at
    the first frame, the completer's exception is passed on.
    transforms: those of the bag, if several sources share them.
    """

    bag: Bag
    inputs: InputTopics
    completer: DepthCompleter
    settings: NodeSettings = field(default_factory=NodeSettings)
    hidden_points: HiddenPointFilter = field(default_factory=HiddenPointFilter)
    rig: Rig = field(default_factory=Rig)
    motion: MotionSettings = field(default_factory=MotionSettings)
    transforms: RecordedTransforms | None = None

    def __post_init__(self) -> None:
        image, info, points = self.inputs
        # As in the node, where one that is kept for late subscribers serves all images.
        self._infos: deque[Any] = deque(maxlen=_REMEMBERED_INFOS)
        if info is not None and (info.count == 1 or _latched(info)):
            self._infos.append(self.bag.first(info))
        # The sweep last, as in the node; the report measures it against the image.
        topics = [image, points] if info is None or self._infos else [image, info, points]
        self._order = {topic.key: index for index, topic in enumerate(topics)}
        self.report = PairingReport(
            tuple(topic.name for topic in topics),
            self.settings.sync_slop,
            lidar_clock_offset_s=self.motion.lidar_clock_offset,
        )
        self._synchronizer: Synchronizer[Record] = Synchronizer(
            len(topics), self.settings.sync_queue_size, self.settings.sync_slop
        )
        self._info: CameraInfo | None = None
        # All transforms are already known: there is none to wait for.
        self.motion = replace(self.motion, transform_timeout=0.0)
        self._aligner = _RecordedSweeps(
            self.motion, self.transforms or RecordedTransforms(self.bag)
        )
        rectifier = ImageRectifier(self.settings.rectify, self.inputs.image.name)
        self._pipeline = FramePipeline(rectifier, self._aligner)
        self._T_camera_lidar: np.ndarray | None = None
        if self.rig.extrinsics_file is not None:
            self._T_camera_lidar = read_extrinsics(
                self.rig.extrinsics_file, self.rig.calibration_camera
            )

    @property
    def T_camera_lidar(self) -> np.ndarray | None:
        """The extrinsics (4, 4) of the file; None if they come from the bag's transforms."""
        return self._T_camera_lidar

    def take(
        self, record: Record, wanted: Callable[[int], bool] = lambda number: True
    ) -> Frame | None:
        """The frame that this record completes, or None. wanted: as of `frames`."""
        try:
            found = self._paired(record)
        except BagError as error:
            self.report.bad[str(error)] += 1
            return None
        if found is None:
            return None
        self.report.add_set([self._stamp_ns(member) for member in found])
        if not wanted(self.report.sets - 1):
            return None
        try:
            frame = self._complete(found)
        except TransformError as error:
            reason = _PERIOD.sub('some time', str(error))
            self.report.drops[f'{reason}; give them in a file with --extrinsics'] += 1
            return None
        except (MessageError, BagError) as error:
            self.report.drops[_COUNT.sub('none', str(error))] += 1
            return None
        self.report.completed += 1
        return frame

    def frames(self, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[Frame]:
        """The frames of the bag, for the sets whose number, from 0, is selected.

        While a frame is being processed, its set is the last one of `report`.
        """
        topics = [topic for topic in self.inputs if topic is not None]
        for record in self.bag.records(topics):
            frame = self.take(record, wanted)
            if frame is not None:
                yield frame

    # ---------------------------------------------------------------- processing a frame

    def _paired(self, record: Record) -> tuple[Record, ...] | None:
        """The set that this record completes, or None."""
        index = self._order.get(record.topic.key)
        if index is None:
            if self.inputs.info is not None and record.topic.key == self.inputs.info.key:
                self._infos.append(self.bag.decode(record))
            return None
        stamp = self._stamp_ns(record)
        if record.topic.key == self.inputs.points.key and self.motion.accumulate_sweeps > 1:
            self._aligner.remember(self._cloud(record), self.settings.sync_queue_size)
        self.report.stamps[index].append(stamp)
        return self._synchronizer.add(index, stamp, record)

    def _complete(self, found: tuple[Record, ...]) -> Frame:
        image_record, *rest = found
        image, cloud = self.bag.decode(image_record), self._cloud(rest[-1])
        image.header = _header(image.header)
        if len(rest) > 1:
            info = self.bag.decode(rest[0])
        else:
            info = partial(self._lone_info, image_record.stamp_ns)
        frame = self._pipeline.measure(
            image,
            info,
            cloud,
            self.completer,
            self.settings,
            self.hidden_points,
            self._T_camera_lidar,
        )
        return self._pipeline.complete(frame, self._run, self.settings)

    def _run(self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> Completion:
        try:
            completion = self.completer.complete(rgb, sparse, K)
        except ValueError as error:
            raise MessageError(f'completion failed: {error}') from error
        except MEMORY_ERRORS as error:
            # Where it has sufficed so far, something else takes it for now: one frame is lost. In
            # a cheaper way the recording would hold depth of two kinds.
            if not self.report.completed or not is_out_of_memory(error):
                raise
            raise MessageError('completion failed: out of memory') from error
        if not completion.depth.any():
            raise MessageError(f'the model {self.completer.name} returned no depth at all')
        return completion

    def _lone_info(self, stamp: int, rgb: np.ndarray) -> Any:
        """CameraInfo that comes without each image: kept from before, or from the file."""
        if not self._infos:
            return self._info_from_file(rgb)
        same = (info for info in self._infos if stamp_ns_of(info) == stamp)
        return next(same, self._infos[-1])

    def _info_from_file(self, rgb: np.ndarray) -> Any:
        """CameraInfo of the calibration file, for an image of this size."""
        height, width = rgb.shape[:2]
        if self._info is None or (self._info.height, self._info.width) != (height, width):
            path = self.rig.camera_file
            try:
                camera = read_camera(path, width, height, self.rig.calibration_camera)
                distortion = read_distortion(path) if self.settings.rectify else None
            except ValueError as error:
                raise MessageError(str(error)) from error
            self._info = camera_to_info(camera, Header(), distortion)
        return self._info

    def _cloud(self, record: Record) -> Any:
        """The sweep, with its stamp in the camera's time."""
        cloud = self.bag.decode(record)
        shift_stamp(cloud, self.motion.lidar_offset_ns)
        return cloud

    def _stamp_ns(self, record: Record) -> int:
        """Stamp of a message in the camera's time."""
        late = record.topic.key == self.inputs.points.key
        return record.stamp_ns + late * self.motion.lidar_offset_ns


class _RecordedSweeps(SweepAligner):
    """Sweeps of a bag."""

    def __init__(self, motion: MotionSettings, transforms: RecordedTransforms) -> None:
        self._recorded = transforms
        super().__init__(motion, transforms)
        if motion.fixed_frame:
            transforms.read_moving()

    def locate(
        self, cloud: Any, camera_frame: str, image_ns: int, T_camera_lidar: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `SweepAligner.locate`, once more with /tf where /tf_static does not suffice."""
        try:
            return super().locate(cloud, camera_frame, image_ns, T_camera_lidar)
        except TransformError:
            if self._recorded.is_complete:
                raise
        self._recorded.read_moving()
        return super().locate(cloud, camera_frame, image_ns, T_camera_lidar)


def _latched(topic: Topic) -> bool:
    kept = QosDurability.TRANSIENT_LOCAL
    return bool(topic.qos) and all(qos.durability == kept for qos in topic.qos)


def _header(header: Any) -> Header:
    """The bag's header as the conversions take it."""
    return Header(stamp=time_message(time_ns(header.stamp)), frame_id=header.frame_id)

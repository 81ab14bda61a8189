"""RGB-D frames of a bag: with its recorded depth, or completed while reading."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from dmd3c_ros.core.completer import Completion
from dmd3c_ros.core.selection import PRESETS
from dmd3c_ros.messages.cameras import camera_from_info
from dmd3c_ros.messages.decoding import decode_image
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.images import depth_from_image
from dmd3c_ros.pipeline.arrays import selected_depth
from dmd3c_ros.pipeline.settings import NodeSettings
from dmd3c_ros.slam.droid import RgbdFrame

from .frames import FrameSource
from .pairing import PairingReport, Synchronizer
from .reader import Bag
from .records import BagError, Record, Topic
from .selection import IMAGE, find_camera

_log = logging.getLogger(__name__)

DEPTH_TOPIC = '/depth_registered/image_rect'


def completed_frames(source: FrameSource) -> Iterator[RgbdFrame]:
    """Frames completed by the source's model."""
    for frame in source.frames():
        image = frame.image
        yield RgbdFrame(frame.stamp_ns, image.rgb, frame.depth, image.camera)


class RecordedFrames:
    """Frames of a bag with depth images, from `complete bag` or an RGB-D camera.

    Image, CameraInfo and depth are paired as the node pairs its inputs, together with the
    confidence if `settings.min_confidence` or `settings.preset` need it. `report` has the results.
    Raises BagError if a topic is missing; the preset alone works without the confidence, and logs
    it.
    """

    def __init__(
        self,
        bag: Bag,
        depth: str = DEPTH_TOPIC,
        image: str = '',
        info: str = '',
        settings: NodeSettings | None = None,
    ) -> None:
        settings = settings or NodeSettings()
        self._bag = bag
        depth_topic = bag.topic(depth)
        image_topic, info_topic = find_camera(bag, image=image, info=info, leave=(depth,))
        self._topics = (image_topic, info_topic, depth_topic)
        self._settings = settings
        if settings.min_confidence > 0:
            self._topics += (_confidence_topic(bag, depth),)
        elif PRESETS[settings.preset].min_confidence > 0:
            self._topics += _confidence_if_there(bag, depth, settings.preset)
        self.report = PairingReport(tuple(t.name for t in self._topics), settings.sync_slop)
        self._pairing = settings.sync_queue_size, settings.sync_slop

    def __iter__(self) -> Iterator[RgbdFrame]:
        order = {topic.key: index for index, topic in enumerate(self._topics)}
        synchronizer: Synchronizer[Record] = Synchronizer(len(order), *self._pairing)
        for record in self._bag.records(self._topics):
            try:
                index, stamp = order[record.topic.key], record.stamp_ns
            except BagError as error:
                self.report.bad[str(error)] += 1
                continue
            self.report.stamps[index].append(stamp)
            found = synchronizer.add(index, stamp, record)
            if found is None:
                continue
            self.report.add_set([member.stamp_ns for member in found])
            try:
                frame = self._frame(found)
            except (MessageError, BagError) as error:
                self.report.drops[str(error)] += 1
                continue
            self.report.completed += 1
            yield frame

    def _frame(self, found: tuple[Record, ...]) -> RgbdFrame:
        image, info, depth, *confidence = found
        rgb = decode_image(self._bag.decode(image))
        camera = camera_from_info(self._bag.decode(info))
        metres = depth_from_image(self._bag.decode(depth))
        if metres.shape != rgb.shape[:2]:
            raise MessageError(
                f'depth: expected the size of the image, {rgb.shape[1]}x{rgb.shape[0]}, '
                f'got {metres.shape[1]}x{metres.shape[0]}'
            )
        sure = np.ones_like(metres)
        if confidence:
            sure = depth_from_image(self._bag.decode(confidence[0]))
            if sure.shape != metres.shape:
                raise MessageError(
                    f'confidence: expected the size of the depth, {metres.shape[1]}x'
                    f'{metres.shape[0]}, got {sure.shape[1]}x{sure.shape[0]}'
                )
        selected = selected_depth(Completion(metres, sure), self._settings)
        return RgbdFrame(image.stamp_ns, rgb, selected, camera)


def confidence_name(depth: str) -> str:
    """Topic of the confidence that `complete bag` writes with the topic `depth`."""
    return f'{depth.removesuffix(DEPTH_TOPIC[1:])}confidence'


def _confidence_topic(bag: Bag, depth: str) -> Topic:
    name = confidence_name(depth)
    if not any(topic.name == name for topic in bag.topics):
        raise BagError(
            f'{bag.path}: --min-confidence needs the confidence of {depth}, but there is no topic '
            f'{name}; --model completes the frames again'
        )
    return bag.topic(name)


def _confidence_if_there(bag: Bag, depth: str, preset: str) -> tuple[Topic, ...]:
    name = confidence_name(depth)
    found = tuple(topic for topic in bag.of_type(IMAGE) if topic.name == name)
    if not found:
        _log.warning('%s: no topic %s; preset %s removes edges only', bag.path, name, preset)
    return found


def depth_topic(bag: Bag, name: str) -> Topic | None:
    """The depth topic to use: the given one, or that of `complete bag`, or None."""
    if name:
        return bag.topic(name)
    found = [topic for topic in bag.of_type(IMAGE) if topic.name == DEPTH_TOPIC]
    return found[0] if found else None

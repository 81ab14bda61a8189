"""Finding the camera and the LiDAR among the topics of a bag."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import NamedTuple

from .reader import Bag
from .records import BagError, Topic

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
INFO, CLOUD = 'sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/PointCloud2'
# Endings of image topics, the best first: rectified before raw, colour before grey.
_PREFERRED = (
    'image_rect_color',
    'image_rect',
    'image_rect_raw',
    'image_color_rect',
    'image_color',
    'image_raw',
    'image',
    'image_mono',
)
_NOT_COLOR = ('32F', '64F', '16UC1', '16SC')


class InputTopics(NamedTuple):
    """The topics to complete; info is None if the camera comes from a file."""

    image: Topic
    info: Topic | None
    points: Topic


def find_inputs(
    bag: Bag,
    *,
    image: str = '',
    info: str = '',
    points: str = '',
    info_from_file: bool = False,
    leave: Collection[str] = (),
) -> InputTopics:
    """Topics by the given names, the others by their types.

    leave: names that are not inputs (outputs of an earlier run). Raises BagError if a topic is
    missing or ambiguous: the message lists the candidates and the option to choose one.
    """
    points_topic = bag.topic(points) if points else _only(bag, (CLOUD,), '--points', leave)
    _expect(points_topic, CLOUD)
    if info_from_file:
        image_topic = bag.topic(image) if image else _find_image(bag, leave)
        _expect(image_topic, IMAGE, COMPRESSED)
        return InputTopics(image_topic, None, points_topic)
    return InputTopics(*find_camera(bag, image=image, info=info, leave=leave), points_topic)


def find_camera(
    bag: Bag, *, image: str = '', info: str = '', leave: Collection[str] = ()
) -> tuple[Topic, Topic]:
    """Image and CameraInfo topic, as `find_inputs` finds them."""
    image_topic = bag.topic(image) if image else _find_image(bag, leave)
    _expect(image_topic, IMAGE, COMPRESSED)
    info_topic = bag.topic(info) if info else _find_info(bag, image_topic, leave)
    _expect(info_topic, INFO)
    return image_topic, info_topic


def find_cameras(
    bag: Bag, *, points: str = '', leave: Collection[str] = ()
) -> tuple[dict[str, InputTopics], list[str]]:
    """Every camera with its CameraInfo and the LiDAR that they share, by namespace, in order.

    A camera is an image topic with a CameraInfo in its namespace; of several image topics in a
    namespace the best is used. The key is that namespace or, if two cameras share it, the image's
    own name. Also returns the image topics of the namespaces without CameraInfo. Raises BagError
    as `find_inputs`, and if there is no camera.
    """
    points_topic = bag.topic(points) if points else _only(bag, (CLOUD,), '--points', leave)
    _expect(points_topic, CLOUD)
    infos = {topic.name: topic for topic in bag.of_type(INFO) if topic.name not in leave}
    groups: dict[str, list[Topic]] = {}
    for topic in bag.of_type(IMAGE, COMPRESSED):
        depth = topic.name.endswith('compressedDepth') or not _shows_color(bag, topic)
        if topic.name not in leave and not depth:
            groups.setdefault(info_name(topic.name), []).append(topic)
    cameras, alone = {}, []
    for name, topics in groups.items():
        if name not in infos:
            alone += [topic.name for topic in topics]
            continue
        best = min(map(_rank_of_camera, topics))
        chosen = [topic for topic in topics if _rank_of_camera(topic) == best]
        for topic in chosen:
            shared = len(chosen) > 1
            namespace = _base(topic.name) if shared else PurePosixPath(name).parent
            cameras[str(namespace)] = InputTopics(topic, infos[name], points_topic)
    if not cameras:
        raise BagError(
            f'{bag.path}: expected images with a camera_info next to them, found none. '
            f'{_listed(bag)}'
        )
    return dict(sorted(cameras.items())), alone


def info_name(image: str) -> str:
    """Name of the CameraInfo topic of an image, by image_transport's convention."""
    return str(_base(image).parent / 'camera_info')


def _base(image: str) -> PurePosixPath:
    """Name of an image topic without its transport."""
    path = PurePosixPath(image)
    return path.parent if path.name in ('compressed', 'compressedDepth', 'theora') else path


def _rank_of_camera(topic: Topic) -> tuple[int, bool]:
    """As `_rank`, an image before its compressed copy."""
    return _rank(topic), topic.type == COMPRESSED


def _shows_color(bag: Bag, topic: Topic) -> bool:
    return topic.type == COMPRESSED or _is_color(bag, topic)


def _find_image(bag: Bag, leave: Collection[str]) -> Topic:
    topics = [t for t in bag.of_type(IMAGE) if t.name not in leave]
    # Only if there is a choice: it means reading the first message of each.
    if len(topics) > 1:
        topics = [t for t in topics if _is_color(bag, t)]
    if not topics:
        topics = [
            t
            for t in bag.of_type(COMPRESSED)
            if t.name not in leave and not t.name.endswith('compressedDepth')
        ]
    return _choose(bag, topics, '--image', 'an image')


def _find_info(bag: Bag, image: Topic, leave: Collection[str]) -> Topic:
    beside = info_name(image.name)
    topics = [t for t in bag.of_type(INFO) if t.name not in leave]
    for topic in topics:
        if topic.name == beside:
            return topic
    if not topics:
        raise BagError(
            f'{bag.path}: expected a CameraInfo topic, found none; give a calibration file '
            f'with --camera-info. {_listed(bag)}'
        )
    return _choose(bag, topics, '--info', 'a CameraInfo')


def _only(bag: Bag, types: tuple[str, ...], option: str, leave: Collection[str]) -> Topic:
    topics = [t for t in bag.of_type(*types) if t.name not in leave]
    return _choose(bag, topics, option, f'a {types[0]}')


def _choose(bag: Bag, topics: list[Topic], option: str, what: str) -> Topic:
    if not topics:
        raise BagError(
            f'{bag.path}: expected {what} topic with messages, found none. {_listed(bag)}'
        )
    if len(topics) > 1 and option == '--image':
        best = min(map(_rank, topics))
        topics = [topic for topic in topics if _rank(topic) == best]
    if len(topics) > 1:
        names = ', '.join(topic.name for topic in topics)
        raise BagError(
            f'{bag.path}: expected one candidate topic, found {names}; choose with {option}'
        )
    return topics[0]


def _listed(bag: Bag) -> str:
    """The topics that the bag has instead of the expected ones."""
    found = ', '.join(f'{topic.name} ({topic.type}, {topic.count})' for topic in bag.topics)
    return f'It has {found or "no topics"}'


def _rank(topic: Topic) -> int:
    name = _base(topic.name).name
    return _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)


def _is_color(bag: Bag, topic: Topic) -> bool:
    """False for depth and confidence, which share the type."""
    try:
        return not bag.first(topic).encoding.startswith(_NOT_COLOR)
    except BagError:
        return False


def _expect(topic: Topic, *types: str) -> None:
    if topic.type not in types:
        raise BagError(f'{topic.name}: expected {" or ".join(types)}, got {topic.type}')

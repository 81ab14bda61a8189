"""`dmd3c bag info`: what a bag contains and what would be completed."""

from __future__ import annotations

from typing import Any

from dmd3c_ros.core.transform_buffer import TransformError
from dmd3c_ros.messages.stamps import time_ns
from dmd3c_ros.pipeline.outputs import OUTPUTS

from .completion import output_names
from .reader import Bag
from .records import BagError, Topic
from .selection import CLOUD, COMPRESSED, IMAGE, INFO, find_inputs
from .transforms import read_transforms

_STAMPED = (IMAGE, COMPRESSED, INFO, CLOUD)


def describe(bag: Bag) -> str:
    """The bag in some lines of text."""
    first, last = bag.span_ns()
    seconds = (last - first) * 1e-9
    lines = [f'{bag.path}: {bag.format}, {bag.count} messages, {seconds:.1f} s']
    if bag.damage:
        lines.append(f'damaged: {bag.damage}; the numbers are for what can be read')
    width = max((len(topic.name) for topic in bag.topics), default=0)
    for topic in bag.topics:
        rate = (
            f'{(topic.count - 1) / seconds:8.2f} Hz' if topic.count > 1 and seconds else ' ' * 11
        )
        line = f'  {topic.name:{width}}  {topic.count:6d} {rate}  {topic.type}  '
        lines.append((line + _first_words(bag, topic)).rstrip())
    lines.append(_inputs(bag))
    return '\n'.join(lines)


def _first_words(bag: Bag, topic: Topic) -> str:
    """Summary of the first message of a camera or LiDAR topic."""
    if topic.type not in _STAMPED:
        return ''
    record = next(bag.records([topic]), None)
    if record is None:
        return ''
    try:
        message = bag.decode(record)
        delay_ms = (record.time_ns - record.stamp_ns) * 1e-6
    except BagError as error:
        return str(error)
    frame = message.header.frame_id
    return f'{_content(topic, message)} in {frame!r}, recorded {delay_ms:+.1f} ms later'


def _content(topic: Topic, message: Any) -> str:
    if topic.type == COMPRESSED:
        return message.format
    if topic.type == IMAGE:
        return f'{message.width}x{message.height} {message.encoding}'
    if topic.type == INFO:
        known = f'fx {message.p[0]:.1f}' if message.p[0] > 0 else 'not calibrated'
        return f'{message.width}x{message.height} {known}'
    names = ' '.join(field.name for field in message.fields)
    return f'{message.width * message.height} points ({names})'


def _inputs(bag: Bag) -> str:
    """What `complete bag` would take without options, or why it cannot."""
    try:
        found = find_inputs(bag, leave=output_names('', tuple(OUTPUTS)).values())
        headers = [bag.first(topic).header for topic in (found.image, found.points)]
        frames = [header.frame_id for header in headers]
        read_transforms(bag).lookup(*frames, time_ns(headers[1].stamp))
    except (BagError, TransformError) as error:
        return f'complete bag: {error}'
    return (
        f'complete bag uses {found.image.name}, {found.info.name} and {found.points.name}, '
        f'and transforms from {frames[1]} to {frames[0]}'
    )

"""`dmd3c bag-info`: what a bag holds and what would be completed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from .completion import OUTPUTS, output_names
from .frames import read_static_transforms
from .reader import Bag
from .records import BagError, Topic, stamp_ns
from .selection import CLOUD, COMPRESSED, IMAGE, INFO, find_inputs

_STAMPED = (IMAGE, COMPRESSED, INFO, CLOUD)


def describe(bag: Bag) -> str:
    """The bag in some lines of text."""
    times, firsts = _read(bag)
    kept = [time for span in times.values() for time in span]
    seconds = (max(kept) - min(kept)) * 1e-9 if kept else 0.0
    lines = [f'{bag.path}: {bag.format}, {bag.count} messages, {seconds:.1f} s']
    if bag.damage:
        lines.append(f'damaged: {bag.damage}; the figures are of what can be read')
    width = max((len(topic.name) for topic in bag.topics), default=0)
    for topic in bag.topics:
        first, last = times.get(topic.key, (0, 0))
        rate = (topic.count - 1) / (last - first) * 1e9 if last > first else 0.0
        about = firsts.get(topic.key, '')
        line = f'  {topic.name:{width}}  {topic.count:6d}  {rate:7.2f} Hz  {topic.type}  {about}'
        lines.append(line.rstrip())
    lines.append(_inputs(bag))
    return '\n'.join(lines)


def _read(bag: Bag) -> tuple[dict[tuple, tuple[int, int]], dict[tuple, str]]:
    """First and last time of each topic, ns, and what its first message says."""
    spans: dict[tuple, list[int]] = defaultdict(list)
    firsts: dict[tuple, str] = {}
    for record in bag.records():
        key = record.topic.key
        if key not in firsts:
            spans[key] = [record.time_ns, record.time_ns]
            firsts[key] = _first_words(bag, record)
        spans[key][0] = min(spans[key][0], record.time_ns)
        spans[key][1] = max(spans[key][1], record.time_ns)
    return {key: (span[0], span[1]) for key, span in spans.items()}, firsts


def _first_words(bag: Bag, record) -> str:
    if record.topic.type not in _STAMPED:
        return ''
    try:
        message = bag.decode(record)
        delay_ms = (record.time_ns - stamp_ns(record.data)) * 1e-6
    except BagError as error:
        return str(error)
    frame = message.header.frame_id
    return f'{_content(record.topic, message)} in {frame!r}, recorded {delay_ms:+.1f} ms later'


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
        frames = [
            bag.decode(next(iter(bag.records([topic])))).header.frame_id
            for topic in (found.image, found.points)
        ]
        read_static_transforms(bag).find(*frames)
    except BagError as error:
        return f'complete bag: {error}'
    return (
        f'complete bag takes {found.image.name}, {found.info.name} and {found.points.name}, '
        f'and /tf_static from {frames[1]} to {frames[0]}'
    )

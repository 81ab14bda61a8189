"""`dmd3c complete bag`: dense depth for a recording, written as a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from dmd3c_ros.pipeline.outputs import OUTPUTS

from .frames import FrameSource
from .records import BagError, Topic
from .writer import BagWriter

# Raw images are no use with depth of the rectified one.
RECTIFIED_OUTPUTS = ('rectified/image_rect', 'rectified/camera_info')
DEFAULT_OUTPUTS = ('depth_registered/image_rect', 'depth_registered/camera_info', 'confidence')


def output_names(prefix: str, outputs: Sequence[str]) -> dict[str, str]:
    """Topic in the bag of each output; ValueError for one that the node does not have."""
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown:
        raise ValueError(
            f'outputs: expected some of {", ".join(OUTPUTS)}; got {", ".join(unknown)}'
        )
    start = '/' + prefix.strip('/')
    return {name: f'{start.rstrip("/")}/{name}' for name in outputs}


def complete_bag(
    sources: Mapping[str, FrameSource],
    out: Path,
    *,
    storage: str,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    only_new: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Complete every set of a bag into the bag folder `out`, which appears once it is complete.

    sources: one or several cameras of the same bag, by the namespace of their outputs; the bag is
    read once. only_new: write only the new topics; otherwise everything else is copied byte for
    byte. advance: called with the number of records read. Each source's report has the results.
    Raises BagError if `out` exists, a topic would be duplicated, or no frame was completed.
    """
    bag = next(iter(sources.values())).bag
    names = {prefix: output_names(prefix, outputs) for prefix in sources}
    new = [topic for of_source in names.values() for topic in of_source.values()]
    taken = sorted({topic.name for topic in bag.topics} & set(new))
    if taken and not only_new:
        raise BagError(
            f'{bag.path} already has {", ".join(taken)}; choose another --prefix or --only-new'
        )
    topics = input_topics(sources.values()) if only_new else None
    with BagWriter(out, storage) as writer:
        for of_source in names.values():
            for name, topic in of_source.items():
                writer.add_topic(topic, OUTPUTS[name].type)
        for record in bag.records(topics):
            if not only_new:
                writer.copy(record, bag.typestore)
            for prefix, source in sources.items():
                frame = source.take(record)
                if frame is not None:
                    for name, topic in names[prefix].items():
                        message = OUTPUTS[name].make(frame, source.settings)
                        writer.write(topic, OUTPUTS[name].type, record.time_ns, message)
            advance(1)
        if not any(source.report.completed for source in sources.values()):
            raise BagError(f'{bag.path}: no frame could be completed')


def input_topics(sources: Iterable[FrameSource]) -> list[Topic]:
    """The topics that sources read, each once."""
    topics = [topic for source in sources for topic in source.inputs if topic is not None]
    return list({topic.key: topic for topic in topics}.values())

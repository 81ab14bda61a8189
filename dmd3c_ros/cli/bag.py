"""Commands on bags: completing, converting, describing; none of them needs ROS."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BAG, TOPICS, given, make_completer, part, with_options

if TYPE_CHECKING:
    from dmd3c_ros.bags.frames import FrameSource
    from dmd3c_ros.bags.reader import Bag

app = typer.Typer(
    help='Recordings: what is in them, and KITTI drives as such.', no_args_is_help=True
)

_OUTPUT = 'Output'

BagPath = Annotated[
    Path, typer.Argument(help='ROS 2 bag (folder, .mcap or .db3) or ROS 1 bag (.bag).')
]


@with_options(BAG)
def complete_bag(
    bag: BagPath,
    out: Annotated[Path, typer.Argument(help='Folder of the bag to write; it must not exist.')],
    only_new: Annotated[
        bool,
        typer.Option(
            '--only-new', help='Write the new topics alone, no copy.', rich_help_panel=_OUTPUT
        ),
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            '--output',
            help="One of the node's topics to write; repeat it for more. By default the depth "
            'image, its CameraInfo and the confidence; with --rectify the rectified image too.',
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help='Namespace of the new topics.', rich_help_panel=_OUTPUT)
    ] = '',
    storage: Annotated[
        str | None,
        typer.Option(
            help="mcap or sqlite3; else the input's, mcap for ROS 1.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    depth_encoding: Annotated[
        str | None,
        typer.Option(help='32FC1 (m) or 16UC1 (mm).', rich_help_panel=_OUTPUT),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help='Also write the pairing report here, as JSON.', rich_help_panel=_OUTPUT),
    ] = None,
    *,
    options: dict,
) -> None:
    """Complete a recording: the bag OUT has the depth of every frame of BAG, at its stamps."""
    from dmd3c_ros.bags.completion import (
        DEFAULT_OUTPUTS,
        RECTIFIED_OUTPUTS,
        complete_bag,
        output_names,
    )
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.io.atomic import check_file

    from .console import fail, progress_bar, say, write_numbers

    rectified = RECTIFIED_OUTPUTS if options.get('rectify') else ()
    outputs = tuple(output) if output else DEFAULT_OUTPUTS + rectified
    options |= given(depth_encoding=depth_encoding)
    source = None
    try:
        leave = output_names(prefix, outputs).values()
        if out.exists():
            raise FileExistsError(f'{out} exists already; name a new folder for the bag')
        if report is not None:
            check_file(report)
        with Bag(bag) as recording:
            source = open_source(recording, options, leave=leave)
            with progress_bar() as progress:
                task = progress.add_task('messages', total=_total(source, only_new=only_new))
                complete_bag(
                    source,
                    out,
                    storage=storage or {'sqlite3': 'sqlite3'}.get(recording.format, 'mcap'),
                    prefix=prefix,
                    outputs=outputs,
                    only_new=only_new,
                    advance=lambda count: progress.advance(task, count),
                )
            if recording.damage:
                say(f'{bag} is damaged ({recording.damage}): completed what can be read')
    except (OSError, ValueError) as error:
        if source is not None:
            say(source.report.to_text())
        raise fail(error) from error
    say(source.report.to_text())
    if report is not None:
        write_numbers(report, source.report.to_dict())


@app.command()
def info(bag: BagPath) -> None:
    """Describe a recording: its topics, and what `complete bag` would take."""
    from dmd3c_ros.bags.info import describe
    from dmd3c_ros.bags.reader import Bag

    from .console import fail

    try:
        with Bag(bag) as recording:
            typer.echo(describe(recording))
    except (OSError, ValueError) as error:
        raise fail(error) from error


@app.command()
def from_kitti(
    drive: Annotated[Path, typer.Argument(help='Folder of a KITTI raw drive (..._sync).')],
    out: Annotated[Path, typer.Argument(help='Folder of the bag to write; it must not exist.')],
    camera: Annotated[str, typer.Option(help='Camera folder of the drive.')] = 'image_02',
    storage: Annotated[str, typer.Option(help='mcap or sqlite3.')] = 'mcap',
    point_time: Annotated[
        str,
        typer.Option(
            help='Per-point time of the sweeps: auto (unless KITTI has removed the motion from '
            'them, as in ..._sync), always or never.'
        ),
    ] = 'auto',
) -> None:
    """Write a KITTI raw drive as a ROS 2 bag that `ros2 bag play` and the node take as it is."""
    from dmd3c_ros.bags.kitti_conversion import convert_drive, open_drive

    from .console import fail, progress_bar, say

    try:
        source = open_drive(drive, camera)
        with progress_bar() as progress:
            task = progress.add_task('frames', total=len(source))
            topics = convert_drive(
                source,
                out,
                storage=storage,
                point_time=point_time,
                advance=lambda: progress.advance(task),
            )
    except (OSError, ValueError) as error:
        raise fail(error) from error
    say(f'{out}: {len(source)} frames; {", ".join(topics)}')


def open_source(
    recording: 'Bag', options: Mapping[str, Any], leave: Collection[str] = ()
) -> 'FrameSource':
    """Frames of a bag, completed with those options of the group BAG that were given.

    leave: topics that are no inputs. Raises BagError and ValueError.
    """
    from dmd3c_ros.bags.frames import FrameSource, Rig
    from dmd3c_ros.bags.selection import find_inputs
    from dmd3c_ros.pipeline.settings import MotionSettings, NodeSettings

    rig = Rig(**part(options, Rig))
    settings = NodeSettings(**part(options, NodeSettings))
    motion = MotionSettings(**part(options, MotionSettings))
    topics = {name: options[name] for name in TOPICS if name in options}
    from_file = rig.camera_file is not None
    inputs = find_inputs(recording, **topics, info_from_file=from_file, leave=leave)
    completer = make_completer(options)
    return FrameSource(recording, inputs, completer, settings, rig=rig, motion=motion)


def _total(source: 'FrameSource', *, only_new: bool) -> int:
    topics = [t for t in source.inputs if t is not None] if only_new else source.bag.topics
    return sum(topic.count for topic in topics)

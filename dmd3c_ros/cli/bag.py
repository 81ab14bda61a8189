"""Commands on bags: completing, converting, describing; none of them needs ROS."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BAG, TOPICS, given, make_completer, part, with_options, with_out

if TYPE_CHECKING:
    from dmd3c_ros.bags.frames import FrameSource
    from dmd3c_ros.bags.reader import Bag

app = typer.Typer(
    help='Inspect recordings, and convert KITTI drives to bags.', no_args_is_help=True
)

_OUTPUT = 'Output'
_OF_ONE_CAMERA = {
    'image': '--image',
    'info': '--info',
    'camera_file': '--camera-info',
    'extrinsics_file': '--extrinsics',
}
_OUT = 'Folder of the bag to write; it must not exist.'

BagPath = Annotated[
    Path, typer.Argument(help='ROS 2 bag (folder, .mcap or .db3) or ROS 1 bag (.bag).')
]


@with_out(_OUT)
@with_options(BAG)
def complete_bag(
    bag: BagPath,
    out: Path,
    all_cameras: Annotated[
        bool,
        typer.Option(
            '--all-cameras',
            help='Complete every camera that has a camera_info topic next to its images, in one '
            'pass, with the outputs in its own namespace.',
            rich_help_panel='Inputs',
        ),
    ] = False,
    only_new: Annotated[
        bool,
        typer.Option(
            '--only-new',
            help='Write only the new topics, no copy of the input.',
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            '--output',
            help='Output topic of the node to write; may be repeated.',
            show_default='depth image, its CameraInfo and the confidence; with --rectify the '
            'rectified image too',
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help='Namespace of the new topics.', rich_help_panel=_OUTPUT)
    ] = '',
    storage: Annotated[
        str | None,
        typer.Option(
            show_default="the input's; mcap for ROS 1",
            help='mcap or sqlite3.',
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    depth_encoding: Annotated[
        str | None,
        typer.Option(
            show_default='32FC1', help='32FC1 (m) or 16UC1 (mm).', rich_help_panel=_OUTPUT
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            show_default='none',
            help='Also write the pairing report to this JSON file.',
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    *,
    options: dict,
) -> None:
    """Complete a recording: OUT is a bag with dense depth for every frame of BAG."""
    from dmd3c_ros.bags.completion import (
        DEFAULT_OUTPUTS,
        RECTIFIED_OUTPUTS,
        complete_bag,
        input_topics,
        output_names,
    )
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.io.atomic import check_file

    from .console import fail, progress_bar, say, write_numbers

    rectified = RECTIFIED_OUTPUTS if options.get('rectify') else ()
    outputs = tuple(output) if output else DEFAULT_OUTPUTS + rectified
    options |= given(depth_encoding=depth_encoding)
    sources: dict[str, FrameSource] = {}
    try:
        leave = output_names(prefix, outputs).values()
        if out.exists():
            raise FileExistsError(f'{out} already exists; choose a new folder for the bag')
        if report is not None:
            check_file(report)
        with Bag(bag) as recording:
            if all_cameras:
                sources |= open_cameras(recording, options, prefix)
            else:
                sources[prefix] = open_source(recording, options, leave=leave)
            read = input_topics(sources.values()) if only_new else recording.topics
            with progress_bar() as progress:
                task = progress.add_task('messages', total=sum(topic.count for topic in read))
                complete_bag(
                    sources,
                    out,
                    storage=storage or {'sqlite3': 'sqlite3'}.get(recording.format, 'mcap'),
                    outputs=outputs,
                    only_new=only_new,
                    advance=lambda count: progress.advance(task, count),
                )
            if recording.damage:
                say(f'{bag} is damaged ({recording.damage}): completed what could be read')
    except (OSError, ValueError) as error:
        _say_reports(sources, all_cameras)
        raise fail(error) from error
    _say_reports(sources, all_cameras)
    if report is not None:
        numbers = {name: source.report.to_dict() for name, source in sources.items()}
        write_numbers(report, numbers if all_cameras else numbers[prefix])
    empty = [name for name, source in sources.items() if not source.report.completed]
    if empty:
        raise fail(f'no frame of {", ".join(empty)} could be completed; see its report above')


def _say_reports(sources: 'Mapping[str, FrameSource]', named: bool) -> None:
    from .console import say

    for namespace, source in sources.items():
        if named:
            say(f'{namespace} ({source.inputs.image.name}):')
        say(source.report.to_text())


@app.command()
def info(bag: BagPath) -> None:
    """Describe a recording: its topics, and the ones that `complete bag` would use."""
    from dmd3c_ros.bags.info import describe
    from dmd3c_ros.bags.reader import Bag

    from .console import fail

    try:
        with Bag(bag) as recording:
            typer.echo(describe(recording))
    except (OSError, ValueError) as error:
        raise fail(error) from error


@app.command()
@with_out(_OUT)
def from_kitti(
    drive: Annotated[Path, typer.Argument(help='Folder of a KITTI raw drive (..._sync).')],
    out: Path,
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
    """Convert a KITTI raw drive to a ROS 2 bag that needs no remapping for the node."""
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


def open_cameras(
    recording: 'Bag', options: Mapping[str, Any], prefix: str
) -> 'dict[str, FrameSource]':
    """As `open_source`, of every camera in a bag, by the namespaces of their outputs.

    One model and the bag's transforms serve all. Outputs of an earlier run are no inputs.
    """
    from dmd3c_ros.bags.frames import FrameSource
    from dmd3c_ros.bags.selection import find_cameras
    from dmd3c_ros.bags.transforms import RecordedTransforms
    from dmd3c_ros.pipeline.outputs import OUTPUTS
    from dmd3c_ros.pipeline.settings import MotionSettings, NodeSettings

    from .console import say

    for name in _OF_ONE_CAMERA:
        if name in options:
            option = {'camera_file': 'camera-info', 'extrinsics_file': 'extrinsics'}.get(
                name, name
            )
            raise ValueError(f'--all-cameras: --{option} applies to a single camera')
    settings = NodeSettings(**part(options, NodeSettings))
    motion = MotionSettings(**part(options, MotionSettings))
    leave = [t.name for t in recording.topics if t.name.endswith(tuple(f'/{o}' for o in OUTPUTS))]
    cameras, alone = find_cameras(recording, points=options.get('points', ''), leave=leave)
    if alone:
        say(f'skipped, no camera_info next to them: {", ".join(alone)}')
    completer, transforms = make_completer(options), RecordedTransforms(recording)
    return {
        f'/{prefix.strip("/")}{namespace}'.replace('//', '/').rstrip('/'): FrameSource(
            recording, inputs, completer, settings, motion=motion, transforms=transforms
        )
        for namespace, inputs in cameras.items()
    }

"""Commands on bags: completing, converting, describing; none of them needs ROS."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmd3c_ros.cli.options import (
    AccumulateSweeps,
    Deskew,
    Device,
    FixedFrame,
    HiddenPoints,
    InferenceScale,
    LidarClockOffset,
    Model,
    PointTimeField,
    PointTimeUnit,
    Precision,
    PreserveLidar,
    Weights,
    filtering,
    given,
    make_completer,
)

if TYPE_CHECKING:
    from dmd3c_ros.bags.frames import FrameSource
    from dmd3c_ros.bags.reader import Bag

_INPUTS, _PAIRING, _OUTPUT = 'Inputs', 'Pairing, as in the node', 'Output'

BagPath = Annotated[
    Path, typer.Argument(help='ROS 2 bag (folder, .mcap or .db3) or ROS 1 bag (.bag).')
]
Image = Annotated[
    str, typer.Option('--image', help='Image topic; else by type.', rich_help_panel=_INPUTS)
]
Info = Annotated[
    str,
    typer.Option(
        '--info', help='CameraInfo topic; else beside the image.', rich_help_panel=_INPUTS
    ),
]
Points = Annotated[
    str, typer.Option('--points', help='PointCloud2 topic; else by type.', rich_help_panel=_INPUTS)
]
CameraFile = Annotated[
    Path | None,
    typer.Option(
        '--camera-info',
        help='Camera calibration of ROS (YAML), or K or P as text, instead of CameraInfo.',
        rich_help_panel=_INPUTS,
    ),
]
Extrinsics = Annotated[
    Path | None,
    typer.Option(
        '--extrinsics',
        help='T_camera_lidar instead of /tf_static: 4x4 text, or YAML with translation (m) and '
        'rotation (x, y, z, w).',
        rich_help_panel=_INPUTS,
    ),
]
Slop = Annotated[
    float | None,
    typer.Option(
        '--sync-slop',
        help='Stamps of an image and its sweep differ by less than this, s.',
        rich_help_panel=_PAIRING,
    ),
]
QueueSize = Annotated[
    int | None,
    typer.Option(
        '--sync-queue-size',
        help='Messages of each topic that wait for their partners.',
        rich_help_panel=_PAIRING,
    ),
]
Rectify = Annotated[
    bool | None,
    typer.Option(
        '--rectify/--rectified',
        help='Images are raw: undo the distortion that CameraInfo, or the calibration file, '
        'describes.',
        rich_help_panel=_INPUTS,
    ),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        '--min-confidence',
        help='Depth less sure than this, 0 to 1, is written as unknown.',
        rich_help_panel='Completion',
    ),
]


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
    image: Image = '',
    info: Info = '',
    points: Points = '',
    camera_info: CameraFile = None,
    extrinsics: Extrinsics = None,
    rectify: Rectify = None,
    sync_slop: Slop = None,
    sync_queue_size: QueueSize = None,
    fixed_frame: FixedFrame = None,
    deskew: Deskew = None,
    point_time_field: PointTimeField = None,
    point_time_unit: PointTimeUnit = None,
    lidar_clock_offset: LidarClockOffset = None,
    accumulate_sweeps: AccumulateSweeps = None,
    filter_hidden_points: HiddenPoints = None,
    min_confidence: MinConfidence = None,
    model: Model = None,
    weights: Weights = None,
    device: Device = None,
    precision: Precision = None,
    inference_scale: InferenceScale = None,
    preserve_lidar: PreserveLidar = None,
) -> None:
    """Complete a recording: the bag OUT has the depth of every frame of BAG, at its stamps."""
    from dmd3c_ros.bags.completion import (
        DEFAULT_OUTPUTS,
        RECTIFIED_OUTPUTS,
        complete_bag,
        output_names,
    )
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.cli.console import fail, progress_bar, say

    outputs = tuple(output) if output else DEFAULT_OUTPUTS + RECTIFIED_OUTPUTS * bool(rectify)
    source = None
    try:
        leave = output_names(prefix, outputs).values()
        if out.exists():
            raise FileExistsError(f'{out} exists already; name a new folder for the bag')
        with Bag(bag) as recording:
            source = open_source(
                recording,
                leave=leave,
                topics={'image': image, 'info': info, 'points': points},
                files=(camera_info, extrinsics),
                settings={
                    'rectify': rectify,
                    'sync_slop': sync_slop,
                    'sync_queue_size': sync_queue_size,
                    'filter_hidden_points': filtering(filter_hidden_points),
                    'min_confidence': min_confidence,
                    'depth_encoding': depth_encoding,
                },
                motion={
                    'fixed_frame': fixed_frame,
                    'deskew': deskew,
                    'point_time_field': point_time_field,
                    'point_time_unit': point_time_unit,
                    'lidar_clock_offset': lidar_clock_offset,
                    'accumulate_sweeps': accumulate_sweeps,
                },
                model={
                    'model': model,
                    'weights': weights,
                    'device': device,
                    'precision': precision,
                    'inference_scale': inference_scale,
                    'preserve_lidar': preserve_lidar,
                },
            )
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
        _write_report(report, source)


def bag_info(bag: BagPath) -> None:
    """Describe a recording: its topics, and what `complete bag` would take."""
    from dmd3c_ros.bags.info import describe
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.cli.console import fail

    try:
        with Bag(bag) as recording:
            typer.echo(describe(recording))
    except (OSError, ValueError) as error:
        raise fail(error) from error


def kitti_to_bag(
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
    from dmd3c_ros.bags.kitti import convert_drive, open_drive
    from dmd3c_ros.cli.console import fail, progress_bar, say

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
    recording: 'Bag',
    *,
    leave=(),
    topics: dict,
    files: tuple,
    settings: dict,
    motion: dict,
    model: dict,
) -> 'FrameSource':
    """Frames of a bag, completed with the options that were given."""
    from dmd3c_ros.bags.frames import FrameSource, Rig
    from dmd3c_ros.bags.selection import find_inputs
    from dmd3c_ros.node.settings import MotionSettings, NodeSettings

    rig = Rig(*files)
    chosen = NodeSettings(**given(**settings))
    inputs = find_inputs(
        recording, **topics, info_from_file=rig.camera_file is not None, leave=leave
    )
    return FrameSource(
        recording,
        inputs,
        make_completer(**model),
        chosen,
        rig=rig,
        motion=MotionSettings(**given(**motion)),
    )


def _total(source: 'FrameSource', *, only_new: bool) -> int:
    topics = [t for t in source.inputs if t is not None] if only_new else source.bag.topics
    return sum(topic.count for topic in topics)


def _write_report(path: Path, source: 'FrameSource') -> None:
    import json

    from dmd3c_ros.cli.console import fail
    from dmd3c_ros.io.atomic import write_bytes

    try:
        write_bytes(path, (json.dumps(source.report.to_dict(), indent=2) + '\n').encode())
    except OSError as error:
        raise fail(error) from error

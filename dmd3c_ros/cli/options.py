"""Options that several commands share.

An option that is not given stays None, and the core's default applies. The default in the help
is a separate text, because importing the core would make help slow; a test compares them.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dmd3c_ros.core.completer import DepthCompleter
    from dmd3c_ros.datasets.drives import Drive

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_INPUTS, _PAIRING = 'Inputs', 'Pairing, as in the node'
_MOTION, _COMPLETION = 'Motion, as in the node', 'Completion'


def option(kind: type, help: str, *names: str, default: str = '', **more: Any) -> Any:
    """Type of an option, None if it is not given; by default named after its parameter.

    default: the text shown by help; for flags, which of their two names applies.
    """
    more |= {'show_default': default or False}
    return Annotated[kind | None, typer.Option(*names, help=help, **more)]


def _option(panel: str, kind: type, help: str, *names: str, **more: Any) -> Any:
    """An `option` in a panel of the help."""
    return option(kind, help, *names, rich_help_panel=panel, **more)


def _filtering(drop: bool | None) -> str | None:
    """The setting for a flag on the command line; None if it was not given."""
    return None if drop is None else 'always' if drop else 'never'


Model = _option(
    _COMPLETION,
    str,
    'Network (light, bpnet, ...) or classical method (nearest, interpolation, ip_basic).',
    default='that of the weights; light',
)
Weights = _option(
    _COMPLETION,
    str,
    'Checkpoint file, or a name from `weights list`.',
    default='default of the model',
)
Device = _option(_COMPLETION, str, 'auto, cpu, cuda or cuda:N.', default='auto')
Precision = _option(_COMPLETION, str, 'auto, float32, bfloat16 or float16.', default='auto')
Backend = _option(_COMPLETION, str, 'auto, openvino, eager, compile or onnx.', default='auto')
Threads = _option(_COMPLETION, int, 'CPU threads for the network.', default='one per core', min=0)
Resume = Annotated[bool, typer.Option('--resume', help='Skip frames whose output exists.')]
DepthScale = Annotated[
    float | None,
    typer.Option(
        '--depth-scale',
        min=1.0,
        help='Output units per metre: 256 for KITTI, 5000 for TUM, 1000 for mm.',
        show_default='256',
    ),
]
AllPoints = Annotated[
    bool,
    typer.Option(
        '--all-points',
        help='Keep points of low confidence (below --min-confidence, by default 0.3) '
        'and flying points at depth edges in the cloud.',
    ),
]
JsonFile = option(Path, 'Also write the numbers to this file.', default='none')
# A simulated or a recorded drive, for `open_drive`.
Kitti = option(Path, 'A KITTI raw drive instead of a simulated one.', default='a simulated drive')
DriveFrames = option(int, 'Maximum number of frames.', default='40; all if recorded', min=3)
Scene = option(str, 'street or indoor.', default='street')
_PATTERNS = 'Pattern: hdl64e, hdl32e, vlp32, vlp16, os1_128, solid_state, raster or line_scan.'
SceneLidar = option(str, _PATTERNS, default='hdl64e')
RobotLidar = option(str, _PATTERNS, default='hdl64e; vlp16 indoors')
SceneSeed = option(int, 'Random seed of the simulated scene.', default='7', min=0)

CAMERA_FILES = (
    'Camera calibration: ROS YAML, K or P as text, KITTI (calib_cam_to_cam.txt, calib.txt) or '
    'calib.json of direct_visual_lidar_calibration'
)
_EXTRINSICS_FILES = (
    '4x4 text, YAML with translation (m) and rotation (x, y, z, w), the parameters of a node, '
    'KITTI (calib_velo_to_cam.txt, calib.txt) or calib.json of direct_visual_lidar_calibration'
)
EXTRINSICS = f'T_camera_lidar: {_EXTRINSICS_FILES}.'
_KITTI_CAMERA = 'Camera in a KITTI calibration file.'
CalibrationCamera = Annotated[str, typer.Option(help=_KITTI_CAMERA)]

_THRIFTY = {
    'inference_scale': '--inference-scale 0.5 needs a quarter of it',
    'device': '--device cpu needs no GPU memory',
}

# Groups of options, name -> type, for `with_options`. All but the topics are named like fields of
# the dataclasses that `part` picks them for.
NETWORK = {
    'model': Model,
    'weights': Weights,
    'device': Device,
    'precision': Precision,
    'backend': Backend,
    'threads': Threads,
}
COMPLETION = {
    **NETWORK,
    'inference_scale': _option(
        _COMPLETION,
        float,
        'Run the model at this image scale, 0.1 to 1; depth still has the full size.',
        default='1',
    ),
    'adapt_scale': _option(
        _COMPLETION,
        bool,
        'Reduce images whose points are farther apart than the model was trained for.',
        '--adapt-scale/--keep-scale',
        default='adapt-scale',
    ),
    'preserve_lidar': _option(
        _COMPLETION,
        bool,
        'Keep measured depth exactly where it was measured.',
        '--preserve-lidar/--correct-lidar',
        default='correct-lidar',
    ),
}


def depth_kinds(default: Collection[str]) -> Any:
    """Type of the option for kinds of depth to compare, None where none was given."""
    return option(
        list[str],
        'MODEL[,slam][,confidence=C][,no-edges][,range=M]; raw: sparse depth; exact: the '
        'simulated one; may be repeated.',
        default=' '.join(default),
    )


def preset_option(default: str) -> Any:
    """The option --preset, of a command that has this default."""
    return _option(
        _COMPLETION,
        str,
        'all, or slam to write depth of low confidence and at depth edges as unknown.',
        default=default,
    )


HIDDEN_POINTS = {
    'filter_hidden_points': _option(
        _COMPLETION,
        bool,
        'Drop points that the camera cannot see, or keep them.',
        '--filter-hidden-points/--keep-hidden-points',
        default='filter for classical methods, keep for networks',
        callback=_filtering,
    )
}
SELECTION = {
    'min_confidence': _option(
        _COMPLETION,
        float,
        'Write depth with a lower confidence, 0 to 1, as unknown.',
        default='0',
    ),
    'preset': preset_option('all'),
}
# What `complete` one, kitti and frames complete with.
FRAMES = {**HIDDEN_POINTS, **SELECTION, **COMPLETION}
TOPICS = {
    'image': _option(_INPUTS, str, 'Image topic.', default='by type'),
    'info': _option(_INPUTS, str, 'CameraInfo topic.', default="in the image's namespace"),
    'points': _option(_INPUTS, str, 'PointCloud2 topic.', default='by type'),
}
# What `complete bag` takes from and does with a bag.
BAG = {
    **TOPICS,
    'camera_file': _option(
        _INPUTS,
        Path,
        f'{CAMERA_FILES}, instead of CameraInfo.',
        '--camera-info',
        default="the bag's",
    ),
    'extrinsics_file': _option(
        _INPUTS,
        Path,
        f'T_camera_lidar instead of TF: {_EXTRINSICS_FILES}.',
        '--extrinsics',
        default="the bag's TF",
    ),
    'calibration_camera': _option(
        _INPUTS,
        str,
        _KITTI_CAMERA,
        default='image_02',
    ),
    'rectify': _option(
        _INPUTS,
        bool,
        'Rectify raw images with the distortion from CameraInfo or the calibration file.',
        '--rectify/--rectified',
        default='rectified',
    ),
    'sync_slop': _option(
        _PAIRING,
        float,
        'Maximum difference between the stamps of an image and its sweep, s.',
        default='0.05',
    ),
    'sync_queue_size': _option(
        _PAIRING, int, 'Messages queued per topic while waiting to be paired.', default='10'
    ),
    'fixed_frame': _option(
        _MOTION,
        str,
        "World-fixed TF frame, such as odom: motion-compensate sweeps to the image's time.",
        default='no motion compensation',
    ),
    'deskew': _option(
        _MOTION,
        bool,
        'Compensate every point from its own time, if the sweeps have it (with --fixed-frame).',
        '--deskew/--keep-skew',
        default='deskew',
    ),
    'point_time_field': _option(
        _MOTION, str, 'Field with the time of each point.', default='the usual names'
    ),
    'point_time_unit': _option(
        _MOTION, str, 'auto (by the values), s, ms, us or ns.', default='auto'
    ),
    'lidar_clock_offset': _option(
        _MOTION,
        float,
        "Offset added to the LiDAR's stamps to get the camera's time, s.",
        default='0',
    ),
    'accumulate_sweeps': _option(
        _MOTION, int, 'Number of sweeps to merge (with --fixed-frame).', default='1'
    ),
    **FRAMES,
}


def with_out(help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command accept its output as `COMMAND ... OUT` or `COMMAND ... --out OUT`.

    The command gets it as its parameter `out`, whose default applies if neither is given; without
    a default, one of them is required.
    """

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        default = signature.parameters['out'].default

        @wraps(command)
        def run(out: Path | None, out_option: Path | None, **values: object) -> None:
            if out is not None and out_option is not None:
                raise typer.BadParameter(f'given twice: {out} and --out {out_option}')
            chosen = out or out_option or default
            if chosen is inspect.Parameter.empty:
                raise typer.BadParameter('expected an output: OUT or --out OUT')
            command(out=chosen, **values)

        required = default is inspect.Parameter.empty
        shown = '[required]' if required else f'[default: {default}]'
        argument = typer.Argument(metavar='OUT', help=f'{help} {shown}', show_default=False)
        option = typer.Option('--out', metavar='OUT', help='The same as OUT.', show_default=False)
        parameters = []
        for parameter in signature.parameters.values():
            if parameter.name == 'out':
                for name, kind in (('out', argument), ('out_option', option)):
                    annotation = Annotated[Path | None, kind]
                    parameters.append(
                        inspect.Parameter(name, _KEYWORD, default=None, annotation=annotation)
                    )
            else:
                parameters.append(parameter.replace(kind=_KEYWORD))
        run.__signature__ = inspect.Signature(parameters)
        return run

    return extend


def with_options(group: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a group, in place of its parameter `options`.

    The command gets there, by name, those that were given on the command line.
    """

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: object) -> None:
            options = given(**{name: values.pop(name) for name in group})
            # Every command that takes options of the completion completes.
            with memory_explained(group):
                command(options=options, **values)

        added = [
            inspect.Parameter(name, _KEYWORD, default=None, annotation=option)
            for name, option in group.items()
        ]
        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            one = [parameter.replace(kind=_KEYWORD)]
            parameters += added if parameter.name == 'options' else one
        # What Typer reads.
        run.__signature__ = inspect.Signature(parameters)
        return run

    return extend


@contextmanager
def memory_explained(options: Collection[str] = ('device',)) -> Iterator[None]:
    """If memory runs out, end the command and list the options that help.

    The node switches to a cheaper configuration automatically, because a moving robot needs depth.
    For a recording, the quality of depth is the user's decision.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from dmd3c_ros.core.memory import is_out_of_memory

        from .console import fail

        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition('\n')[0]
        hints = ', '.join(hint for option, hint in _THRIFTY.items() if option in options)
        raise fail(f'out of memory: {hints} ({reason})') from error


def given(**options: object) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def completion_options(options: Mapping[str, Any]) -> list[str]:
    """The given options that concern the completion, as on the command line."""
    completing = COMPLETION.keys() | HIDDEN_POINTS.keys()
    return [f'--{name.replace("_", "-")}' for name in options if name in completing]


def part(options: Mapping[str, Any], settings: type) -> dict[str, Any]:
    """The options that are fields of the dataclass `settings`."""
    return {item.name: options[item.name] for item in fields(settings) if item.name in options}


def make_completer(options: Mapping[str, Any]) -> 'DepthCompleter':
    """Completer from the options that concern it; a bad one ends the command."""
    from dmd3c_ros.core.completer import DepthCompleter
    from dmd3c_ros.core.config import CompleterConfig

    from .console import fail

    try:
        return DepthCompleter(CompleterConfig(**part(options, CompleterConfig)))
    except (OSError, ValueError) as error:
        raise fail(error) from error


def open_drive(kitti: Path | None, frames: int | None, **simulated: object) -> 'Drive':
    """The KITTI raw drive, or else a simulated one of those options that were given."""
    from dmd3c_ros.datasets.drives import RecordedDrive, SimulatedDrive

    if kitti is not None:
        return RecordedDrive(kitti, frames)
    return SimulatedDrive(**given(frames=frames, **simulated))

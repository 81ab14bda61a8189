"""Options that several commands share.

An option that is not given stays None and the core's own default counts: no default is written
a second time here.
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

_INPUTS, _PAIRING = 'Inputs', 'Pairing, as in the node'
_MOTION, _COMPLETION = 'Motion, as in the node', 'Completion'


def _option(panel: str, kind: type, help: str, *names: str, **more: Any) -> Any:
    """Type of an option, None where it is not given; by default under its parameter's name."""
    return Annotated[kind | None, typer.Option(*names, help=help, rich_help_panel=panel, **more)]


def _filtering(drop: bool | None) -> str | None:
    """The setting that a flag of the command line means; None where it was not given."""
    return None if drop is None else 'always' if drop else 'never'


Model = _option(_COMPLETION, str, 'Network, such as light, or interpolation.')
Weights = _option(_COMPLETION, str, "Checkpoint file; the model's own weights when not given.")
Device = _option(_COMPLETION, str, 'auto, cpu, cuda or cuda:N.')
Precision = _option(_COMPLETION, str, 'auto, float32, bfloat16 or float16.')
Out = Annotated[
    Path, typer.Option('--out', help='Folder for the depth pictures; made if missing.')
]
Resume = Annotated[bool, typer.Option('--resume', help='Skip frames whose output exists.')]
DepthScale = Annotated[
    float | None,
    typer.Option(
        '--depth-scale',
        min=1.0,
        help='Output units a metre: 256 for KITTI (default), 5000 for TUM, 1000 for mm.',
    ),
]

_THRIFTY = {
    'inference_scale': '--inference-scale 0.5 takes a quarter of it',
    'device': '--device cpu takes none of a GPU',
}

# Groups of options, name -> type, for `with_options`. All but the topics are named like fields of
# the dataclasses that `part` picks them for.
NETWORK = {'model': Model, 'weights': Weights, 'device': Device, 'precision': Precision}
COMPLETION = {
    **NETWORK,
    'inference_scale': _option(
        _COMPLETION,
        float,
        'Run the model at this share of the size, 0.1 to 1; depth has the full size.',
    ),
    'adapt_scale': _option(
        _COMPLETION,
        bool,
        'Reduce images whose points lie farther apart than the model was trained for.',
        '--adapt-scale/--keep-scale',
    ),
    'preserve_lidar': _option(
        _COMPLETION,
        bool,
        'Keep measured depth exactly where it was measured.',
        '--preserve-lidar/--correct-lidar',
    ),
}
HIDDEN_POINTS = {
    'filter_hidden_points': _option(
        _COMPLETION,
        bool,
        'Drop points that the camera cannot see; else only for the classical baselines.',
        '--filter-hidden-points/--keep-hidden-points',
        callback=_filtering,
    )
}
TOPICS = {
    'image': _option(_INPUTS, str, 'Image topic; else by type.'),
    'info': _option(_INPUTS, str, 'CameraInfo topic; else beside the image.'),
    'points': _option(_INPUTS, str, 'PointCloud2 topic; else by type.'),
}
# What `complete bag` takes from and does with a bag.
BAG = {
    **TOPICS,
    'camera_file': _option(
        _INPUTS,
        Path,
        'Camera calibration of ROS (YAML), or K or P as text, instead of CameraInfo.',
        '--camera-info',
    ),
    'extrinsics_file': _option(
        _INPUTS,
        Path,
        'T_camera_lidar instead of /tf_static: 4x4 text, or YAML with translation (m) and '
        'rotation (x, y, z, w).',
        '--extrinsics',
    ),
    'rectify': _option(
        _INPUTS,
        bool,
        'Images are raw: undo the distortion that CameraInfo, or the calibration file, describes.',
        '--rectify/--rectified',
    ),
    'sync_slop': _option(
        _PAIRING, float, 'Stamps of an image and its sweep differ by less than this, s.'
    ),
    'sync_queue_size': _option(
        _PAIRING, int, 'Messages of each topic that wait for their partners.'
    ),
    'fixed_frame': _option(
        _MOTION,
        str,
        "Frame of TF that stands still, such as odom: sweeps are moved to the image's time.",
    ),
    'deskew': _option(
        _MOTION,
        bool,
        'Move every point from its own time, where the sweeps tell it (with --fixed-frame).',
        '--deskew/--keep-skew',
    ),
    'point_time_field': _option(
        _MOTION, str, 'Field with the time of each point; else by the usual names.'
    ),
    'point_time_unit': _option(_MOTION, str, 's, ms, us or ns; else by the values.'),
    'lidar_clock_offset': _option(
        _MOTION, float, "What is added to the LiDAR's stamps to get the camera's time, s."
    ),
    'accumulate_sweeps': _option(
        _MOTION, int, 'Sweeps to lay over each other (with --fixed-frame).'
    ),
    **HIDDEN_POINTS,
    'min_confidence': _option(
        _COMPLETION, float, 'Depth less sure than this, 0 to 1, is written as unknown.'
    ),
    **COMPLETION,
}


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

        kind = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(name, kind, default=None, annotation=option)
            for name, option in group.items()
        ]
        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            one = [parameter.replace(kind=kind)]
            parameters += added if parameter.name == 'options' else one
        # What Typer reads.
        run.__signature__ = inspect.Signature(parameters)
        return run

    return extend


@contextmanager
def memory_explained(options: Collection[str] = ('device',)) -> Iterator[None]:
    """End the command with those of its options that help, where memory runs out.

    The node goes on in a cheaper way by itself, as a robot that drives needs depth. Here nobody
    waits: how good the depth of a recording shall be is for its owner to say.
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
    """Those of the options given, as on the command line, that say how to complete."""
    completing = COMPLETION.keys() | HIDDEN_POINTS.keys()
    return [f'--{name.replace("_", "-")}' for name in options if name in completing]


def part(options: Mapping[str, Any], settings: type) -> dict[str, Any]:
    """Those of the options that are fields of the dataclass `settings`."""
    return {item.name: options[item.name] for item in fields(settings) if item.name in options}


def make_completer(options: Mapping[str, Any]) -> 'DepthCompleter':
    """Completer of those of the options that concern it; a bad one ends the command."""
    from dmd3c_ros.core.completer import CompleterConfig, DepthCompleter

    from .console import fail

    try:
        return DepthCompleter(CompleterConfig(**part(options, CompleterConfig)))
    except (OSError, ValueError) as error:
        raise fail(error) from error

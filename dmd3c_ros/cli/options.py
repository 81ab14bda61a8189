"""Options that several commands share.

An option that is not given stays None and the core's own default counts: no default is written
a second time here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dmd3c_ros.core.completer import DepthCompleter

_MOTION = 'Motion, as in the node'

Model = Annotated[
    str | None,
    typer.Option(
        '--model', help='Network, such as light, or interpolation.', rich_help_panel='Completion'
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        '--weights',
        help="Checkpoint file; the model's own weights when not given.",
        rich_help_panel='Completion',
    ),
]
Device = Annotated[
    str | None,
    typer.Option('--device', help='auto, cpu, cuda or cuda:N.', rich_help_panel='Completion'),
]
Precision = Annotated[
    str | None,
    typer.Option(
        '--precision',
        help='auto, float32, bfloat16 or float16.',
        rich_help_panel='Completion',
    ),
]
InferenceScale = Annotated[
    float | None,
    typer.Option(
        '--inference-scale',
        help='Run the model at this share of the size, 0.1 to 1; depth has the full size.',
        rich_help_panel='Completion',
    ),
]
PreserveLidar = Annotated[
    bool | None,
    typer.Option(
        '--preserve-lidar/--correct-lidar',
        help='Keep measured depth exactly where it was measured.',
        rich_help_panel='Completion',
    ),
]
HiddenPoints = Annotated[
    bool | None,
    typer.Option(
        '--filter-hidden-points/--keep-hidden-points',
        help='Drop points that the camera cannot see; else only for the classical baselines.',
        rich_help_panel='Completion',
    ),
]
FixedFrame = Annotated[
    str | None,
    typer.Option(
        '--fixed-frame',
        help="Frame of TF that stands still, such as odom: sweeps are moved to the image's time.",
        rich_help_panel=_MOTION,
    ),
]
Deskew = Annotated[
    bool | None,
    typer.Option(
        '--deskew/--keep-skew',
        help='Move every point from its own time, where the sweeps tell it (with --fixed-frame).',
        rich_help_panel=_MOTION,
    ),
]
PointTimeField = Annotated[
    str | None,
    typer.Option(
        '--point-time-field',
        help='Field with the time of each point; else by the usual names.',
        rich_help_panel=_MOTION,
    ),
]
PointTimeUnit = Annotated[
    str | None,
    typer.Option(
        '--point-time-unit',
        help='s, ms, us or ns; else by the values.',
        rich_help_panel=_MOTION,
    ),
]
LidarClockOffset = Annotated[
    float | None,
    typer.Option(
        '--lidar-clock-offset',
        help="What is added to the LiDAR's stamps to get the camera's time, s.",
        rich_help_panel=_MOTION,
    ),
]
AccumulateSweeps = Annotated[
    int | None,
    typer.Option(
        '--accumulate-sweeps',
        help='Sweeps to lay over each other (with --fixed-frame).',
        rich_help_panel=_MOTION,
    ),
]
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


def given(**options: object) -> dict[str, object]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def filtering(drop: bool | None) -> str | None:
    """The setting that a flag of the command line means; None where it was not given."""
    return None if drop is None else 'always' if drop else 'never'


def make_completer(**options: object) -> 'DepthCompleter':
    """Completer of the given options; a bad one ends the command with the reason."""
    from dmd3c_ros.cli.console import fail
    from dmd3c_ros.core.completer import CompleterConfig, DepthCompleter

    try:
        return DepthCompleter(CompleterConfig(**given(**options)))
    except (OSError, ValueError) as error:
        raise fail(error) from error

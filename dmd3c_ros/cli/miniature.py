"""`dmd3c export miniature`: small simulated copies of the data sets, to try the commands on."""

from pathlib import Path
from typing import Annotated

import typer

from .options import with_out


@with_out('Output folder; created if missing.')
def miniature(
    layout: Annotated[
        str,
        typer.Argument(
            help='kitti, kitti-raw, nyu, void, scannet, ddad, dcverse, or folder (images and '
            'sparse depth).'
        ),
    ],
    out: Path,
    frames: Annotated[int, typer.Option(min=1, help='Number of frames to simulate.')] = 4,
    seed: Annotated[int, typer.Option(min=0, help='Random seed of the simulated scene.')] = 0,
) -> None:
    """Simulate a drive and write it in the layout of a data set."""
    from dmd3c_ros.datasets.miniature import write_miniature

    from .console import fail, say

    try:
        write_miniature(layout, out, frames=frames, seed=seed)
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(f'{frames} simulated frames in {out}, in the layout of {layout}')

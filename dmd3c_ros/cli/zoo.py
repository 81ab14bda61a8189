"""`dmd3c export zoo`: simulated sets of every sensor in every kind of scene."""

from pathlib import Path
from typing import Annotated

import typer

from .options import with_out


@with_out('Output folder; created if missing.')
def zoo(
    out: Path,
    frames: Annotated[int, typer.Option(min=1, help='Frames per set.')] = 2,
    seed: Annotated[int, typer.Option(min=0, help='Random seed of scenes, views and noise.')] = 0,
) -> None:
    """Simulate every sensor in every kind of scene, for `evaluate --dataset folder`."""
    from dmd3c_ros.datasets.zoo import write_zoo

    from .console import fail, say

    try:
        count = write_zoo(out, frames=frames, seed=seed)
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(f'{count} sets in {out}; next: dmd3c evaluate --dataset folder --root {out}')

"""`dmd3c demo`: the real node on a real graph, from a simulated or a recorded drive."""

from pathlib import Path
from typing import Annotated

import typer

from .options import NETWORK, Scene, SceneLidar, SceneSeed, given, with_options, with_out


@with_out('Folder for the results.')
@with_options(NETWORK)
def demo(
    out: Path = Path('demo_out'),
    kitti: Annotated[
        Path | None,
        typer.Option(
            show_default='a simulated drive',
            help='Replay this KITTI raw drive instead of the simulator.',
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, show_default='60', help='Number of frames to play.')
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.1, show_default='10', help='Frames per second.')
    ] = None,
    seed: SceneSeed = None,
    scene: Scene = None,
    lidar: SceneLidar = None,
    *,
    options: dict,
) -> None:
    """Play a drive to the completion node over DDS and report the results."""
    from .console import fail, progress_bar, say

    try:
        from dmd3c_ros.demo import DemoConfig, DemoError, run
    except ImportError as error:
        raise fail(f'the demo needs ROS 2 and its Python packages: {error}') from error

    settings = given(
        n_frames=frames, rate_hz=rate, seed=seed, scene=scene, lidar=lidar, kitti=kitti
    )
    try:
        config = DemoConfig(out=out, completion=options, **settings)
        with progress_bar() as progress:
            summary = run(config, progress)
    except (DemoError, OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(summary.as_text())
    say(f'results in {out}/: report.png, drive.webp, cloud.ply, depth/, summary.json')

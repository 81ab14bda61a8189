"""`dmd3c bench odometry`: RGB-D odometry with raw and with completed depth, compared."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Device,
    DriveFrames,
    Kitti,
    Precision,
    Scene,
    SceneLidar,
    SceneSeed,
    Weights,
    given,
    make_completer,
    memory_explained,
    open_drive,
    with_out,
)


@with_out('Folder for the table, the plot and the trajectories.')
@memory_explained()
def odometry(
    out: Path = Path('odometry_out'),
    kitti: Kitti = None,
    frames: DriveFrames = None,
    scene: Scene = None,
    seed: SceneSeed = None,
    lidar: SceneLidar = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            show_default='nearest and light',
            help='Completion model; may be repeated.',
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(show_default='intensity', help='intensity, hybrid or point_to_plane.'),
    ] = None,
    max_depth: Annotated[
        float | None, typer.Option(show_default='60', help='Ignore depth beyond this, m.')
    ] = None,
    max_residual: Annotated[
        float | None,
        typer.Option(
            show_default='0.3', help='Ignore pixels whose depths differ by more than this, m.'
        ),
    ] = None,
    weights: Weights = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Compare RGB-D odometry (Open3D) on sparse and dense depth, with errors by evo.

    The reference is the simulator's trajectory, or KISS-ICP's on the sweeps of a recorded drive.
    Needs `pip install 'dmd3c_ros[simulation,slam]'`.
    """
    from dmd3c_ros.benchmarks.odometry import compare
    from dmd3c_ros.core.baselines import BASELINES
    from dmd3c_ros.io.atomic import check_folder
    from dmd3c_ros.slam.odometry import OdometrySettings

    from .console import fail, progress_bar, say

    try:
        check_folder(out)
        drive = open_drive(kitti, frames, scene=scene, seed=seed, lidar=lidar)
        settings = OdometrySettings(
            **given(method=method, max_depth=max_depth, max_residual=max_residual)
        )
        completers = {
            name: make_completer(
                given(
                    model=name,
                    weights=None if name in BASELINES else weights,
                    device=device,
                    precision=precision,
                )
            )
            for name in model or ('nearest', 'light')
        }
        with progress_bar() as progress:
            tracked = progress.track(drive, description='frames')
            comparison = compare(drive.title, tracked, completers, settings)
        comparison.write(out)
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(comparison.title())
    typer.echo(comparison.table())
    say(f'{out}/: odometry.json, trajectory.png, trajectories')

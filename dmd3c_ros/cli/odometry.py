"""`dmd3c bench odometry`: RGB-D odometry with raw and with completed depth, compared."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Device,
    Precision,
    Weights,
    given,
    make_completer,
    memory_explained,
    with_out,
)


@with_out('Folder for table, image and trajectories.')
@memory_explained()
def odometry(
    out: Path = Path('odometry_out'),
    kitti: Annotated[
        Path | None,
        typer.Option(
            show_default='a simulated drive', help='A KITTI raw drive instead of a simulated one.'
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=3, show_default='40; all of a recorded drive', help='Frames to use, at most.'
        ),
    ] = None,
    scene: Annotated[
        str | None, typer.Option(show_default='street', help='street or indoor.')
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, show_default='7', help='Seed of the simulated scene.')
    ] = None,
    lidar: Annotated[
        str | None,
        typer.Option(show_default='hdl64e', help='Scan pattern of the simulated LiDAR.'),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            show_default='nearest and light',
            help='What completes; may be repeated.',
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(show_default='intensity', help='intensity, hybrid or point_to_plane.'),
    ] = None,
    max_depth: Annotated[
        float | None, typer.Option(show_default='60', help='Farther depth is not used, m.')
    ] = None,
    max_residual: Annotated[
        float | None,
        typer.Option(
            show_default='0.3', help='Pixels whose depths differ by more do not count, m.'
        ),
    ] = None,
    weights: Weights = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Measure what dense depth is worth to RGB-D odometry (Open3D), with errors by evo.

    The reference is the simulator's trajectory, or KISS-ICP's on the sweeps of a recorded drive.
    Needs `pip install 'dmd3c_ros[simulation,slam]'`.
    """
    from dmd3c_ros.benchmarks.odometry import compare
    from dmd3c_ros.core.baselines import BASELINES
    from dmd3c_ros.datasets.drives import RecordedDrive, SimulatedDrive
    from dmd3c_ros.io.atomic import check_folder
    from dmd3c_ros.slam.odometry import OdometrySettings

    from .console import fail, progress_bar, say

    try:
        check_folder(out)
        if kitti is None:
            options = given(scene=scene, seed=seed, lidar=lidar, frames=frames)
            drive = SimulatedDrive(**options)
            source = f'simulated {drive.scene}, seed {drive.seed}, {drive.lidar}'
        else:
            drive, source = RecordedDrive(kitti, frames), f'KITTI {kitti.resolve().name}'
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
            comparison = compare(source, tracked, completers, settings)
        comparison.write(out)
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(comparison.title())
    typer.echo(comparison.table())
    say(f'{out}/: odometry.json, trajectory.png, trajectories')

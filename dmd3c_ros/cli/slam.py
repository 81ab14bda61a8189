"""`dmd3c bench slam`: ORB-SLAM3 with raw and with completed depth, compared."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Device,
    DriveFrames,
    Kitti,
    Precision,
    RobotLidar,
    Scene,
    SceneSeed,
    depth_kinds,
    given,
    make_completer,
    memory_explained,
    open_drive,
    with_out,
)

_KINDS = (
    'monocular',
    'raw',
    'nearest',
    'interpolation',
    'light',
    'light,confidence=0.2',
    'light,slam',
)


@with_out('Folder for sequences, runs, table and plot; existing work is resumed.')
@memory_explained()
def benchmark_slam(
    out: Path = Path('slam_out'),
    environment: Annotated[
        Path,
        typer.Option(help='Virtual environment of ORB-SLAM3 (GPL-3); created if missing.'),
    ] = Path('orbslam3_env'),
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            show_default='trained on simulated images',
            help='DBoW2 vocabulary as text, such as ORBvoc.txt.',
        ),
    ] = None,
    kitti: Kitti = None,
    frames: DriveFrames = None,
    scene: Scene = None,
    seed: SceneSeed = None,
    lidar: RobotLidar = None,
    depth: depth_kinds(_KINDS) = None,
    runs: Annotated[
        int, typer.Option(min=1, help='Runs per depth; ORB-SLAM3 is not deterministic.')
    ] = 5,
    pause: Annotated[
        float, typer.Option(min=0, help='Time for the mapping threads after each frame, s.')
    ] = 0.05,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Compare ORB-SLAM3 (RGB-D) on several kinds of depth, with errors by evo.

    `--depth monocular` runs it without depth, and takes the scale from the reference, which is the
    simulator's trajectory, or KISS-ICP's on the sweeps of a recorded drive. Needs
    `pip install 'dmd3c_ros[simulation,slam]'`, a C compiler, and apt's libgl1, libegl1 and
    libopengl0.
    """
    from dmd3c_ros.benchmarks.slam import DepthKind, run
    from dmd3c_ros.io.atomic import check_folder
    from dmd3c_ros.slam.orbslam3 import OrbSlam3, OrbSlam3Error
    from dmd3c_ros.slam.vocabulary import check as check_vocabulary

    from .console import console, fail, say

    try:
        check_folder(out)
        if vocabulary:
            check_vocabulary(vocabulary)
        kinds = [DepthKind.parse(text) for text in depth or _KINDS]
        lidar = lidar or _lidar_of(scene)
        drive = open_drive(kitti, frames, scene=scene, seed=seed, lidar=lidar)
        out.mkdir(parents=True, exist_ok=True)
        with console().status('') as status:
            status.update('ORB-SLAM3')
            system = OrbSlam3(environment)
            words = vocabulary or _vocabulary(out / 'vocabulary.txt', status.update)
            run(
                out,
                drive,
                kinds,
                lambda model: make_completer(
                    given(model=model, device=device, precision=precision)
                ),
                lambda sequence, sensor: system.track(sequence, words, pause, sensor),
                runs,
                status.update,
            )
    except (OSError, ValueError, ImportError, OrbSlam3Error) as error:
        raise fail(error) from error
    typer.echo((out / 'slam.md').read_text())
    say(f'{out}/: slam.json, slam.md, trajectory.png; a folder for each depth')


def _lidar_of(scene: str | None) -> str | None:
    """What a robot has there; None for the drive's own. HDL-64E are made for cars."""
    return 'vlp16' if scene == 'indoor' else None


def _vocabulary(path: Path, progress) -> Path:
    """The vocabulary at path, trained on simulated images if it is missing."""
    from dmd3c_ros.datasets.drives import SimulatedDrive
    from dmd3c_ros.slam import vocabulary

    if not path.is_file():
        settings = vocabulary.VocabularySettings()
        described = []
        for scene in ('street', 'indoor'):
            for seed in (101, 102, 103):
                progress(f'vocabulary: {scene} {seed}')
                images = (frame.rgb for frame in SimulatedDrive(scene, seed, frames=15))
                described += vocabulary.describe(images, settings.features)
        progress('vocabulary: clusters')
        vocabulary.write(path, vocabulary.train(described, settings), settings)
    return path

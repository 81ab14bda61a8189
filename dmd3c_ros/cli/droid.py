"""`dmd3c bench droid`: DROID-SLAM's own Python code on a CPU, and what arrives in it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Device,
    DriveFrames,
    Kitti,
    Precision,
    Scene,
    SceneSeed,
    depth_kinds,
    given,
    make_completer,
    memory_explained,
    open_drive,
    with_out,
)

_KINDS = ('raw', 'nearest', 'light', 'light,slam')


@with_out('Folder for sequences, runs, table and plot; existing work is resumed.')
@memory_explained()
def benchmark_droid(
    repository: Annotated[
        Path, typer.Option(help='Clone of princeton-vl/DROID-SLAM; need not be built.')
    ],
    out: Path = Path('droid_out'),
    flow: Annotated[
        str | None,
        typer.Option(
            show_default='opencv; network with --weights',
            help="opencv: DIS flow in place of the network's; network: DROID-SLAM's own, slow.",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(show_default='random weights', help="DROID-SLAM's checkpoint, droid.pth."),
    ] = '',
    options: Annotated[
        str, typer.Option(help="Options of the Droid class as YAML, such as '{buffer: 128}'.")
    ] = '{buffer: 256}',
    pixels: Annotated[
        int, typer.Option(min=128 * 128, help='Approximate number of pixels of its images.')
    ] = 60_000,
    kitti: Kitti = None,
    frames: DriveFrames = None,
    scene: Scene = None,
    seed: SceneSeed = None,
    depth: depth_kinds(_KINDS) = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Run DROID-SLAM's own Python code (RGB-D) on a CPU, without CUDA and its extensions.

    Checks what arrives in its depth video and its bundle adjustment, and measures the trajectory.
    The extensions are replaced by PyTorch, and its flow, without its checkpoint, by OpenCV's: the
    errors are not those of DROID-SLAM on a GPU. Needs `pip install 'dmd3c_ros[simulation,slam]'`.
    """
    from dmd3c_ros.benchmarks.slam import DepthKind, run
    from dmd3c_ros.io.atomic import check_folder
    from dmd3c_ros.slam.droid import DroidSettings
    from dmd3c_ros.slam.droid_checkout import DroidCheckout
    from dmd3c_ros.slam.droid_run import ARRIVAL, DroidError, DroidOnCpu

    from .console import console, fail, say

    try:
        check_folder(out)
        kinds = [DepthKind.parse(text) for text in depth or _KINDS]
        if any(kind.sensor != 'RGBD' for kind in kinds):
            raise ValueError('depth: expected kinds with depth, got monocular')
        flow = flow or ('network' if weights else 'opencv')
        checkout = DroidCheckout(str(repository), weights, options)
        checkout.folder()
        if weights:
            checkout.weights()
        system = DroidOnCpu(checkout, DroidSettings(pixels=pixels), flow)
        drive = open_drive(kitti, frames, scene=scene, seed=seed)
        out.mkdir(parents=True, exist_ok=True)
        with console().status('') as status:
            run(
                out,
                drive,
                kinds,
                lambda model: make_completer(
                    given(model=model, device=device, precision=precision)
                ),
                lambda sequence, _: system.track(sequence),
                runs=1,
                progress=status.update,
                title=f'DROID-SLAM on a CPU, flow by {flow}',
            )
    except (OSError, ValueError, ImportError, DroidError) as error:
        raise fail(error) from error
    typer.echo((out / 'slam.md').read_text())
    for kind in kinds:
        arrival = json.loads((out / kind.name / ARRIVAL).read_text())
        facts = (f'{name} {value}' for name, value in arrival.items())
        typer.echo(f'{kind.name}: {", ".join(facts)}')
    say(f'{out}/: slam.json, slam.md, trajectory.png; a folder for each depth')

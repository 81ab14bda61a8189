"""`dmd3c view`: a drive, a bag or the results of a run over time, in Rerun."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from .options import NETWORK, completion_options, make_completer, with_options

if TYPE_CHECKING:
    from dmd3c_ros.viewing.frames import ViewFrame

SCENES = ('street', 'indoor')


@with_options(NETWORK)
def view(
    source: Annotated[
        str,
        typer.Argument(
            help='Folder of a KITTI raw drive; a bag; a folder that complete kitti or demo wrote; '
            'or street or indoor, for a simulated drive.'
        ),
    ],
    save: Annotated[
        Path | None,
        typer.Option(
            show_default='opens the viewer',
            help='Write an .rrd file instead of opening the viewer.',
        ),
    ] = None,
    web: Annotated[
        bool,
        typer.Option('--web', help='Serve the viewer to a browser, until Ctrl-C.'),
    ] = False,
    port: Annotated[
        int,
        typer.Option(min=1, max=65534, help='Port for --web; the recording uses the next one.'),
    ] = 9090,
    drive: Annotated[
        Path | None,
        typer.Option(
            show_default='none',
            help='KITTI raw drive from which complete kitti made the depth, for its images.',
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default='all; 40 for a simulated drive',
            help='Maximum number of frames to show.',
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help='Random seed of a simulated drive.')] = 0,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help='Leave points with a lower confidence out of the cloud.'
        ),
    ] = 0.0,
    *,
    options: dict,
) -> None:
    """Show image, sparse and dense depth, confidence, cloud and trajectory on one timeline.

    Depth in a bag or a folder is used unless --model or similar options are given; otherwise
    frames are completed. Needs
    `pip install 'dmd3c_ros[view]'`, and for the trajectory of a recorded drive `[slam]`.
    """
    from dmd3c_ros.viewing.rerun_log import RerunLog

    from .console import fail, progress_bar, say

    if web and save is not None:
        raise fail('expected either --save or --web, got both')
    web_port = port if web else None
    try:
        if source not in SCENES and not Path(source).exists():
            raise FileNotFoundError(f'{source}: expected a drive, a bag or results, found nothing')
        with ExitStack() as stack, progress_bar() as progress:
            log = stack.enter_context(RerunLog(Path(source).name, save, min_confidence, web_port))
            if log.url:
                say(f'open {log.url} (until Ctrl-C)')
            found = open_frames(stack, source, drive, frames, seed, options)
            count = 0
            for frame in progress.track(islice(found, frames), total=None, description='frames'):
                log.add(frame)
                count += 1
            count += _add_files(log, Path(source))
            if not count:
                raise ValueError(f'{source}: no frame could be shown')
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(f'{count} frames{"" if save is None else f" in {save}: rerun {save}"}')
    if log.url:
        with suppress(KeyboardInterrupt):
            Event().wait()


def open_frames(
    stack: ExitStack, source: str, drive: Path | None, frames: int | None, seed: int, options: dict
) -> 'Iterator[ViewFrame]':
    """Frames of a drive, a bag, a folder of results or a scene name.

    stack: closes opened files. options: of the group NETWORK.
    """
    from dmd3c_ros.datasets.drives import RecordedDrive, SimulatedDrive
    from dmd3c_ros.viewing import frames as viewing

    path = Path(source)
    if source in SCENES and not path.exists():
        simulated = SimulatedDrive(scene=source, seed=seed, frames=frames or SimulatedDrive.frames)
        return viewing.of_drive(simulated, make_completer(options))
    if (path / 'velodyne_points').is_dir():
        return viewing.of_drive(RecordedDrive(path, frames), make_completer(options))
    if not path.is_dir() or any(path.glob('*.mcap*')) or any(path.glob('*.db3*')):
        return _bag_frames(stack, path, options)
    return viewing.of_run(path, None if drive is None else RecordedDrive(drive))


def _bag_frames(stack: ExitStack, path: Path, options: dict) -> 'Iterator[ViewFrame]':
    from dmd3c_ros.bags.completion import OUTPUTS, output_names
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.bags.rgbd import depth_topic
    from dmd3c_ros.viewing import frames as viewing
    from dmd3c_ros.viewing.trajectory import with_trajectory

    from .bag import open_source

    bag = stack.enter_context(Bag(path))
    if not completion_options(options) and depth_topic(bag, '') is not None:
        return with_trajectory(viewing.of_recorded(path), path)
    source = open_source(bag, options, leave=output_names('', tuple(OUTPUTS)).values())
    return with_trajectory(viewing.of_source(source), path)


def _add_files(log, folder: Path) -> int:
    """Show the other results of the demo; returns the number of files."""
    cloud, report = folder / 'cloud.ply', folder / 'report.png'
    if cloud.is_file():
        log.add_cloud(cloud)
    if report.is_file():
        log.add_image(report)
    return cloud.is_file() + report.is_file()

"""`dmd3c export`: frames or networks in formats that other programs read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .bag import open_source
from .options import (
    BAG,
    COMPLETION,
    HIDDEN_POINTS,
    SELECTION,
    Model,
    Weights,
    completion_options,
    given,
    make_completer,
    part,
    preset_option,
    with_options,
    with_out,
)

if TYPE_CHECKING:
    from dmd3c_ros.slam.droid import RgbdFrame

_OF_DRIVES = {*SELECTION, *HIDDEN_POINTS, *COMPLETION}

app = typer.Typer(
    help='Export frames, meshes or networks for other programs.', no_args_is_help=True
)


@app.command()
@with_out('ONNX file to write.')
def onnx(
    out: Path,
    model: Model = None,
    weights: Weights = None,
) -> None:
    """Write a network for ONNX Runtime, for images of any size, checked against PyTorch.

    The light network and LRRU can be exported. Inputs are image (1, 3, H, W), RGB normalized as
    `weights inspect` says; sparse (1, 1, H, W), m, 0 = unknown; and K (1, 3, 3), pixels; H and W
    are multiples of 4, for LRRU of 16. Outputs are depth and confidence (1, 1, H, W). LRRU takes
    two more, (1, 1, H, W), m, which its graph cannot compute: trusted, the sparse depth without
    outliers (`remove_outliers` of dmd3c_ros.core.ops.ip_basic), and filled (`ip_basic` of it).
    """
    from dmd3c_ros.core.config import CompleterConfig
    from dmd3c_ros.core.loading import load_network
    from dmd3c_ros.core.runners import export_onnx
    from dmd3c_ros.io.atomic import check_file

    from .console import console, fail, say

    try:
        check_file(out)
        name, network = load_network(CompleterConfig(**given(model=model, weights=weights)))
        with console().status('exporting'):
            difference = export_onnx(network, name, out)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise fail(error) from error
    say(f'{out}: {name}, at most {difference:.2g} of the depth from PyTorch')


@app.command()
@with_out('Folder to write; it must not exist.')
@with_options({**BAG, 'preset': preset_option('slam')})
def tum(
    source: Annotated[
        Path, typer.Argument(help='Bag, or folder of a KITTI raw drive (..._sync).')
    ],
    out: Path,
    depth_scale: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            show_default='5000',
            help='Units per metre of the depth images: 5000 (up to 13.1 m, the only one '
            'that DROID-SLAM reads), 256 (up to 255 m).',
        ),
    ] = None,
    depth: Annotated[
        str,
        typer.Option(
            help='Depth topic to use from the bag. Default: the one that `complete bag` wrote, '
            'unless --model or similar options are given; otherwise frames are completed.',
            rich_help_panel='Inputs',
        ),
    ] = '',
    *,
    options: dict,
) -> None:
    """Write a sequence in the format of the TUM RGB-D benchmark, for ORB-SLAM3 and DROID-SLAM.

    OUT has rgb/, depth/ (16-bit), associations.txt, calibration.txt and orbslam3.yaml.
    """
    from dmd3c_ros.io.depth_png import TUM_SCALE
    from dmd3c_ros.io.tum import TumWriter

    from .console import fail, progress_bar, say

    options.setdefault('preset', 'slam')
    is_drive = (source / 'velodyne_points').is_dir()
    if is_drive and (depth or not options.keys() <= _OF_DRIVES):
        raise fail(
            f'{source}: a KITTI drive takes completion options only; those for inputs, pairing '
            'and motion (see --help) are for bags'
        )
    frames = _drive_frames(source, options) if is_drive else _bag_frames(source, depth, options)
    try:
        scale = TUM_SCALE if depth_scale is None else depth_scale
        with TumWriter(out, scale) as writer, progress_bar() as progress:
            task = progress.add_task('frames', total=None)
            for frame in frames:
                writer.add(*frame)
                progress.advance(task)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    say(f'{out}: {len(writer)} frames')
    if writer.too_far:
        say(
            f'{writer.too_far / len(writer):.0f} pixels per frame are beyond '
            f'{65535 / writer.depth_scale:.1f} m, the limit of this --depth-scale; '
            'they are written as unknown'
        )


def _drive_frames(drive: Path, options: dict) -> 'Iterator[RgbdFrame]':
    from dmd3c_ros.io.kitti_raw import KittiDrive
    from dmd3c_ros.pipeline.arrays import complete_points, selected_depth
    from dmd3c_ros.pipeline.settings import NodeSettings
    from dmd3c_ros.slam.droid import RgbdFrame

    chosen, frames = NodeSettings(**part(options, NodeSettings)), KittiDrive(drive)
    completer = make_completer(options)
    for frame in frames:
        _, completion = complete_points(
            completer,
            frame.rgb,
            frame.points,
            frames.T_camera_lidar,
            frames.camera,
            chosen.filter_hidden_points,
        )
        depth = selected_depth(completion, chosen)
        yield RgbdFrame(frame.stamp_ns, frame.rgb, depth, frames.camera)


def _bag_frames(path: Path, depth: str, options: dict) -> 'Iterator[RgbdFrame]':
    from dmd3c_ros.bags.completion import OUTPUTS, output_names
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.bags.rgbd import RecordedFrames, completed_frames, depth_topic
    from dmd3c_ros.pipeline.settings import NodeSettings

    from .console import fail, say

    with Bag(path) as bag:
        anew = completion_options(options)
        if depth and anew:
            raise fail(f'--depth uses the depth in the bag, so {anew[0]} would have no effect')
        recorded = None if anew else depth_topic(bag, depth)
        if recorded is None:
            source = open_source(bag, options, leave=output_names('', tuple(OUTPUTS)).values())
            yield from completed_frames(source)
        else:
            camera = {name: options[name] for name in ('image', 'info') if name in options}
            chosen = NodeSettings(**part(options, NodeSettings))
            source = RecordedFrames(bag, recorded.name, **camera, settings=chosen)
            yield from source
        say(source.report.to_text())

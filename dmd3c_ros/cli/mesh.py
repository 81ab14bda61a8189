"""`dmd3c export mesh`: the coloured surface of a drive, for Blender, MeshLab or CloudCompare."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from .options import NETWORK, given, preset_option, with_options, with_out
from .view import SCENES, open_frames


@with_out('PLY file to write.')
@with_options({**NETWORK, 'preset': preset_option('slam')})
def mesh(
    source: Annotated[
        str,
        typer.Argument(
            help='Folder of a KITTI raw drive; a bag; or street or indoor, for a simulated drive.'
        ),
    ],
    out: Path,
    voxel_size: Annotated[
        float | None,
        typer.Option('--voxel', show_default='0.1', help='Voxel size, m.'),
    ] = None,
    max_depth: Annotated[
        float | None, typer.Option(show_default='30', help='Ignore depth beyond this, m.')
    ] = None,
    min_views: Annotated[
        int | None,
        typer.Option(
            show_default='2',
            help='Remove surfaces seen in fewer frames, such as moving objects.',
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            show_default='none',
            help='PNG file for a picture of the map from the points alone next to the map from '
            'depth.',
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1, show_default='all; 40 for a simulated drive', help='Maximum number of frames.'
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help='Random seed of a simulated drive.')] = 0,
    *,
    options: dict,
) -> None:
    """Fuse the dense depth of a drive into one coloured mesh.

    Poses are the simulator's, or KISS-ICP's on the sweeps. Depth in a bag is used unless --model
    or similar options are given. Needs `pip install 'dmd3c_ros[simulation,slam]'`.
    """
    from itertools import islice

    from dmd3c_ros.core.selection import PRESETS, check_preset
    from dmd3c_ros.io.atomic import check_file
    from dmd3c_ros.io.images import write_rgb
    from dmd3c_ros.io.ply import write_ply
    from dmd3c_ros.slam.mapping import MapSettings, PointMap, TsdfMap

    from .console import fail, progress_bar, say
    from .map_picture import draw_maps

    try:
        check_file(out)
        if picture is not None:
            check_file(picture)
        preset = options.pop('preset', 'slam')
        check_preset(preset)
        if source not in SCENES and not Path(source).exists():
            raise FileNotFoundError(f'{source}: expected a drive or a bag, found nothing')
        settings = MapSettings(
            **given(voxel_size=voxel_size, max_depth=max_depth, min_views=min_views)
        )
        surface, points, posed = TsdfMap(settings), PointMap(settings), 0
        with ExitStack() as stack, progress_bar() as progress:
            found = open_frames(stack, source, None, frames, seed, options)
            for frame in progress.track(islice(found, frames), total=None, description='frames'):
                if frame.T_world_camera is None or frame.rgb is None:
                    continue
                posed += 1
                depth = PRESETS[preset].select(frame.dense, frame.confidence)
                surface.add(frame.rgb, depth, frame.camera, frame.T_world_camera)
                if picture is not None and frame.sparse is not None:
                    points.add(frame.rgb, frame.sparse, frame.camera, frame.T_world_camera)
        if not posed:
            raise ValueError(
                f'{source}: expected frames with images and sweeps to compute poses from'
            )
        found = surface.mesh()
        write_ply(out, found.vertices, found.colors, found.triangles)
        if picture is not None:
            write_rgb(picture, draw_maps(points, found, settings.voxel_size))
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    say(f'{out}: {len(found.vertices):,} vertices, {len(found.triangles):,} triangles')

"""`dmd3c complete`: dense depth for recorded frames, without a ROS graph."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    COMPLETION,
    HIDDEN_POINTS,
    DepthScale,
    Out,
    Resume,
    make_completer,
    with_options,
)

if TYPE_CHECKING:
    from dmd3c_ros.io.kitti_raw import KittiDrive
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    from .batch import Job

app = typer.Typer(help='Dense depth for recorded frames.', no_args_is_help=True)

# Of a sweep. A narrow lens sees one point in a thousand of a whole turn.
_LEAST_SEEN = 0.0005
# No LiDAR reaches farther, m.
_FARTHEST = 1000.0
_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')


@app.command()
@with_options(HIDDEN_POINTS | COMPLETION)
def kitti(
    drive: Annotated[Path, typer.Argument(help='Folder of a KITTI raw drive (..._sync).')],
    out: Out,
    camera: Annotated[str, typer.Option(help='Camera folder of the drive.')] = 'image_02',
    resume: Resume = False,
    depth_scale: DepthScale = None,
    *,
    options: dict,
) -> None:
    """Complete every frame of a KITTI raw drive into OUT/NAME.png (16-bit)."""
    from dmd3c_ros.io.kitti_raw import KittiDrive

    from .batch import Job, complete_all
    from .console import fail

    try:
        frames = KittiDrive(drive, camera)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    jobs = [
        Job(name, out / f'{name}.png', _kitti_loader(frames, index))
        for index, name in enumerate(frames.names)
    ]
    complete_all(jobs, options, resume=resume, depth_scale=depth_scale)


@app.command()
@with_options(HIDDEN_POINTS | COMPLETION)
def frames(
    images: Annotated[Path, typer.Option(help='Folder of rectified pictures.')],
    sparse: Annotated[
        Path, typer.Option(help='Folder of 16-bit sparse depth pictures (KITTI, x256).')
    ],
    intrinsics: Annotated[
        Path, typer.Option(help='3x3 text file, or a folder with one for each picture.')
    ],
    out: Out,
    resume: Resume = False,
    depth_scale: DepthScale = None,
    *,
    options: dict,
) -> None:
    """Complete sparse depth pictures into OUT, under the names of the pictures.

    Files belong together by name; the names of KITTI's depth selection are understood.
    """
    from .batch import complete_all
    from .console import fail

    try:
        jobs, failures = _pair_files(images, sparse, intrinsics, out)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    complete_all(jobs, options, resume=resume, depth_scale=depth_scale, failures=failures)


@app.command()
@with_options(HIDDEN_POINTS | COMPLETION)
def one(
    image: Annotated[Path, typer.Argument(help='Rectified picture, or raw with --rectify.')],
    points: Annotated[Path, typer.Argument(help='Cloud: .bin (KITTI), .pcd, .ply or .npy.')],
    intrinsics: Annotated[
        Path, typer.Option(help='K (3x3) or P (3x4) as text, or a ROS camera YAML file.')
    ],
    out: Annotated[Path, typer.Option(help='Depth picture to write (16-bit PNG).')],
    extrinsics: Annotated[
        Path | None,
        typer.Option(
            help='T_camera_lidar: 4x4 text, or YAML with translation (m) and rotation (x, y, z, '
            "w). Without it the points must already be in the camera's optical frame."
        ),
    ] = None,
    rectify: Annotated[
        bool,
        typer.Option(
            '--rectify',
            help='The picture is raw: undo the distortion of the camera YAML file. Depth belongs '
            'to the rectified picture.',
        ),
    ] = False,
    point_fields: Annotated[
        str | None,
        typer.Option(
            help='Names of the float32 numbers of a point in a .bin file, in their order, such '
            "as x,y,z,intensity,time; else KITTI's or nuScenes'."
        ),
    ] = None,
    cloud: Annotated[
        Path | None, typer.Option(help='Also write the dense coloured cloud here (.ply or .pcd).')
    ] = None,
    depth_scale: DepthScale = None,
    *,
    options: dict,
) -> None:
    """Complete a single picture with a cloud file."""
    from dmd3c_ros.io.atomic import check_file, write_together
    from dmd3c_ros.io.clouds import check_cloud_name, cloud_bytes
    from dmd3c_ros.io.depth_png import KITTI_SCALE, depth_png_bytes

    from .batch import complete_inputs
    from .console import fail, say

    fields = None if point_fields is None else [name.strip() for name in point_fields.split(',')]
    try:
        if cloud is not None:
            check_cloud_name(cloud)
        inputs, camera = _load_one(image, points, fields, intrinsics, extrinsics, rectify)
        for path in filter(None, (out, cloud)):
            check_file(path)
        completer = make_completer(options)
        filtering = options.get('filter_hidden_points', 'auto')
        depth = complete_inputs(completer, inputs, filtering).depth
        scale = KITTI_SCALE if depth_scale is None else depth_scale
        files = {out: depth_png_bytes(out, depth, scale)}
        if cloud is not None:
            known = depth > 0
            files[cloud] = cloud_bytes(cloud, camera.backproject(depth)[known], inputs.rgb[known])
        write_together(files)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    say(f'{out}: {(depth > 0).mean():.0%} of {depth.shape[1]}x{depth.shape[0]} pixels')


def _kitti_loader(drive: 'KittiDrive', index: int) -> 'Callable[[], CompletionInputs]':
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    def load() -> CompletionInputs:
        frame = drive[index]
        sparse = project_points(frame.points, drive.T_camera_lidar, drive.camera)
        return CompletionInputs(frame.rgb, sparse, drive.camera.K)

    return load


def _pair_files(
    images: Path, sparse: Path, intrinsics: Path, out: Path
) -> 'tuple[list[Job], dict[str, str]]':
    """Jobs of the pictures that have all their files, and the reasons for the others."""
    from dmd3c_ros.io.calibration import read_intrinsics

    from .batch import Job

    image_files = _by_key(images, _IMAGE_SUFFIXES)
    depths = _by_key(sparse, ('.png',))
    Ks = _by_key(intrinsics, ('.txt',)) if intrinsics.is_dir() else {}
    shared_K = None if intrinsics.is_dir() else read_intrinsics(intrinsics)
    jobs, failures = [], {}
    for key in sorted(image_files.keys() | depths.keys()):
        if key not in image_files:
            failures[depths[key].name] = f'no picture of this name in {images}'
        elif key not in depths:
            failures[image_files[key].name] = f'no sparse depth of this name in {sparse}'
        elif shared_K is None and key not in Ks:
            failures[image_files[key].name] = f'no intrinsics of this name in {intrinsics}'
        else:
            output = out / f'{image_files[key].stem}.png'
            K = (Ks.get(key), shared_K)
            load = _frame_loader(image_files[key], depths[key], *K)
            jobs.append(Job(image_files[key].name, output, load))
    return jobs, failures


def _by_key(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by what their names share across folders.

    KITTI's depth selection names a picture ..._image_N_..., its points ..._velodyne_raw_N_...
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: expected a folder')
    files = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes)
    by_key = {path.stem.replace('_velodyne_raw_', '_image_'): path for path in files}
    if not by_key:
        raise FileNotFoundError(f'{folder}: expected {" or ".join(suffixes)} files, found none')
    return by_key


def _frame_loader(
    image: Path, depth: Path, K_path: Path | None, K
) -> 'Callable[[], CompletionInputs]':
    from dmd3c_ros.io.calibration import read_intrinsics
    from dmd3c_ros.io.depth_png import read_depth_png
    from dmd3c_ros.io.images import read_rgb
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    def load() -> CompletionInputs:
        rgb, sparse = read_rgb(image), read_depth_png(depth)
        if rgb.shape[:2] != sparse.shape:
            raise ValueError(
                f'{depth}: expected {rgb.shape[1]}x{rgb.shape[0]} as {image.name}, '
                f'got {sparse.shape[1]}x{sparse.shape[0]}'
            )
        return CompletionInputs(rgb, sparse, K if K_path is None else read_intrinsics(K_path))

    return load


def _load_one(
    image: Path,
    points: Path,
    fields: list[str] | None,
    intrinsics: Path,
    extrinsics: Path | None,
    rectify: bool,
):
    """Inputs of one completion, and the camera."""
    import numpy as np

    from dmd3c_ros.core.distortion import Rectifier
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.io.calibration import read_camera, read_distortion, read_extrinsics
    from dmd3c_ros.io.clouds import read_cloud
    from dmd3c_ros.io.images import read_rgb
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    rgb = read_rgb(image)
    camera = read_camera(intrinsics, width=rgb.shape[1], height=rgb.shape[0])
    if rectify:
        distortion = read_distortion(intrinsics)
        if distortion is None:
            raise ValueError(f'{intrinsics}: expected a ROS camera YAML file with --rectify')
        rgb = Rectifier(distortion, camera)(rgb)
    T_camera_lidar = np.eye(4) if extrinsics is None else read_extrinsics(extrinsics)
    cloud = read_cloud(points, fields)
    _check_distances(points, cloud, T_camera_lidar)
    sparse = project_points(cloud, T_camera_lidar, camera)
    count = np.count_nonzero(sparse)
    if count < _LEAST_SEEN * len(cloud) or not count:
        raise ValueError(
            f'{points}: {count or "no"} of {len(cloud)} points fall into the image; check the '
            'intrinsics and --extrinsics'
        )
    return CompletionInputs(rgb, sparse, camera.K), camera


def _check_distances(path: Path, cloud, T_camera_lidar) -> None:
    """Raise ValueError for points that no LiDAR beside this camera can have measured."""
    import numpy as np

    if not len(cloud):
        raise ValueError(f'{path}: expected points, the cloud is empty')
    distance = np.linalg.norm(cloud @ T_camera_lidar[:3, :3].T + T_camera_lidar[:3, 3], axis=1)
    far = (distance > _FARTHEST).mean()
    if far > 0.5:
        raise ValueError(
            f'{path}: {far:.0%} of the points lie farther than {_FARTHEST:g} m from the camera; '
            'expected metres in the frame of the LiDAR'
        )

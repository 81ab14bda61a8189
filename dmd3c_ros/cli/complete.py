"""`dmd3c complete`: dense depth for recorded frames, without a ROS graph."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    CAMERA_FILES,
    EXTRINSICS,
    FRAMES,
    AllPoints,
    CalibrationCamera,
    DepthScale,
    Resume,
    option,
    with_options,
    with_out,
)

if TYPE_CHECKING:
    import numpy as np

    from dmd3c_ros.io.kitti_raw import KittiDrive
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    from .batch import Job
    from .frame_files import Paths

app = typer.Typer(help='Compute dense depth for recorded frames.', no_args_is_help=True)

# Of a sweep. A narrow lens sees one point in a thousand of a whole turn.
_LEAST_SEEN = 0.0005
# No LiDAR reaches farther, m.
_FARTHEST = 1000.0
_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')


_FILES = 'Other output files'
_OUT = 'Folder for the depth images; created if missing.'
_CLOUDS = ('ply', 'pcd')

Confidence = Annotated[
    bool,
    typer.Option(
        '--confidence',
        help='Also write OUT/confidence/NAME.png: 8 bits, 255 for 1.',
        rich_help_panel=_FILES,
    ),
]
Preview = Annotated[
    bool,
    typer.Option(
        '--preview',
        help='Also write OUT/preview/NAME.png: image, points, depth and confidence in colour.',
        rich_help_panel=_FILES,
    ),
]
Cloud = Annotated[
    str | None,
    typer.Option(
        '--cloud',
        metavar='ply|pcd',
        help='Also write the dense coloured clouds, OUT/cloud/NAME.ply or .pcd, without '
        'uncertain depth and flying points at depth edges.',
        show_default='none',
        rich_help_panel=_FILES,
    ),
]


_Extrinsics = option(Path, EXTRINSICS, default="the points are in the camera's optical frame")


@app.command()
@with_out(_OUT)
@with_options(FRAMES)
def kitti(
    drive: Annotated[Path, typer.Argument(help='Folder of a KITTI raw drive (..._sync).')],
    out: Path,
    camera: Annotated[str, typer.Option(help='Camera folder of the drive.')] = 'image_02',
    resume: Resume = False,
    depth_scale: DepthScale = None,
    confidence: Confidence = False,
    preview: Preview = False,
    cloud: Cloud = None,
    all_points: AllPoints = False,
    *,
    options: dict,
) -> None:
    """Complete every frame of a KITTI raw drive into OUT/NAME.png (16-bit)."""
    from dmd3c_ros.io.kitti_raw import KittiDrive

    from .batch import Job, check_folders, complete_all
    from .console import fail
    from .frame_files import FrameCompleter

    try:
        frames = KittiDrive(drive, camera)
        jobs = [
            Job(name, _paths(out, name, confidence, preview, cloud), _kitti_loader(frames, index))
            for index, name in enumerate(frames.names)
        ]
        check_folders(jobs)
        completer = FrameCompleter(options, depth_scale, all_points=all_points)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    complete_all(jobs, completer, resume=resume)


@app.command()
@with_out(_OUT)
@with_options(FRAMES)
def frames(
    images: Annotated[Path, typer.Option(help='Folder of rectified images.')],
    sparse: Annotated[
        Path, typer.Option(help='Folder of 16-bit sparse depth images (KITTI, x256).')
    ],
    intrinsics: Annotated[
        Path,
        typer.Option(
            help='3x3 text file, or a folder with one file per image, with the same name.'
        ),
    ],
    out: Path,
    resume: Resume = False,
    depth_scale: DepthScale = None,
    confidence: Confidence = False,
    preview: Preview = False,
    cloud: Cloud = None,
    all_points: AllPoints = False,
    *,
    options: dict,
) -> None:
    """Complete sparse depth images; OUT gets files with the names of the images.

    Files belong together by name; the names of KITTI's depth selection are understood.
    """
    from .batch import check_folders, complete_all
    from .console import fail
    from .frame_files import FrameCompleter

    def paths(name: str) -> 'Paths':
        return _paths(out, name, confidence, preview, cloud)

    try:
        jobs, failures = _pair_files(images, sparse, intrinsics, paths)
        check_folders(jobs)
        completer = FrameCompleter(options, depth_scale, all_points=all_points)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    complete_all(jobs, completer, resume=resume, failures=failures)


@app.command()
@with_out('Depth image to write (16-bit PNG).')
@with_options(FRAMES)
def one(
    image: Annotated[Path, typer.Argument(help='Rectified image, or raw with --rectify.')],
    points: Annotated[
        Path, typer.Argument(help='Cloud: .bin (KITTI, nuScenes), .pcd, .ply or .npy.')
    ],
    out: Path,
    intrinsics: Annotated[Path, typer.Option(help=f'{CAMERA_FILES}.')],
    extrinsics: _Extrinsics = None,
    calibration_camera: CalibrationCamera = 'image_02',
    rectify: Annotated[
        bool,
        typer.Option(
            '--rectify',
            help='Rectify the raw image with the distortion from the ROS YAML or calib.json file. '
            'Depth is registered to the rectified image.',
        ),
    ] = False,
    point_fields: Annotated[
        str | None,
        typer.Option(
            help='Names of the float32 fields of a point in a .bin file, in order, such '
            'as x,y,z,intensity,time.',
            show_default='KITTI or nuScenes',
        ),
    ] = None,
    depth_scale: DepthScale = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            help='Also write the confidence to this file (.png; 8 bits, 255 for 1).',
            show_default='none',
            rich_help_panel=_FILES,
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            help='Also write image, points, depth and confidence in colour, side by side, to '
            'this file.',
            show_default='none',
            rich_help_panel=_FILES,
        ),
    ] = None,
    cloud: Annotated[
        Path | None,
        typer.Option(
            help='Also write the dense coloured cloud to this file (.ply or .pcd), without '
            'uncertain depth and flying points at depth edges.',
            show_default='none',
            rich_help_panel=_FILES,
        ),
    ] = None,
    all_points: AllPoints = False,
    *,
    options: dict,
) -> None:
    """Complete a single image with a cloud file."""
    from dmd3c_ros.io.atomic import check_file, write_together
    from dmd3c_ros.io.clouds import check_cloud_name

    from .console import fail, say
    from .frame_files import FrameCompleter, Paths

    fields = None if point_fields is None else [name.strip() for name in point_fields.split(',')]
    paths = Paths(out, confidence, preview, cloud)
    try:
        if cloud is not None:
            check_cloud_name(cloud)
        rig = intrinsics, extrinsics, calibration_camera
        inputs, visible = _load_one(image, points, fields, *rig, rectify)
        for path in paths.requested():
            check_file(path)
        if len(set(paths.requested())) < len(paths.requested()):
            raise ValueError(f'{out}: expected different file names')
        completer = FrameCompleter(options, depth_scale, all_points=all_points)
        completion = completer.complete(inputs, visible)
        files, count = completer.files(paths, inputs, completion)
        write_together(files)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    height, width = completion.depth.shape
    say(f'{out}: {(completion.depth > 0).mean():.0%} of {width}x{height} pixels')
    if cloud is not None:
        say(f'{cloud}: {count}')


def _paths(out: Path, name: str, confidence: bool, preview: bool, cloud: str | None) -> 'Paths':
    """Where the files of a frame of many go."""
    from .frame_files import Paths

    if cloud is not None and cloud not in _CLOUDS:
        raise ValueError(f'--cloud: expected {" or ".join(_CLOUDS)}, got {cloud!r}')
    return Paths(
        out / f'{name}.png',
        out / 'confidence' / f'{name}.png' if confidence else None,
        out / 'preview' / f'{name}.png' if preview else None,
        out / 'cloud' / f'{name}.{cloud}' if cloud else None,
    )


def _kitti_loader(drive: 'KittiDrive', index: int) -> 'Callable[[], CompletionInputs]':
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    def load() -> CompletionInputs:
        frame = drive[index]
        sparse = project_points(frame.points, drive.T_camera_lidar, drive.camera)
        return CompletionInputs(frame.rgb, sparse, drive.camera.K)

    return load


def _pair_files(
    images: Path, sparse: Path, intrinsics: Path, paths: 'Callable[[str], Paths]'
) -> 'tuple[list[Job], dict[str, str]]':
    """Jobs of the images that have all their files, and the reasons for the others."""
    from dmd3c_ros.io.calibration import read_intrinsics

    from .batch import Job

    image_files = _by_key(images, _IMAGE_SUFFIXES)
    depths = _by_key(sparse, ('.png',))
    Ks = _by_key(intrinsics, ('.txt',)) if intrinsics.is_dir() else {}
    shared_K = None if intrinsics.is_dir() else read_intrinsics(intrinsics)
    jobs, failures = [], {}
    for key in sorted(image_files.keys() | depths.keys()):
        if key not in image_files:
            failures[depths[key].name] = f'no image with this name in {images}'
        elif key not in depths:
            failures[image_files[key].name] = f'no sparse depth with this name in {sparse}'
        elif shared_K is None and key not in Ks:
            failures[image_files[key].name] = f'no intrinsics with this name in {intrinsics}'
        else:
            K = (Ks.get(key), shared_K)
            load = _frame_loader(image_files[key], depths[key], *K)
            jobs.append(Job(image_files[key].name, paths(image_files[key].stem), load))
    return jobs, failures


def _by_key(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by what their names share across folders.

    KITTI's depth selection names an image ..._image_N_..., its points ..._velodyne_raw_N_...
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
    kitti_camera: str,
    rectify: bool,
) -> 'tuple[CompletionInputs, np.ndarray | None]':
    """Inputs of one completion, and which pixels of the image show something; None for all."""
    import numpy as np

    from dmd3c_ros.core.distortion import Rectifier
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.io.calibration import read_camera, read_distortion, read_extrinsics
    from dmd3c_ros.io.clouds import read_cloud
    from dmd3c_ros.io.images import read_rgb
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    from .console import say

    rgb, visible = read_rgb(image), None
    size = rgb.shape[1], rgb.shape[0]
    camera = read_camera(intrinsics, *size, kitti_camera)
    raw = rectify or intrinsics.suffix == '.json'
    distortion = read_distortion(intrinsics) if raw else None
    if rectify:
        if distortion is None:
            raise ValueError(
                f'{intrinsics}: expected distortion parameters with --rectify, from a ROS '
                'camera YAML file or a calib.json'
            )
        rectifier = Rectifier(distortion, camera)
        rgb, visible = rectifier(rgb), rectifier.visible
    elif distortion is not None and distortion.distorted:
        say(
            f'{intrinsics} is a calibration of raw images ({distortion.model}); assuming that '
            f'{image} is rectified; if it is raw, add --rectify'
        )
    T_camera_lidar = np.eye(4)
    if extrinsics is not None:
        T_camera_lidar = read_extrinsics(extrinsics, kitti_camera)
    cloud = read_cloud(points, fields)
    _check_distances(points, cloud, T_camera_lidar)
    sparse = project_points(cloud, T_camera_lidar, camera)
    count = np.count_nonzero(sparse)
    if count < _LEAST_SEEN * len(cloud) or not count:
        raise ValueError(
            f'{points}: {count or "no"} of {len(cloud)} points fall into the image; check the '
            'intrinsics and --extrinsics'
        )
    return CompletionInputs(rgb, sparse, camera.K), visible


def _check_distances(path: Path, cloud, T_camera_lidar) -> None:
    """Raise ValueError for points that a LiDAR near this camera cannot have measured."""
    import numpy as np

    if not len(cloud):
        raise ValueError(f'{path}: expected points, got an empty cloud')
    distance = np.linalg.norm(cloud @ T_camera_lidar[:3, :3].T + T_camera_lidar[:3, 3], axis=1)
    far = (distance > _FARTHEST).mean()
    if far > 0.5:
        raise ValueError(
            f'{path}: {far:.0%} of the points are more than {_FARTHEST:g} m from the camera; '
            'expected metres in the LiDAR frame'
        )

"""`dmd3c calib`: converts calibrations from other programs for the node and the commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import CAMERA_FILES, EXTRINSICS, CalibrationCamera, option, with_out

if TYPE_CHECKING:
    import numpy as np

app = typer.Typer(help='Convert calibrations from other programs.', no_args_is_help=True)

_FROM_SOURCE = 'from SOURCE or files next to it'
_Extrinsics = option(Path, EXTRINSICS, default=_FROM_SOURCE)
_CAMERA, _EXTRINSICS, _NODE = 'camera.yaml', 'extrinsics.yaml', 'node.yaml'


@app.callback()
def calib() -> None:
    """Convert calibrations from other programs."""


@app.command()
@with_out(f'Folder for {_CAMERA}, {_EXTRINSICS} and {_NODE}; created if missing.')
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help=f'{CAMERA_FILES}; or the folder of a KITTI raw drive or its day, or of a '
            'calib.json.'
        ),
    ],
    out: Path,
    extrinsics: _Extrinsics = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help='An image from the camera, for its size, which calib.json and text files lack.',
            show_default=_FROM_SOURCE,
        ),
    ] = None,
    calibration_camera: CalibrationCamera = 'image_02',
) -> None:
    """Write a calibration as a ROS camera file, extrinsics, and parameters of completion_node.

    `ros2 launch dmd3c_ros completion.launch.py params_file:=OUT/node.yaml` takes the last one; the
    camera's driver takes the first as its camera_info_url.
    """
    from dmd3c_ros.io.atomic import check_folder, write_together
    from dmd3c_ros.io.calibration import read_camera, read_distortion, read_extrinsics

    from .console import fail, say

    try:
        source, beside = _locate(source)
        extrinsics = extrinsics or beside
        width, height = _size(source, image, calibration_camera)
        camera = read_camera(source, width, height, calibration_camera)
        distortion = read_distortion(source)
        T = None if extrinsics is None else read_extrinsics(extrinsics, calibration_camera)
        check_folder(out)
        files = {out / _CAMERA: _camera_yaml(camera, distortion)}
        if T is not None:
            is_raw = source.suffix == '.json' and distortion.distorted
            files |= {
                out / _EXTRINSICS: _extrinsics_yaml(T),
                out / _NODE: _node_yaml(T, is_raw),
            }
        write_together({path: text.encode() for path, text in files.items()})
    except (OSError, ValueError) as error:
        raise fail(error) from error
    say(f'{out}/: {", ".join(path.name for path in files)} of a camera of {width}x{height}')
    if T is None:
        say(f'{source} has no LiDAR extrinsics: add them with --extrinsics FILE')
    else:
        say(f'as a TF publisher: {_publisher(T)}')


def _locate(source: Path) -> tuple[Path, Path | None]:
    """The file with the camera, and the one with the LiDAR if there is one."""
    from dmd3c_ros.io.kitti_calibration import CAM_TO_CAM, VELO_TO_CAM, has_extrinsics, is_kitti

    if source.is_dir():
        folders = (source, source.resolve().parent)
        found = [f / name for name in (CAM_TO_CAM, 'calib.json') for f in folders]
        found = [path for path in found if path.is_file()]
        if not found:
            raise FileNotFoundError(f'{source}: expected {CAM_TO_CAM} or calib.json in it')
        source = found[0]
    if source.suffix == '.json':
        return source, source
    if source.suffix in ('.yaml', '.yml') or not is_kitti(source):
        return source, None
    if has_extrinsics(source):
        return source, source
    beside = source.with_name(VELO_TO_CAM)
    return source, beside if beside.is_file() else None


def _size(source: Path, image: Path | None, camera: str) -> tuple[int, int]:
    """Width and height of the camera's images."""
    from dmd3c_ros.io.calibration import image_size
    from dmd3c_ros.io.images import read_rgb
    from dmd3c_ros.io.vlcal_calibration import image_beside

    if image is None:
        size = image_size(source, camera)
        if size is not None:
            return size
        image = image_beside(source) if source.suffix == '.json' else None
    if image is None:
        raise ValueError(
            f'{source}: expected the image size, found none; give an image with --image FILE'
        )
    height, width = read_rgb(image).shape[:2]
    return width, height


def _camera_yaml(camera: Any, distortion: Any) -> str:
    """A calibration file of ROS, as camera_calibration_parsers reads it."""
    import numpy as np

    D = (0.0,) * 5 if distortion is None or not distortion.D else distortion.D
    model = 'plumb_bob' if distortion is None or not distortion.model else distortion.model
    content: dict[str, Any] = {
        'image_width': camera.width,
        'image_height': camera.height,
        'camera_name': 'camera',
        'camera_matrix': _matrix(camera.K if distortion is None else distortion.K),
        'distortion_model': model,
        'distortion_coefficients': _matrix(np.array([D])),
        'rectification_matrix': _matrix(camera.R),
        'projection_matrix': _matrix(camera.P),
    }
    return _dump(content)


def _extrinsics_yaml(T: 'np.ndarray') -> str:
    from dmd3c_ros.core.transforms import quaternion_from_rotation

    translation, rotation = T[:3, 3], quaternion_from_rotation(T[:3, :3])
    return '# T_camera_lidar: points of the LiDAR to the optical frame; m, x y z w.\n' + _dump(
        {'translation': translation.tolist(), 'rotation': rotation.tolist()}
    )


def _node_yaml(T: 'np.ndarray', is_raw: bool) -> str:
    from dmd3c_ros.core.transforms import quaternion_from_rotation

    numbers = [*T[:3, 3].tolist(), *quaternion_from_rotation(T[:3, :3]).tolist()]
    parameters = {'T_camera_lidar': numbers} | ({'rectify': True} if is_raw else {})
    return _dump({'/**/completion_node': {'ros__parameters': parameters}})


def _matrix(values: 'np.ndarray') -> dict[str, Any]:
    rows, cols = values.shape
    return {'rows': rows, 'cols': cols, 'data': values.ravel().tolist()}


def _dump(content: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=99)


def _publisher(T: 'np.ndarray') -> str:
    """The command that publishes the extrinsics as a transform."""
    from dmd3c_ros.core.transforms import quaternion_from_rotation

    names = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')
    values = (*T[:3, 3], *quaternion_from_rotation(T[:3, :3]))
    numbers = ' '.join(f'--{name} {value:.6f}' for name, value in zip(names, values, strict=True))
    frames = '--frame-id CAMERA --child-frame-id LIDAR'
    return f'ros2 run tf2_ros static_transform_publisher {numbers} {frames}'

"""Settings of the pipeline: the only home of their defaults, units and ranges.

The docstring of each class describes each setting; `dmd3c_ros.node.parameters` turns both into ROS
parameters of `completion_node`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from dmd3c_ros.core.obstacles import ObstacleSettings
from dmd3c_ros.core.projection import FILTERING
from dmd3c_ros.core.ranges import check_ranges, ranged, same_as
from dmd3c_ros.core.selection import check_preset
from dmd3c_ros.messages.images import DEPTH_ENCODINGS
from dmd3c_ros.messages.transforms import matrix_from_numbers

IMAGE_TRANSPORTS = ('raw', 'compressed')
POINT_TIME_UNITS = ('auto', 's', 'ms', 'us', 'ns')
# Frames of what the package itself plays or converts.
CAMERA_FRAME, LIDAR_FRAME = 'camera', 'lidar'


@dataclass(frozen=True)
class NodeSettings:
    """How `completion_node` pairs its inputs and what it publishes.

    autostart: configure and activate at start, without a lifecycle manager.
    T_camera_lidar: transform from the LiDAR's frame to the camera's optical frame, as 7 numbers
        x y z qx qy qz qw (m, unit quaternion; the LiDAR's pose in the camera's frame) or as the
        16 numbers of a 4x4 matrix, row by row. Empty: it is looked up in TF, from the cloud's
        frame_id to the image's.
    image_transport: 'raw', or 'compressed' for a sensor_msgs/CompressedImage (JPEG or PNG) on the
        image's topic with /compressed behind.
    rectify: images are raw: undo the distortion that CameraInfo describes. The outputs belong to
        the rectified image, `rectified/image_rect`.
    sync_slop: largest difference between the stamps of an image and a sweep that belong
        together, s.
    sync_queue_size: messages of each input that wait for their partners.
    filter_hidden_points: drop points that the LiDAR sees past a surface which hides them from
        the camera (see hidden_points): 'always', 'never', or 'auto' for the classical baselines
        only, since networks tell such points by the image.
    min_confidence: depth that the model is less sure of is published as unknown, 0 to 1.
    preset: which depth is published: 'all', or 'slam' without what makes SLAM drift: what is
        unsure or hangs on an edge; min_confidence beside it can only leave out more.
    depth_encoding: of the depth images: '32FC1' (m, NaN unknown) or '16UC1' (mm, 0 unknown).
    color_near: depth drawn red in the colour map, m.
    color_far: depth drawn blue in the colour map, m.
    max_latency: where frames take longer than this, s, from the arrival of their inputs to the
        last output, they are completed at a smaller scale until they do not; 0: never.
    points_stride: depth_registered/points has every n-th row and column of the image.
    obstacle_voxel_size: edge of the cubes of which each holds one point of `obstacles` at most, m.
    obstacle_min_range: nearest points of `obstacles`, m from the camera.
    obstacle_max_range: farthest points of `obstacles`, m from the camera.
    obstacle_min_height: lowest points of `obstacles`, m above the camera along its own up axis;
        what is below the camera has a negative height.
    obstacle_max_height: highest points of `obstacles`, m above the camera.
    obstacle_min_points: pixels that a cube must hold to count, so that single wrong ones do not;
        fewer where it is so far away that it covers fewer.
    lazy: subscribe to the inputs only while somebody subscribes to an output; otherwise always.
    report_period: time between two reports in the log and on /diagnostics, s.
    warm_up_width: width of the image, pixels, that the model is run on before the node is active;
        give the camera's, so that the first frames are answered as fast as all others.
    warm_up_height: its height, pixels.
    """

    autostart: bool = True
    T_camera_lidar: tuple[float, ...] = ()
    image_transport: str = 'raw'
    rectify: bool = False
    sync_slop: float = ranged(0.05, 0.0, 10.0)
    sync_queue_size: int = ranged(10, 1, 1000)
    filter_hidden_points: str = 'auto'
    min_confidence: float = ranged(0.0, 0.0, 1.0)
    preset: str = 'all'
    depth_encoding: str = '32FC1'
    color_near: float = ranged(1.0, 0.01, 1000.0)
    color_far: float = ranged(80.0, 0.01, 1000.0)
    max_latency: float = ranged(0.0, 0.0, 60.0)
    points_stride: int = ranged(1, 1, 64)
    obstacle_voxel_size: float = same_as(ObstacleSettings, 'voxel_size')
    obstacle_min_range: float = same_as(ObstacleSettings, 'min_range')
    obstacle_max_range: float = same_as(ObstacleSettings, 'max_range')
    obstacle_min_height: float = same_as(ObstacleSettings, 'min_height')
    obstacle_max_height: float = same_as(ObstacleSettings, 'max_height')
    obstacle_min_points: int = same_as(ObstacleSettings, 'min_points')
    lazy: bool = True
    report_period: float = ranged(5.0, 0.1, 3600.0)
    # Small, because a large network takes long on a CPU.
    warm_up_width: int = ranged(320, 16, 16384)
    warm_up_height: int = ranged(96, 16, 16384)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.T_camera_lidar:
            try:
                matrix_from_numbers(self.T_camera_lidar)
            except ValueError as error:
                raise ValueError(f'T_camera_lidar: {error}') from error
        if self.filter_hidden_points not in FILTERING:
            raise ValueError(
                f'filter_hidden_points: expected one of {", ".join(FILTERING)}; '
                f'got {self.filter_hidden_points!r}'
            )
        check_preset(self.preset)
        if self.depth_encoding not in DEPTH_ENCODINGS:
            raise ValueError(
                f'depth_encoding: expected {" or ".join(DEPTH_ENCODINGS)}, '
                f'got {self.depth_encoding!r}'
            )
        if self.image_transport not in IMAGE_TRANSPORTS:
            raise ValueError(
                f'image_transport: expected {" or ".join(IMAGE_TRANSPORTS)}, '
                f'got {self.image_transport!r}'
            )
        if self.color_near >= self.color_far:
            raise ValueError(
                f'color_near: expected less than color_far {self.color_far}, got {self.color_near}'
            )
        try:
            _ = self.obstacles
        except ValueError as error:
            raise ValueError(f'obstacle_{error}') from error

    @property
    def obstacles(self) -> ObstacleSettings:
        """Those of the settings that begin with obstacle_."""
        names = [item.name for item in fields(ObstacleSettings)]
        return ObstacleSettings(**{name: getattr(self, f'obstacle_{name}') for name in names})


@dataclass(frozen=True)
class MotionSettings:
    """How sweeps are brought to where the camera sees them when it takes the image.

    fixed_frame: frame of TF that stands still while the rig moves through it, such as 'odom'.
        Sweeps are moved from their time to the image's over it. Empty: only the extrinsics of the
        sensors counts, at the sweep's stamp.
    deskew: move every point from its own time, where the cloud has a field with times and
        fixed_frame is given.
    point_time_field: field with the time of each point; empty for the first of t, time,
        timestamp, time_stamp, offset_time, time_offset and ts that the cloud has.
    point_time_unit: of that field, 's', 'ms', 'us' or 'ns'; 'auto' takes the coarsest in which
        a sweep lasts less than a second.
    lidar_clock_offset: what has to be added to the LiDAR's stamps to get the camera's time, s.
        Pairing counts it in. TF is taken to be in the camera's time.
    accumulate_sweeps: sweeps that are laid over each other, the paired one and those before it;
        more than 1 needs fixed_frame.
    transform_timeout: how long a frame waits for transforms that are not there yet, s.
    """

    fixed_frame: str = ''
    deskew: bool = True
    point_time_field: str = ''
    point_time_unit: str = 'auto'
    lidar_clock_offset: float = ranged(0.0, -3600.0, 3600.0)
    accumulate_sweeps: int = ranged(1, 1, 100)
    transform_timeout: float = ranged(0.1, 0.0, 10.0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.point_time_unit not in POINT_TIME_UNITS:
            raise ValueError(
                f'point_time_unit: expected one of {", ".join(POINT_TIME_UNITS)}, '
                f'got {self.point_time_unit!r}'
            )
        if self.accumulate_sweeps > 1 and not self.fixed_frame:
            raise ValueError(
                f'accumulate_sweeps: expected 1 without fixed_frame, got {self.accumulate_sweeps}'
            )

    @property
    def lidar_offset_ns(self) -> int:
        """lidar_clock_offset in ns."""
        return round(self.lidar_clock_offset * 1e9)

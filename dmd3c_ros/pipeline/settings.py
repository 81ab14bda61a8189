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
# Frame ids of the package's own players and conversions.
CAMERA_FRAME, LIDAR_FRAME = 'camera', 'lidar'


@dataclass(frozen=True)
class NodeSettings:
    """How `completion_node` pairs its inputs and what it publishes.

    autostart: configure and activate at start, without a lifecycle manager.
    T_camera_lidar: transform from the LiDAR frame to the camera's optical frame: 7 numbers
        x y z qx qy qz qw (m, unit quaternion; the LiDAR's pose in the camera frame), or the 16
        numbers of a 4x4 matrix in row-major order. If empty, the transform from the cloud's
        frame_id to the image's is looked up in TF.
    image_transport: 'raw', or 'compressed' to subscribe to sensor_msgs/CompressedImage (JPEG or
        PNG) on the image topic with the suffix /compressed.
    rectify: input images are raw: rectify them with the distortion from CameraInfo. All outputs
        then refer to the rectified image, `rectified/image_rect`.
    sync_slop: maximum difference between the stamps of an image and its sweep, s.
    sync_queue_size: number of messages queued per input while waiting to be paired.
    filter_hidden_points: drop points that the LiDAR sees but a nearer surface hides from the
        camera (see hidden_points): 'always', 'never', or 'auto' (only for the classical
        baselines: networks recognize such points from the image, and light itself drops those
        that nearer ones enclose).
    min_confidence: depth with a lower confidence is published as unknown, 0 to 1.
    preset: which depth is published: 'all', or 'slam' to remove depth that makes SLAM drift (low
        confidence or at depth edges); min_confidence can remove more.
    depth_encoding: encoding of the depth images: '32FC1' (m, NaN: unknown) or '16UC1' (mm, 0:
        unknown).
    color_near: depth shown as red in the colour map, m.
    color_far: depth shown as blue in the colour map, m.
    max_latency: maximum time from the arrival of a frame's inputs to its last output, s. While
        frames take longer, they are completed at a reduced scale; 0 turns this off.
    niceness: niceness of the node's threads: the lower, the more they get of a busy processor.
        Less than 0 takes the capability CAP_SYS_NICE or a limit for it; 0 leaves it as it is.
    points_stride: depth_registered/points has every n-th row and column of the image.
    obstacle_voxel_size: edge length of the voxels of `obstacles`, each with at most one point, m.
    obstacle_min_range: minimum range of points in `obstacles`, m from the camera.
    obstacle_max_range: maximum range of points in `obstacles`, m from the camera.
    obstacle_min_height: minimum height of points in `obstacles`, m above the camera along its own
        up axis; negative below the camera.
    obstacle_max_height: maximum height of points in `obstacles`, m above the camera.
    obstacle_min_points: pixels that a voxel must contain to count as occupied, to reject
        outliers; fewer for distant voxels that cover fewer pixels.
    lazy: subscribe to the inputs only while an output has a subscriber; if false, always.
    report_period: time between reports in the log and on /diagnostics, s.
    warm_up_width: width of the image that the model is warmed up with before the node becomes
        active, pixels. Set it to the camera's, so that the first frames are not slower.
    warm_up_height: height of that image, pixels.
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
    niceness: int = ranged(0, -20, 19)
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
        """The settings that begin with obstacle_."""
        names = [item.name for item in fields(ObstacleSettings)]
        return ObstacleSettings(**{name: getattr(self, f'obstacle_{name}') for name in names})


@dataclass(frozen=True)
class MotionSettings:
    """How sweeps are motion-compensated to the time of the image.

    fixed_frame: world-fixed TF frame, such as 'odom', through which sweeps are motion-compensated
        from their time to the image's. If empty, only the extrinsics at the sweep's stamp are
        used.
    deskew: compensate every point from its own time, if the cloud has a field with times and
        fixed_frame is set.
    point_time_field: field with the time of each point; if empty, the first of t, time,
        timestamp, time_stamp, offset_time, time_offset and ts that the cloud has.
    point_time_unit: unit of that field, 's', 'ms', 'us' or 'ns'; 'auto' takes the coarsest unit
        in which a sweep lasts less than a second.
    lidar_clock_offset: offset added to the LiDAR's stamps to get the camera's time, s, also for
        pairing. TF is assumed to use the camera's time.
    accumulate_sweeps: number of sweeps to merge, the paired one and those before it; more than 1
        requires fixed_frame.
    transform_timeout: how long a frame waits for a missing transform, s.
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

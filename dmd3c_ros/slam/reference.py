"""Reference trajectories: a simulation's own, else LiDAR odometry on the sweeps.

KISS-ICP: Vizzo et al., "KISS-ICP: In defense of point-to-point ICP", RA-L 2023.
"""

from __future__ import annotations

import numpy as np

from dmd3c_ros.datasets.drives import DriveFrame


class Reference:
    """Poses T_first_camera (4, 4), m, of a drive's frames, given one by one.

    name: where they come from. Raises ImportError if poses are not known and kiss-icp, which
    would compute them, is not installed.
    """

    def __init__(self) -> None:
        self.name = ''
        self.poses: list[np.ndarray] = []
        self._first: np.ndarray | None = None
        self._icp: _SweepOdometry | None = None

    def add(self, frame: DriveFrame) -> np.ndarray:
        """Pose of the frame's rectified camera in that of the first frame."""
        pose = frame.T_world_camera
        if pose is None:
            self._icp = self._icp or _SweepOdometry()
            T_camera_lidar = frame.camera.T_rectified @ frame.T_camera_lidar
            pose = self._icp.add(frame.points) @ np.linalg.inv(T_camera_lidar)
        self.name = 'simulator' if self._icp is None else 'kiss-icp on the sweeps'
        if self._first is None:
            self._first = np.linalg.inv(pose)
        self.poses.append(self._first @ pose)
        return self.poses[-1]


# Above the LiDAR, m: over the roofs of cars (KITTI's LiDAR is 1.73 m above the road), as cars that
# drive along pull the odometry with them.
_ABOVE_TRAFFIC = 0.6
# Fewer points than this, of buildings and trees, do not fix a pose.
_ENOUGH = 1000
_VOXEL = 0.3  # m


class _SweepOdometry:
    """KISS-ICP on what stands above the traffic; sweeps are taken as deskewed, as KITTI's are."""

    def __init__(self) -> None:
        try:
            from kiss_icp.config.parser import load_config
            from kiss_icp.kiss_icp import KissICP
        except ImportError as error:
            raise ImportError(
                f"a drive without poses needs kiss-icp: pip install 'dmd3c_ros[slam]' ({error})"
            ) from error
        config = load_config(None)
        config.data.deskew = False
        config.mapping.voxel_size = _VOXEL
        self._odometry = KissICP(config)

    def add(self, points: np.ndarray) -> np.ndarray:
        """T_world_lidar (4, 4) of the sweep (N, 3 or more), whose z axis points up."""
        high = points[points[:, 2] > _ABOVE_TRAFFIC]
        points = high if len(high) >= _ENOUGH else points
        self._odometry.register_frame(points[:, :3].astype(np.float64), np.empty(0))
        return self._odometry.last_pose.copy()

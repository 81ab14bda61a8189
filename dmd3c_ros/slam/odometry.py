"""Frame-to-frame RGB-D odometry with Open3D, to measure what depth is worth to it.

Direct alignment of two RGB-D frames over an image pyramid: Steinbruecker, Sturm and Cremers
("Real-time visual odometry from dense RGB-D images", ICCV workshops 2011) for the photometric
term, Park, Zhou and Koltun ("Colored point cloud registration revisited", ICCV 2017) for the
hybrid one, as Open3D implements them in `t.pipelines.odometry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmd3c_ros.core.camera import Camera

METHODS = {'intensity': 'Intensity', 'hybrid': 'Hybrid', 'point_to_plane': 'PointToPlane'}


@dataclass(frozen=True)
class OdometrySettings:
    """How two frames are aligned. Open3D's own defaults are for rooms; these are for streets.

    method: 'intensity', 'hybrid' or 'point_to_plane'.
    max_depth: depth beyond this is ignored, m (Open3D: 3).
    max_residual: pixels whose depths differ by more are ignored, m (Open3D: 0.07). This excludes
        moving objects and wrong depth.
    depth_huber: depth residuals beyond it count linearly, m.
    intensity_huber: intensity residuals beyond it count linearly, of 1.
    iterations: at most, on each level of the pyramid, the coarsest first.
    """

    method: str = 'intensity'
    max_depth: float = 60.0
    max_residual: float = 0.3
    depth_huber: float = 0.1
    intensity_huber: float = 0.1
    iterations: tuple[int, ...] = (20, 10, 5)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f'method: expected one of {", ".join(METHODS)}; got {self.method!r}')
        for name in ('max_depth', 'max_residual', 'depth_huber', 'intensity_huber'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: expected a positive number, got {getattr(self, name)}')


class RgbdOdometry:
    """Tracks a camera by its RGB-D frames, each against the previous one.

    The optimization starts from the last motion; for the second frame from `motion` (4, 4),
    T_last_this, if it was set, else from standstill. A frame that cannot be aligned is counted in
    `lost` and continues with the last motion.
    Raises ImportError without Open3D.
    """

    def __init__(self, camera: Camera, settings: OdometrySettings | None = None) -> None:
        import open3d

        self._settings = settings or OdometrySettings()
        self._open3d, self._odometry = open3d, open3d.t.pipelines.odometry
        self._K = open3d.core.Tensor(np.ascontiguousarray(camera.K))
        self._criteria = [
            self._odometry.OdometryConvergenceCriteria(n) for n in self._settings.iterations
        ]
        self._last: Any = None
        self.motion = np.eye(4)
        self.poses: list[np.ndarray] = []
        self.lost = 0

    def add(self, rgb: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Pose T_first_camera (4, 4), m.

        rgb: (H, W, 3) uint8. depth: (H, W) float32, m, 0 = unknown.
        """
        image = self._open3d.t.geometry.Image
        frame = self._open3d.t.geometry.RGBDImage(
            image(self._open3d.core.Tensor(np.ascontiguousarray(rgb))),
            image(self._open3d.core.Tensor(np.ascontiguousarray(depth, dtype=np.float32))),
        )
        if self._last is None:
            self.poses.append(np.eye(4))
        else:
            self.motion = self._align(frame)
            self.poses.append(self.poses[-1] @ self.motion)
        self._last = frame
        return self.poses[-1]

    def _align(self, frame: Any) -> np.ndarray:
        settings = self._settings
        try:
            result = self._odometry.rgbd_odometry_multi_scale(
                frame,
                self._last,
                self._K,
                self._open3d.core.Tensor(self.motion),
                1.0,
                settings.max_depth,
                self._criteria,
                getattr(self._odometry.Method, METHODS[settings.method]),
                self._odometry.OdometryLossParams(
                    settings.max_residual, settings.depth_huber, settings.intensity_huber
                ),
            )
        except RuntimeError:
            # Open3D's way to say that too few pixels correspond to solve for a motion.
            self.lost += 1
            return self.motion
        return result.transformation.numpy()

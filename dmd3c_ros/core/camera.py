"""Pinhole camera of a rectified image, as sensor_msgs/CameraInfo describes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from .transforms import transform

_LARGEST = 1e9
_ENTRIES = {(0, 0): 'fx', (1, 1): 'fy', (0, 2): 'cx', (1, 2): 'cy'}


@dataclass(frozen=True, eq=False)
class Camera:
    """Projection of a rectified image: pixel ~ P [R X; 1].

    X is a point in the camera's optical frame (REP 103: x right, y down, z forward; metres).
    Integer pixel coordinates are pixel centres. Depth, and the points that `backproject` computes
    from it, are in the rectified frame, in which pixel ~ K X: the two frames differ for the second
    camera of a stereo pair, and for one that rectification rotates.

    P: (3, 4) projection matrix, pixels. The fourth column places the optical centre of a camera
        that shares its frame with another one (a stereo pair).
    width, height: image size, pixels.
    R: (3, 3) rectifying rotation, from the optical frame to the rectified frame.
    """

    P: np.ndarray
    width: int
    height: int
    R: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        P = np.asarray(self.P, np.float64)
        R = np.asarray(self.R, np.float64)
        if P.shape != (3, 4):
            raise ValueError(f'camera: expected a 3x4 projection matrix P, got shape {P.shape}')
        if R.shape != (3, 3):
            raise ValueError(f'camera: expected a 3x3 rotation R, got shape {R.shape}')
        # Anything larger is no number of pixels, and overflows in float32.
        wrong = np.argwhere(~(np.abs(P) < _LARGEST))
        if len(wrong):
            row, column = wrong[0]
            name = _ENTRIES.get((row, column), f'P[{row}, {column}]')
            raise ValueError(
                f'camera is not calibrated: expected numbers of pixels in P, got {name}='
                f'{P[row, column]:g}'
            )
        if not (P[0, 0] > 0 and P[1, 1] > 0):
            raise ValueError(
                'camera is not calibrated: expected positive focal lengths in P, got '
                f'fx={P[0, 0]:g}, fy={P[1, 1]:g}'
            )
        # Entries first: a product of numbers of any size overflows.
        if not (np.abs(R) < 1.1).all() or not np.allclose(R @ R.T, np.eye(3), atol=1e-3):
            raise ValueError(
                'camera: expected a rotation matrix R, got one that is not orthonormal'
            )
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f'camera: expected a positive size, got {self.width}x{self.height}')
        object.__setattr__(self, 'P', P)
        object.__setattr__(self, 'R', R)

    @classmethod
    def from_K(cls, K: np.ndarray, width: int, height: int) -> Camera:
        """Camera at the origin of its optical frame with intrinsics K (3, 3), pixels."""
        K = np.asarray(K, np.float64)
        if K.shape != (3, 3):
            raise ValueError(f'camera: expected 3x3 intrinsics K, got shape {K.shape}')
        return cls(np.hstack([K, np.zeros((3, 1))]), width, height)

    @classmethod
    def from_matrices(
        cls, P: np.ndarray, width: int, height: int, R: np.ndarray | None = None
    ) -> Camera:
        """Camera from CameraInfo's flat P (12) and R (9); an all-zero R counts as not given."""
        P = np.asarray(P, np.float64).reshape(3, 4)
        R = np.eye(3) if R is None else np.asarray(R, np.float64).reshape(3, 3)
        return cls(P, width, height, R if R.any() else np.eye(3))

    @property
    def K(self) -> np.ndarray:
        """(3, 3) intrinsics of the rectified image, pixels."""
        return self.P[:, :3].copy()

    @property
    def T_rectified(self) -> np.ndarray:
        """T_rectified_optical (4, 4), m: P = K [I | t] has the rectified frame's origin at -t."""
        return transform(self.R, np.linalg.solve(self.P[:, :3], self.P[:, 3]))

    @property
    def rectified(self) -> Camera:
        """This camera with the rectified frame for its own: R is the identity, P is [K | 0]."""
        return Camera.from_K(self.P[:, :3], self.width, self.height)

    @property
    def fx(self) -> float:
        """Focal length along x, pixels."""
        return float(self.P[0, 0])

    @property
    def fy(self) -> float:
        """Focal length along y, pixels."""
        return float(self.P[1, 1])

    @property
    def cx(self) -> float:
        """Principal point's column, pixels."""
        return float(self.P[0, 2])

    @property
    def cy(self) -> float:
        """Principal point's row, pixels."""
        return float(self.P[1, 2])

    def crop(self, left: int, top: int, width: int, height: int) -> Camera:
        """Camera of the window whose upper left pixel is (left, top); it may reach outside."""
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
        return Camera(shift @ self.P, width, height, self.R)

    def pad(self, left: int, top: int, right: int, bottom: int) -> Camera:
        """Camera of the image with so many pixels added at its sides."""
        return self.crop(-left, -top, self.width + left + right, self.height + top + bottom)

    def flipped(self) -> Camera:
        """Camera of the image mirrored left to right, of a world that is mirrored with it."""
        pixels = np.array([[-1, 0, self.width - 1], [0, 1, 0], [0, 0, 1.0]])
        world = np.diag([-1.0, 1, 1, 1])
        R = world[:3, :3] @ self.R @ world[:3, :3]
        return Camera(pixels @ self.P @ world, self.width, self.height, R)

    def scaled(self, width: int, height: int) -> Camera:
        """Camera of the image resized to width x height (pixel areas, not corners, align)."""
        resize = resizing(self.height, self.width, height, width)
        return Camera(resize @ self.P, width, height, self.R)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates (N, 2) and depths (N,), in m, of points (N, 3) in the optical frame.

        Coordinates of points with depth <= 0 have no meaning.
        """
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f'points: expected (N, 3), got {points.shape}')
        uvw = points @ (self.P[:, :3] @ self.R).T + self.P[:, 3]
        z = uvw[:, 2]
        with np.errstate(divide='ignore', invalid='ignore'):
            return uvw[:, :2] / z[:, None], z

    def strided(self, stride: int) -> Camera:
        """Camera of the image's every stride-th row and column, the first among them."""
        fewer = np.diag([1 / stride, 1 / stride, 1.0])
        height, width = (-(-size // stride) for size in (self.height, self.width))
        return Camera(fewer @ self.P, width, height, self.R)

    def backproject(self, depth: np.ndarray) -> np.ndarray:
        """Points (H, W, 3) float32 of the rectified frame, m, of a depth image (H, W), m.

        As depth_image_proc and RTAB-Map make them, which know neither R nor P's fourth column.
        NaN where the depth is 0 or not finite.
        """
        if depth.shape != (self.height, self.width):
            raise ValueError(
                f'depth: expected {(self.height, self.width)} as the camera, got {depth.shape}'
            )
        return cv2.merge(self.coordinates(depth))

    def coordinates(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and z of `backproject`, each (H, W) float32."""
        known = (depth > 0) & (depth < np.inf)
        if not known.all():
            depth = np.where(known, depth, np.float32(np.nan))
        x, y, z = _rays(self.P[:, :3].tobytes(), *depth.shape)
        return x * depth, y * depth, z * depth


def resizing(height: int, width: int, new_height: int, new_width: int) -> np.ndarray:
    """Matrix (3, 3) from the pixels of an image to those of the image resized, (u, v, 1).

    Pixel areas, not the centres of the corner pixels, align.
    """
    sx, sy = new_width / width, new_height / height
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])


@lru_cache(maxsize=4)
def _rays(K: bytes, height: int, width: int) -> tuple[np.ndarray, ...]:
    """x, y and z (H, W) float32 of every pixel at depth 1; K: (3, 3) float64, as bytes."""
    inverse = np.linalg.inv(np.frombuffer(K).reshape(3, 3))
    u = (np.arange(width) * inverse[:, :1] + inverse[:, 2:]).astype(np.float32)  # (3, W)
    v = (np.arange(height) * inverse[:, 1:2]).astype(np.float32)  # (3, H)
    return tuple(np.add.outer(v[axis], u[axis]) for axis in range(3))

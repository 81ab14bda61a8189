"""What an unlabelled image does not tell, drawn at random: the camera and the scale of depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmd3c_ros.core.camera import Camera


@dataclass(frozen=True)
class CameraDistribution:
    """Random intrinsics, Eq. 4 of DMD3C (which names the matrix, but no distribution).

    fov_min_deg, fov_max_deg: horizontal field of view, uniform; 80 degrees is KITTI's.
    aspect: standard deviation of fy / fx around 1.
    centre: standard deviation of the principal point around the centre, as a share of the size.
    """

    fov_min_deg: float = 40.0
    fov_max_deg: float = 100.0
    aspect: float = 0.01
    centre: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.fov_min_deg <= self.fov_max_deg < 180:
            raise ValueError(
                'fov: expected 0 < minimum <= maximum < 180 degrees, got '
                f'{self.fov_min_deg}, {self.fov_max_deg}'
            )
        if min(self.aspect, self.centre) < 0 or max(self.aspect, self.centre) > 0.2:
            raise ValueError(f'aspect, centre: expected 0..0.2, got {self.aspect}, {self.centre}')

    def draw(self, rng: np.random.Generator, width: int, height: int) -> Camera:
        """A camera for images of this size, pixels."""
        fov = np.radians(rng.uniform(self.fov_min_deg, self.fov_max_deg))
        fx = width / 2 / np.tan(fov / 2)
        fy = fx * (1 + self.aspect * np.clip(rng.normal(), -3, 3))
        offset = self.centre * np.clip(rng.normal(size=2), -3, 3)
        cx, cy = (width - 1) / 2 + offset[0] * width, (height - 1) / 2 + offset[1] * height
        return Camera.from_K(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), width, height)


@dataclass(frozen=True)
class DepthDistribution:
    """Random scale and shift of relative inverse depth.

    Depth Anything V2 and MiDaS give inverse depth up to an unknown scale and shift (Ranftl et al.,
    TPAMI 2022): 1 / z = s d + t, s > 0. Both follow from the depths of the nearest and the
    farthest surface, drawn log-uniformly: that keeps 1 / z positive, and depth in a range that a
    LiDAR measures.

    near_min, near_max, far_min, far_max: bounds of the two depths, m.
    sky: inverse depth up to this share of the image's largest is sky, a hole.
    max_depth: deeper pixels, of metric teachers too, are holes, m.
    """

    near_min: float = 1.0
    near_max: float = 6.0
    far_min: float = 20.0
    far_max: float = 150.0
    sky: float = 0.01
    max_depth: float = 200.0

    def __post_init__(self) -> None:
        limits = (self.near_min, self.near_max, self.far_min, self.far_max, self.max_depth)
        if not (self.near_min > 0 and list(limits) == sorted(limits)):
            raise ValueError(
                'depth: expected 0 < near_min <= near_max <= far_min <= far_max <= max_depth, '
                f'got {limits}'
            )
        if not 0 <= self.sky < 1:
            raise ValueError(f'sky: expected 0..1, got {self.sky}')

    def from_disparity(self, disparity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Depth (H, W) float32, m, 0 = sky, of relative inverse depth (H, W) in any unit."""
        near = np.exp(rng.uniform(np.log(self.near_min), np.log(self.near_max)))
        far = np.exp(rng.uniform(np.log(self.far_min), np.log(self.far_max)))
        known = np.isfinite(disparity)
        top = disparity.max(initial=0, where=known)
        known &= disparity > self.sky * max(top, 0)
        if not known.any():
            return np.zeros(disparity.shape, np.float32)
        bottom = disparity.min(initial=top, where=known)
        scale = (1 / near - 1 / far) / max(top - bottom, 1e-6 * top)
        inverse = 1 / far + scale * (np.where(known, disparity, top) - bottom)
        return np.where(known, 1 / inverse, 0).astype(np.float32)

    def from_depth(self, depth: np.ndarray) -> np.ndarray:
        """Metric depth (H, W), m, with holes where it is unknown or too deep."""
        known = np.isfinite(depth) & (depth > 0) & (depth <= self.max_depth)
        return np.where(known, depth, 0).astype(np.float32)

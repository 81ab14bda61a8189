"""Surfaces through the pixels of a depth image, to simulate a LiDAR against."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera


@dataclass(frozen=True)
class CutConfig:
    """Where neighbouring pixels belong to different surfaces.

    jump: share of the farther depth by which two neighbours differ there.
    straightness: an edge between pixels is no cut, however steep, where the inverse depth goes on
        by the same step within this share for ``span`` more pixels: a plane is straight in inverse
        depth (the road towards the horizon), and an edge blurred by the teacher is not that wide.
    """

    jump: float = 0.06
    straightness: float = 0.2
    span: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.jump < 1:
            raise ValueError(f'jump: expected a share above 0 and below 1, got {self.jump}')
        if self.span < 1:
            raise ValueError(f'span: expected at least one pixel, got {self.span}')


@dataclass(frozen=True, eq=False)
class GridSurface:
    """Triangles between the neighbouring pixels of a depth image.

    camera: of the depth image, at the origin of its optical frame.
    inverse: (H, W) float32 inverse depth, 1/m; NaN in holes.
    right, down: (H, W - 1) and (H - 1, W) bool, whether a pixel lies on one surface with the one
        to the right of it, and with the one below it.
    upper, lower: (H - 1, W - 1) bool, which triangles exist. The upper one of cell (v, u) joins
        the pixels (v, u), (v + 1, u), (v, u + 1), the lower one (v + 1, u + 1), (v, u + 1),
        (v + 1, u).
    """

    camera: Camera
    inverse: np.ndarray
    right: np.ndarray
    down: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    @classmethod
    def of(cls, depth: np.ndarray, camera: Camera, cut: CutConfig | None = None) -> GridSurface:
        """Surface of a depth image (H, W), m; 0 and what is not finite leave holes.

        Raises ValueError where the camera has another size, or stands away from its frame.
        """
        if depth.shape != (camera.height, camera.width):
            raise ValueError(
                f'depth: expected {(camera.height, camera.width)} as the camera, got {depth.shape}'
            )
        if camera.P[:, 3].any() or not np.array_equal(camera.R, np.eye(3)):
            raise ValueError('camera: expected one at the origin of its optical frame')
        cut = cut or CutConfig()
        with np.errstate(divide='ignore', invalid='ignore'):
            known = np.isfinite(depth) & (depth > 0)
            inverse = np.where(known, 1 / depth, np.nan).astype(np.float32)
        return cls._joined_up(camera, inverse, cut)

    @classmethod
    def _joined_up(cls, camera: Camera, inverse: np.ndarray, cut: CutConfig) -> GridSurface:
        right, down = _joined(inverse, 1, cut), _joined(inverse, 0, cut)
        upper, lower = right[:-1] & down[:, :-1], right[1:] & down[:, 1:]
        return cls(camera, inverse, right, down, upper, lower)

    def vertices(self) -> np.ndarray:
        """(H * W, 3) float32, m, optical frame; NaN in holes."""
        return self.camera.backproject(1 / self.inverse).reshape(-1, 3)

    def triangles(self) -> np.ndarray:
        """(M, 3) uint32 vertex numbers, turned towards the camera."""
        height, width = self.inverse.shape
        corner = np.arange(height * width, dtype=np.uint32).reshape(height, width)
        a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
        upper = [image[self.upper] for image in (a, c, b)]
        lower = [image[self.lower] for image in (d, b, c)]
        return np.concatenate([np.stack(upper, 1), np.stack(lower, 1)])


def behind(surface: GridSurface, reach: int, cut: CutConfig | None = None) -> GridSurface:
    """What the camera cannot see: the farther surface going on behind the edges of nearer ones.

    A LiDAR beside the camera looks there, and its points then lie on the nearer surface in the
    image. Behind an edge the farther surface keeps the inverse depth of its last pixel; that is
    exact for a plane along the nearest way out, which on a pole before a road is the same row.

    reach: of that surface behind the edges, pixels. Returns its triangles alone.
    """
    cut = cut or CutConfig()
    inverse = surface.inverse
    hidden = _hiding(inverse, surface, 2 * reach, cut)
    _, nearest = cv2.distanceTransformWithLabels(
        (hidden | np.isnan(inverse)).astype(np.uint8),
        cv2.DIST_L2,
        cv2.DIST_MASK_3,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    open_pixels = np.zeros(nearest.max() + 1, np.float32)
    outside = ~hidden & np.isfinite(inverse)
    open_pixels[nearest[outside]] = inverse[outside]
    farther = np.where(hidden, open_pixels[nearest], inverse)
    # Only what lies behind: the nearest way out of a thick object may lead to its own front.
    new = hidden & (farther < (1 - cut.jump) * inverse) & (farther > 0)
    farther = np.where(new, farther, inverse)
    back = GridSurface._joined_up(surface.camera, farther, cut)
    touched = new[:-1, :-1] | new[:-1, 1:] | new[1:, :-1] | new[1:, 1:]
    return replace(back, upper=back.upper & touched, lower=back.lower & touched)


def _hiding(inverse: np.ndarray, surface: GridSurface, reach: int, cut: CutConfig) -> np.ndarray:
    """Pixels of nearer surfaces within so many pixels of an edge behind which it goes on."""
    beyond = np.full(inverse.shape, np.inf, np.float32)  # inverse depth on the far side of an edge
    for axis in (0, 1):
        near, far = (np.moveaxis(inverse, axis, 0)[part] for part in (np.s_[:-1], np.s_[1:]))
        broken = ~np.moveaxis(surface.right if axis else surface.down, axis, 0)
        target = np.moveaxis(beyond, axis, 0)
        for here, there, part in ((near, far, np.s_[:-1]), (far, near, np.s_[1:])):
            edge = broken & (here > there)
            target[part][edge] = np.minimum(target[part][edge], there[edge])
    seeds = np.isfinite(beyond)
    if not seeds.any():
        return seeds
    distance, nearest = cv2.distanceTransformWithLabels(
        (~seeds).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_seed = np.zeros(nearest.max() + 1, np.float32)
    of_seed[nearest[seeds]] = beyond[seeds]
    with np.errstate(invalid='ignore'):
        return (distance <= reach) & ((1 - cut.jump) * inverse > of_seed[nearest])


def _joined(inverse: np.ndarray, axis: int, cut: CutConfig) -> np.ndarray:
    """Whether a pixel and the next one along an axis lie on one surface: one less along it."""
    head, tail = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
    before, after = inverse[head], inverse[tail]
    step = after - before
    size = np.abs(step)
    # (z_far - z_near) / z_far, in inverse depth. A comparison with NaN is false: a hole joins
    # nothing.
    joined = size < np.float32(cut.jump) * np.maximum(before, after)
    places = np.flatnonzero(~joined & (size < np.inf))
    here = step.ravel()[places]
    stride = step.shape[1] if axis == 0 else 1
    along = places // stride if axis == 0 else places % step.shape[1]
    straight = np.zeros(len(here), bool)
    for direction in (-1, 1):
        goes_on = np.ones(len(here), bool)
        for distance in range(1, cut.span + 1):
            there = along + direction * distance
            inside = (there >= 0) & (there < step.shape[axis])
            other = step.ravel()[np.where(inside, places + direction * distance * stride, 0)]
            goes_on &= inside & (np.abs(other - here) <= cut.straightness * np.abs(here))
        straight |= goes_on
    joined.ravel()[places] = straight
    return joined


@dataclass(frozen=True)
class PoissonConfig:
    """Screened Poisson surface reconstruction as Open3D has it.

    octree_depth: finest grid has 2^octree_depth cells a side.
    stride: of the pixels that become points.
    reach: vertices farther than this share of their depth from every pixel's point are removed,
        since the method closes every hole, the sky too.
    """

    octree_depth: int = 9
    stride: int = 2
    reach: float = 0.02


def poisson_mesh(
    surface: GridSurface, config: PoissonConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reconstruct the surface from its points and normals (Kazhdan et al., SGP 2006).

    Returns vertices (N, 3) float32, m, optical frame, and triangles (M, 3) uint32. Raises
    ValueError where fewer than 4 points have a normal.
    """
    import open3d as o3d

    config = config or PoissonConfig()
    points, normals = _oriented_points(surface, config.stride)
    if len(points) < 4:
        raise ValueError(f'Poisson reconstruction: expected at least 4 points, got {len(points)}')
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.astype(np.float64)))
    cloud.normals = o3d.utility.Vector3dVector(normals.astype(np.float64))
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        mesh, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
            cloud, depth=config.octree_depth, n_threads=1
        )
    vertices = np.asarray(mesh.vertices, np.float32)
    triangles = np.asarray(mesh.triangles).astype(np.uint32)
    near = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor(points))
    near.knn_index()
    _, squared = near.knn_search(o3d.core.Tensor(vertices), 1)
    tolerance = config.reach * np.maximum(vertices[:, 2], 1e-3)
    kept = np.sqrt(squared.numpy()[:, 0]) <= tolerance
    return vertices, triangles[kept[triangles].all(1)]


def _oriented_points(surface: GridSurface, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that belong to a triangle, with the normals (towards the camera) of its plane."""
    points = surface.vertices().reshape(*surface.inverse.shape, 3)
    corner = points[:-1, :-1]
    normals = np.cross(points[1:, :-1] - corner, points[:-1, 1:] - corner)
    length = np.linalg.norm(normals, axis=-1)
    usable = surface.upper & (length > 0)
    window = np.s_[::stride, ::stride]
    usable = usable[window]
    return corner[window][usable], (normals[window] / length[window][..., None])[usable]

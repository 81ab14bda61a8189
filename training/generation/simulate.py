"""One training sample from an image and its teacher's depth (section 3.2 of DMD3C)."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points
from training.generation.casting import Caster, HeightField, mesh_caster
from training.generation.mesh import CutConfig, GridSurface, PoissonConfig, behind, poisson_mesh
from training.generation.random_camera import CameraDistribution, DepthDistribution
from training.generation.sensors import PAPER, SensorConfig, SensorSweep, draw_sweep
from training.generation.sources import Prediction, SourceImage

SURFACES = ('grid', 'poisson')


@dataclass(frozen=True)
class SimulationConfig:
    """From image to sample.

    height, width: of the samples, pixels.
    zoom_max: the image is enlarged to cover the sample, and by a random factor up to this.
    surface: 'grid' (triangles between neighbouring pixels) or 'poisson'.
    behind: how far the farther surface of a grid goes on behind the edges of nearer ones, pixels;
        it is what a LiDAR beside the camera sees past them. 0: nowhere.
    """

    height: int = 352
    width: int = 1216
    zoom_max: float = 1.2
    camera: CameraDistribution = field(default_factory=CameraDistribution)
    depth: DepthDistribution = field(default_factory=DepthDistribution)
    surface: str = 'grid'
    behind: int = 32
    cut: CutConfig = field(default_factory=CutConfig)
    poisson: PoissonConfig = field(default_factory=PoissonConfig)
    sensor: SensorConfig = field(default_factory=SensorConfig)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32:
            raise ValueError(
                f'size: expected at least 32x32 pixels, got {self.width}x{self.height}'
            )
        if self.behind < 0:
            raise ValueError(f'behind: expected 0 pixels or more, got {self.behind}')
        if self.zoom_max < 1:
            raise ValueError(f'zoom_max: expected at least 1, got {self.zoom_max}')
        if self.surface not in SURFACES:
            raise ValueError(f'surface: expected one of {SURFACES}, got {self.surface!r}')

    @classmethod
    def named(cls, name: str) -> SimulationConfig:
        """One of SIMULATIONS. Raises ValueError for an unknown name."""
        if name not in SIMULATIONS:
            raise ValueError(f'simulation: expected one of {", ".join(SIMULATIONS)}, got {name!r}')
        return SIMULATIONS[name]


SIMULATIONS = {
    'field': SimulationConfig(),
    'paper': SimulationConfig(
        zoom_max=1.0,
        camera=CameraDistribution(aspect=0.0, centre=0.0),
        surface='poisson',
        behind=0,
        sensor=PAPER,
    ),
}
"""'paper': the setting of the paper as far as its text goes; 'field': real sensors and mounts."""


@dataclass(frozen=True, eq=False)
class View:
    """An image with depth and camera, before any sensor looked at it.

    rgb: (H, W, 3) uint8; depth: (H, W) float32, m, 0 = none; camera: at the origin of its frame.
    """

    rgb: np.ndarray
    depth: np.ndarray
    camera: Camera


def draw_view(
    image: SourceImage, prediction: Prediction, config: SimulationConfig, rng: np.random.Generator
) -> View:
    """Random crop, scale of depth and camera for an image and its teacher depth.

    An image that has a camera and exact depth (a simulated one) keeps both.
    """
    rgb, values, camera = _cropped(image, prediction.values, config, rng)
    if prediction.metric:
        depth = config.depth.from_depth(values)
    else:
        depth = config.depth.from_disparity(values, rng)
    return View(rgb, depth, camera or config.camera.draw(rng, config.width, config.height))


def _cropped(
    image: SourceImage, values: np.ndarray, config: SimulationConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Camera | None]:
    height, width = image.rgb.shape[:2]
    scale = rng.uniform(1, config.zoom_max) * max(config.height / height, config.width / width)
    # Cut first, then resized: most of a photograph's rows lie beside so wide a window.
    columns = min(round(config.width / scale), width)
    rows = min(round(config.height / scale), height)
    left, top = int(rng.integers(width - columns + 1)), int(rng.integers(height - rows + 1))
    window = np.s_[top : top + rows, left : left + columns]
    size = config.width, config.height
    rgb = cv2.resize(
        image.rgb[window], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    if image.depth is not None:
        # The mean of two depths is neither; that of two inverse depths, of one plane, is its own.
        # INTER_NEAREST alone would leave depth up to half a pixel beside image and camera.
        values = cv2.resize(values[window], size, interpolation=cv2.INTER_NEAREST_EXACT)
    else:
        shares = (top / height, rows / height), (left / width, columns / width)
        for axis, (bounds, count) in enumerate(zip(shares, size[::-1], strict=True)):
            values = _resampled(values, axis, *bounds, count)
    camera = None
    if image.K is not None:
        camera = Camera.from_K(image.K, width, height).crop(left, top, columns, rows)
        camera = camera.scaled(*size)
    return rgb, np.ascontiguousarray(values), camera


def _resampled(
    values: np.ndarray, axis: int, start: float, length: float, count: int
) -> np.ndarray:
    """A part of an axis at ``count`` pixels, linear between the centres of the given ones.

    start, length: of the part, as shares of the axis: it need not begin at a pixel.
    """
    have = values.shape[axis]
    place = (start + (np.arange(count) + 0.5) * (length / count)) * have - 0.5
    place = place.clip(0, have - 1)
    first = np.minimum(place.astype(np.intp), max(have - 2, 0))
    second = np.minimum(first + 1, have - 1)
    fraction = (place - first).astype(np.float32)
    fraction = fraction[:, None] if axis == 0 else fraction
    before, after = values.take(first, axis), values.take(second, axis)
    return before + fraction * (after - before)


def surface_caster(view: View, config: SimulationConfig) -> Caster:
    """Rays against the surface of a view, of the configured kind."""
    surface = GridSurface.of(view.depth, view.camera, config.cut)
    if config.surface == 'poisson':
        return mesh_caster(*poisson_mesh(surface, config.poisson))
    front = HeightField(surface).cast
    if not config.behind:
        return front
    back = HeightField(behind(surface, config.behind, config.cut)).cast

    def cast(origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        return np.minimum(front(origin, directions), back(origin, directions))

    return cast


def scan_view(view: View, config: SimulationConfig, rng: np.random.Generator) -> SensorSweep:
    """Measurements of a random sensor in a view."""
    caster = surface_caster(view, config)
    return draw_sweep(view.rgb, view.depth, view.camera, caster, config.sensor, rng)


def sparse_depth(sweep: SensorSweep, camera: Camera) -> np.ndarray:
    """Sparse depth (H, W) float32, m, 0 = unknown, of a sweep."""
    return project_points(sweep.points, sweep.T_camera_lidar, camera)

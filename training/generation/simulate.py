"""One training sample from a picture and its teacher's depth (section 3.2 of DMD3C)."""

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
from training.generation.sources import Picture, Prediction

SURFACES = ('grid', 'poisson')


@dataclass(frozen=True)
class SimulationConfig:
    """From picture to sample.

    height, width: of the samples, pixels.
    zoom_max: the picture is enlarged to cover the sample, and by a random factor up to this.
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
        """One of SIMULATIONS. Raises ValueError for another name."""
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
    """A picture with depth and camera, before any sensor looked at it.

    rgb: (H, W, 3) uint8; depth: (H, W) float32, m, 0 = none; camera: at the origin of its frame.
    """

    rgb: np.ndarray
    depth: np.ndarray
    camera: Camera


def draw_view(
    picture: Picture, prediction: Prediction, config: SimulationConfig, rng: np.random.Generator
) -> View:
    """Random crop, scale of depth and camera for a picture and what the teacher said of it.

    A picture that has a camera and exact depth (a simulated one) keeps both.
    """
    rgb, values, camera = _cropped(picture, prediction.values, config, rng)
    if prediction.metric:
        depth = config.depth.from_depth(values)
    else:
        depth = config.depth.from_disparity(values, rng)
    return View(rgb, depth, camera or config.camera.draw(rng, config.width, config.height))


def _cropped(
    picture: Picture, values: np.ndarray, config: SimulationConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Camera | None]:
    height, width = picture.rgb.shape[:2]
    zoom = rng.uniform(1, config.zoom_max)
    scale = zoom * max(config.height / height, config.width / width)
    size = max(round(width * scale), config.width), max(round(height * scale), config.height)
    left = int(rng.integers(size[0] - config.width + 1))
    top = int(rng.integers(size[1] - config.height + 1))
    window = np.s_[top : top + config.height, left : left + config.width]
    shrinks = size[0] < width
    rgb = cv2.resize(
        picture.rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    # The mean of two depths is neither; that of two inverse depths, of one plane, is its own.
    # INTER_NEAREST alone would leave depth up to half a pixel beside the picture and its camera.
    exact = picture.depth is not None
    values = cv2.resize(
        values, size, interpolation=cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_LINEAR
    )
    camera = None
    if picture.K is not None:
        camera = Camera.from_K(picture.K, width, height).scaled(*size)
        camera = camera.crop(left, top, config.width, config.height)
    return np.ascontiguousarray(rgb[window]), np.ascontiguousarray(values[window]), camera


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
    """What a random sensor measures of a view."""
    caster = surface_caster(view, config)
    return draw_sweep(view.rgb, view.depth, view.camera, caster, config.sensor, rng)


def sparse_depth(sweep: SensorSweep, camera: Camera) -> np.ndarray:
    """Sparse depth (H, W) float32, m, 0 = unknown, of a sweep."""
    return project_points(sweep.points, sweep.T_camera_lidar, camera)

"""Images of what generation makes: image, depth, mesh, sweep and sparse depth side by side."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.evaluation.drawing import (
    Page,
    Panel,
    Scale,
    caption_height,
    depth_scale,
    points_on_image,
)
from dmd3c_ros.io.images import write_rgb
from training.generation.casting import mesh_caster
from training.generation.maker import GenerateConfig, Maker, Rejected
from training.generation.mesh import GridSurface
from training.generation.sensors import SensorSweep
from training.generation.simulate import View, scan_view, sparse_depth
from training.generation.teacher import open_teacher

log = logging.getLogger(__name__)

_PANEL_WIDTH = 720
_GAP = 16
_EMPTY = (28, 32, 41)


def write_previews(config: GenerateConfig, folder: str | Path, count: int) -> list[Path]:
    """Write one PNG for each of the first ``count`` samples; returns their paths."""
    maker, teacher = Maker(config), open_teacher(config.teacher)
    paths = []
    for index in range(min(count, len(maker.source))):
        image = maker.read(index)
        if isinstance(image, Rejected):
            log.warning('skipped: %s', image.reason)
            continue
        view = maker.view(index, image, teacher.predict([image])[0])
        if isinstance(view, Rejected):
            log.warning('%s: skipped: %s', image.name, view.reason)
            continue
        sweep = scan_view(view, config.simulation, np.random.default_rng([config.seed, index, 1]))
        path = Path(folder) / f'{index:09d}.png'
        write_rgb(path, preview(view, sweep, config))
        log.info('%s: %s', path, image.name)
        paths.append(path)
    return paths


def preview(view: View, sweep: SensorSweep, config: GenerateConfig) -> np.ndarray:
    """The page (H, W, 3) uint8 of one sample."""
    scale = depth_scale(view.depth)
    sparse = sparse_depth(sweep, view.camera)
    lines = f', {sweep.lines} lines' if sweep.lines else ''
    points = f'{np.count_nonzero(sparse)} points'
    panels = (
        Panel(view.rgb, 'Image'),
        Panel(scale.colors(view.depth, view.depth > 0), 'Teacher depth', scale),
        Panel(mesh_view(view, config), 'Surface, seen from the side'),
        Panel(sweep_view(view, sweep, scale), f'Sweep: {sweep.pattern}{lines}', scale),
        Panel(points_on_image(view.rgb, sparse, scale), f'Sparse depth: {points}', scale),
    )
    height = round(_PANEL_WIDTH * view.camera.height / view.camera.width)
    cell = caption_height(_PANEL_WIDTH) + height + _GAP
    page = Page(2 * _PANEL_WIDTH + 3 * _GAP, 3 * cell + _GAP)
    for number, panel in enumerate(panels):
        row, column = divmod(number, 2)
        x = _GAP + column * (_PANEL_WIDTH + _GAP)
        page.panel(x, _GAP + row * cell, _PANEL_WIDTH, height, panel)
    return np.asarray(page.image)


def _beside(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and rotation (3, 3) of a camera to the upper left, looking at the middle."""
    far = float(np.median(view.depth[view.depth > 0]))
    origin = np.array([-0.35, -0.25, -0.05]) * far
    forward = np.array([0, 0, far]) - origin
    forward /= np.linalg.norm(forward)
    right = np.cross([0, 1.0, 0], forward)
    right /= np.linalg.norm(right)
    return origin, np.stack([right, np.cross(forward, right), forward], 1)


def _half_size(view: View) -> Camera:
    return view.camera.scaled(
        _PANEL_WIDTH, round(_PANEL_WIDTH * view.camera.height / view.camera.width)
    )


def mesh_view(view: View, config: GenerateConfig) -> np.ndarray:
    """The surface seen from beside the camera: (h, w, 3) uint8, dark in holes."""
    surface = GridSurface.of(view.depth, view.camera, config.simulation.cut)
    # From so far aside most rays cross half the image: a tree of the triangles is faster here.
    cast = mesh_caster(surface.vertices(), surface.triangles())
    origin, R = _beside(view)
    camera = _half_size(view)
    rays = camera.backproject(np.ones((camera.height, camera.width), np.float32)).reshape(-1, 3)
    directions = rays / np.linalg.norm(rays, axis=1, keepdims=True) @ R.T
    distance = cast(origin, directions)
    met = np.isfinite(distance)
    uv, _ = view.camera.project(origin + directions[met] * distance[met, None])
    columns, rows = np.clip(
        uv.round().astype(int), 0, (view.camera.width - 1, view.camera.height - 1)
    ).T
    image = np.full((len(distance), 3), _EMPTY, np.uint8)
    image[met] = view.rgb[rows, columns] * _shading(view)[rows, columns, None]
    return image.reshape(camera.height, camera.width, 3)


def _shading(view: View) -> np.ndarray:
    """Brightness (H, W) 0.5..1 by how squarely the surface faces the camera's upper left."""
    points = view.camera.backproject(cv2.GaussianBlur(view.depth, (0, 0), 1.5))
    normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    facing = np.abs(np.nan_to_num(normals) @ (-0.5, -0.6, -0.62))
    return 0.5 + 0.5 * np.clip(facing, 0, 1)


def sweep_view(view: View, sweep: SensorSweep, scale: Scale) -> np.ndarray:
    """The measured points from beside the camera, in the colours of their depth."""
    origin, R = _beside(view)
    camera = _half_size(view)
    T = sweep.T_camera_lidar
    points = sweep.points @ T[:3, :3].T + T[:3, 3]
    uv, z = camera.project((points - origin) @ R)
    inside = (z > 0) & (uv >= 0).all(1) & (uv < (camera.width - 1, camera.height - 1)).all(1)
    colors = scale.colors(points[None, inside, 2], np.ones((1, inside.sum()), bool))[0]
    order = np.argsort(-z[inside])  # near points cover far ones
    columns, rows = uv[inside][order].round().astype(int).T
    image = np.full((camera.height, camera.width, 3), _EMPTY, np.uint8)
    image[rows, columns] = colors[order]
    return image

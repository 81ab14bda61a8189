"""A picture for judging a map: points and mesh side by side, seen from above."""

import numpy as np

from dmd3c_ros.evaluation.cloud_view import render_cloud, view_from_beside
from dmd3c_ros.evaluation.drawing import Page, Panel, caption_height, grid
from dmd3c_ros.slam.mapping import Mesh, PointMap

_CELL, _GAP = (900, 560), 8
_PAPER = (250, 250, 250)


def draw_maps(points: PointMap, mesh: Mesh, size: float) -> np.ndarray:
    """Both maps, (H, W, 3) uint8 RGB, from behind and above the first camera.

    size: size at which a point or a vertex is drawn, m.
    """
    width, height = _CELL
    camera, T_view_first = view_from_beside(mesh.vertices[:, 2], width, height)
    cloud, cloud_colors = points.cloud()

    def draw(where: np.ndarray, colors: np.ndarray) -> np.ndarray:
        sizes = np.full(len(where), size)
        return render_cloud(where, colors, sizes, camera, T_view_first, _PAPER)

    images = draw(cloud, cloud_colors), draw(mesh.vertices, mesh.colors)
    # Without the sky above the map.
    drawn = np.flatnonzero(np.any([image != _PAPER for image in images], axis=(0, 2, 3)))
    top, bottom = (drawn[0], drawn[-1] + 1) if len(drawn) else (0, height)
    cell = width, int(bottom - top)
    notes = f'{len(cloud):,} points', f'{len(mesh.triangles):,} triangles'
    panels = [
        Panel(np.ascontiguousarray(image[top:bottom]), caption, note=note)
        for image, caption, note in zip(images, ('points', 'depth'), notes, strict=True)
    ]
    page = Page(2 * width + 3 * _GAP, cell[1] + caption_height(width) + 2 * _GAP)
    grid(page, panels, 2, cell, _GAP, _GAP)
    return np.asarray(page.image)

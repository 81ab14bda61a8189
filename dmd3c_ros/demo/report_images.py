"""The images of a run: the overview and the animation."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dmd3c_ros.core.baselines import fill_nearest
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.evaluation.cloud_view import render_cloud, spacing, surface, view_from_beside
from dmd3c_ros.evaluation.drawing import (
    BACKGROUND,
    CONFIDENCE,
    Page,
    Panel,
    Scale,
    caption_height,
    depth_scale,
    error_image,
    grid,
    points_on_image,
)
from dmd3c_ros.io.atomic import write_bytes

from .scoring import Scene, Summary

ERROR = Scale(0.0, 2.0, cv2.COLORMAP_PLASMA)
_GAP = 16


def write_report(
    path: Path, scene: Scene, confidence: np.ndarray, camera: Camera, summary: Summary
) -> None:
    """Draw one frame with all its parts.

    confidence: (H, W) in 0..1.
    """
    cell = _cell(scene.rgb, width=800)
    page_width = 2 * cell[0] + 3 * _GAP
    view_height = page_width * 2 // 5
    heading = 84
    rows = 3 * (cell[1] + caption_height(cell[0]) + _GAP)
    page = Page(page_width, heading + rows + caption_height(cell[0]) + view_height + _GAP)
    _heading(page, page_width, summary)
    y = grid(page, _report_panels(scene, confidence), 2, cell, heading, _GAP)
    view = Panel(
        _cloud_image(scene, camera, page_width - 2 * _GAP, view_height),
        'The same frame as a coloured cloud, seen from the side',
        note='one point per pixel',
    )
    _wide_panel(page, y, view, cell[0])
    _save(path, page.image, 'PNG', optimize=True)


class Animation:
    """Side by side: image, LiDAR, dense depth, error. Frames are added, then written."""

    def __init__(self, width: int = 560) -> None:
        self._width, self._pages = width, []
        self._scale: Scale | None = None

    def add(self, scene: Scene) -> None:
        """Draw a frame; the first one sets the colours of depth for all."""
        self._scale = self._scale or depth_scale(scene.depth)
        cell = _cell(scene.rgb, self._width)
        gap = 6
        page = Page(2 * cell[0] + 3 * gap, 2 * (cell[1] + caption_height(cell[0]) + gap) + gap)
        panels = (
            Panel(scene.rgb, 'camera'),
            Panel(points_on_image(scene.rgb, scene.sparse, self._scale), 'LiDAR'),
            Panel(self._scale.colors(scene.depth, scene.depth > 0), 'dense depth', self._scale),
            Panel(error_image(scene.depth, scene.truth, ERROR), 'error', ERROR),
        )
        grid(page, panels, 2, cell, gap, gap)
        self._pages.append(page.image)

    def write(self, path: Path, rate_hz: float) -> None:
        """Write an animated WebP, looping for ever at the drive's own rate."""
        first, *others = self._pages
        _save(
            path,
            first,
            'WEBP',
            save_all=True,
            append_images=others,
            duration=round(1000 / rate_hz),
            loop=0,
            quality=72,
            method=2,
        )


def _report_panels(scene: Scene, confidence: np.ndarray) -> tuple[Panel, ...]:
    scale = depth_scale(scene.depth)
    baseline = fill_nearest(scene.visible)
    fraction = (scene.sparse > 0).mean()
    return (
        Panel(scene.rgb, 'Camera', note=f'{scene.rgb.shape[1]} x {scene.rgb.shape[0]}'),
        Panel(
            points_on_image(scene.rgb, scene.sparse, scale),
            'LiDAR points',
            note=f'{fraction:.1%} of the pixels',
        ),
        Panel(scale.colors(scene.depth, scene.depth > 0), 'Dense depth', scale),
        Panel(CONFIDENCE.colors(confidence, scene.depth > 0), 'Confidence', CONFIDENCE),
        Panel(error_image(scene.depth, scene.truth, ERROR), 'Error', ERROR),
        Panel(
            error_image(baseline, scene.truth, ERROR),
            'Error of nearest-neighbour filling, for comparison',
            ERROR,
        ),
    )


def _heading(page: Page, width: int, summary: Summary) -> None:
    page.text(_GAP, 12, 'Camera + LiDAR to dense depth', 30)
    page.text(_GAP, 50, f'{summary.source}; {summary.model} on {summary.device}', 19, faint=True)
    latency = summary.latency_ms
    page.text(
        width - _GAP,
        16,
        f'RMSE {summary.rmse_mm:.0f} mm   MAE {summary.mae_mm:.0f} mm   '
        f'latency {latency.p50:.0f} ms, p99 {latency.p99:.0f} ms',
        23,
        right=True,
    )
    page.text(
        width - _GAP,
        50,
        f'{summary.frames_out} of {summary.frames_in} frames; nearest-neighbour filling: '
        f'RMSE {summary.sparse_rmse_mm:.0f} mm',
        19,
        faint=True,
        right=True,
    )


def _cloud_image(scene: Scene, camera: Camera, width: int, height: int) -> np.ndarray:
    shown = surface(scene.depth, scene.visible)
    view, T_view_camera = view_from_beside(np.where(shown, scene.depth, 0), width, height)
    points = camera.backproject(scene.depth)
    return render_cloud(
        points[shown],
        scene.rgb[shown],
        spacing(points)[shown],
        view,
        T_view_camera,
        BACKGROUND,
    )


def _wide_panel(page: Page, y: int, panel: Panel, caption_width: int) -> None:
    """A panel over the whole page with a caption as small as those of the others."""
    width = panel.image.shape[1]
    size = caption_height(caption_width) * 5 // 8
    page.text(_GAP, y, panel.caption, size)
    page.text(_GAP + width, y, panel.note, size, faint=True, right=True)
    page.image.paste(Image.fromarray(panel.image), (_GAP, y + caption_height(caption_width)))


def _cell(rgb: np.ndarray, width: int) -> tuple[int, int]:
    return width, round(width * rgb.shape[0] / rgb.shape[1])


def _save(path: Path, image: Image.Image, kind: str, **options: object) -> None:
    data = BytesIO()
    image.save(data, kind, **options)
    write_bytes(path, data.getvalue())

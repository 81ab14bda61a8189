"""From arrays to dense depth, for all who have no messages: files, benchmarks, viewers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.core.projection import HiddenPointFilter, project_points
from dmd3c_ros.core.selection import PRESETS

from .settings import NodeSettings


class CompletionInputs(NamedTuple):
    """What one completion takes: rgb (H, W, 3) uint8; sparse (H, W) float32, m, 0 = unknown;
    K (3, 3), pixels."""

    rgb: np.ndarray
    sparse: np.ndarray
    K: np.ndarray


def complete_points(
    completer: DepthCompleter,
    rgb: np.ndarray,
    points: np.ndarray,
    T_camera_lidar: np.ndarray,
    camera: Camera,
    filtering: str = 'auto',
    hidden_points: HiddenPointFilter | None = None,
) -> tuple[np.ndarray, Completion]:
    """The sparse depth (H, W) float32, m, that the model is given of a sweep, and its completion.

    rgb: (H, W, 3) uint8, rectified. points: (N, 3 or more), m, in the LiDAR's frame.
    T_camera_lidar: (4, 4). filtering, hidden_points: see `DepthCompleter.filter_hidden`.
    """
    sparse = project_points(points, T_camera_lidar, camera)
    return complete_sparse(completer, rgb, sparse, camera.K, filtering, hidden_points)


def complete_sparse(
    completer: DepthCompleter,
    rgb: np.ndarray,
    sparse: np.ndarray,
    K: np.ndarray,
    filtering: str = 'auto',
    hidden_points: HiddenPointFilter | None = None,
) -> tuple[np.ndarray, Completion]:
    """As `complete_points`, of a projected sweep: (H, W) float32, m, 0 = unknown."""
    sparse = completer.filter_hidden(sparse, filtering, hidden_points)
    return sparse, completer.complete(rgb, sparse, K)


def selected_depth(completion: Completion, settings: NodeSettings) -> np.ndarray:
    """Depth (H, W) float32, m, 0 = unknown or removed by `min_confidence` or the `preset`."""
    depth = PRESETS[settings.preset].select(*completion)
    if settings.min_confidence <= 0:
        return depth
    return np.where(completion.confidence >= settings.min_confidence, depth, np.float32(0))

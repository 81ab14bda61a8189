"""Which pixels of dense depth lie on a surface, and which are flying pixels between surfaces."""

from __future__ import annotations

import cv2
import numpy as np

# Networks smear an edge of depth over about as many pixels on each side.
_REACH = 3
# Of the inverse depth, to the nearer and to the farther side.
_STEP = 0.05
# Of the span over twice the reach: 0.5 on any plane, 1 on an edge.
_STEEP = 0.6
# Next to unknown depth, a plane has up to 2/3.
_STEEP_BESIDE_UNKNOWN = 0.7


def hangs_on_edge(depth: np.ndarray) -> np.ndarray:
    """Flying pixels (H, W) bool between a near and a far surface, at a depth edge.

    depth: (H, W) float32, m, 0 = unknown. Such a pixel has something nearer and something farther
    within 3 pixels. That holds on ground seen at a grazing angle, too; but inverse depth is linear
    over a plane, and spans twice as much over twice the distance, while at an edge the whole span
    is close by.
    """
    known = depth > 0
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape, np.float32), where=known)
    near, far = _extremes(inverse, known, _REACH)
    wide_near, wide_far = _extremes(inverse, known, 2 * _REACH)
    step = _STEP * inverse
    between = (near - inverse > step) & (inverse - far > step)
    beside_unknown = cv2.erode(known.astype(np.uint8), _window(2 * _REACH)) == 0
    steep = np.where(beside_unknown, np.float32(_STEEP_BESIDE_UNKNOWN), np.float32(_STEEP))
    return known & between & (near - far > steep * (wide_near - wide_far))


def _extremes(inverse: np.ndarray, known: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest inverse depth within `reach` pixels, ignoring unknown depth.

    Beyond the borders the image is continued as a plane.
    """
    nothing = np.float32(1e30)
    inside = np.s_[reach:-reach, reach:-reach]
    if min(inverse.shape) > reach:
        beyond = np.pad(inverse, reach, mode='reflect', reflect_type='odd')
        # A mirrored value is known where both that it is made of are.
        covered = np.pad(known, reach, mode='reflect') & np.pad(known, reach, mode='edge')
    else:
        beyond, covered = np.pad(inverse, reach, mode='edge'), np.pad(known, reach, mode='edge')
    near = cv2.dilate(np.where(covered, beyond, -nothing), _window(reach))
    far = cv2.erode(np.where(covered, beyond, nothing), _window(reach))
    return near[inside], far[inside]


def _window(reach: int) -> np.ndarray:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)

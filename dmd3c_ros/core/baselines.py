"""Classical completions of a sparse depth image: no weights, no image. Baselines, and a way to
see a set-up work before any network is loaded.
"""

from __future__ import annotations

import numpy as np


def fill_nearest(sparse: np.ndarray) -> np.ndarray:
    """Every pixel takes the depth of its nearest known pixel.

    sparse: (H, W) float32, m, 0 = unknown; all zero where nothing is known.
    """
    from scipy.ndimage import distance_transform_edt

    if not (sparse > 0).any():
        return np.zeros_like(sparse)
    rows, cols = distance_transform_edt(sparse <= 0, return_distances=False, return_indices=True)
    return sparse[rows, cols]


def fill_linear(sparse: np.ndarray) -> np.ndarray:
    """Linear interpolation over the Delaunay triangulation of the known pixels.

    sparse: (H, W) float32, m, 0 = unknown. Outside the convex hull, and with fewer than three
    points or points in one line, the nearest known pixel counts.
    """
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    filled = fill_nearest(sparse)
    known = np.argwhere(sparse > 0)
    if len(known) < 3:
        return filled
    try:
        linear = LinearNDInterpolator(known, sparse[sparse > 0])(*np.indices(sparse.shape))
    except QhullError:
        return filled
    return np.where(np.isnan(linear), filled, linear).astype(np.float32)


def fill_ip_basic(sparse: np.ndarray) -> np.ndarray:
    """IP-Basic, the image processing that outdoor benchmarks compare with; see ops.ip_basic.

    sparse: (H, W) float32, m, 0 = unknown; depths beyond 100 m are ignored.
    """
    import torch

    from dmd3c_ros.core.ops.ip_basic import ip_basic

    return ip_basic(torch.from_numpy(np.ascontiguousarray(sparse))[None, None])[0, 0].numpy()


BASELINES = {'nearest': fill_nearest, 'interpolation': fill_linear, 'ip_basic': fill_ip_basic}

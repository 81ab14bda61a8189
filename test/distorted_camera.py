"""A camera with a bent lens, by the textbook's formulas, and images of points through it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera

WIDTH, HEIGHT = 160, 120
K = np.array([[95.0, 0, 77.0], [0, 97.0, 61.5], [0, 0, 1]])


class Distortion(NamedTuple):
    """Model and coefficients as CameraInfo has them."""

    model: str
    D: tuple[float, ...]


PLUMB_BOB = Distortion('plumb_bob', (-0.28, 0.09, 0.001, -0.0015, -0.012))
RATIONAL = Distortion(
    'rational_polynomial', (0.4, -0.12, 0.0008, -0.0006, 0.02, 0.65, -0.03, 0.015)
)
EQUIDISTANT = Distortion('equidistant', (-0.02, 0.006, -0.003, 0.0005))
MODELS = (PLUMB_BOB, RATIONAL, EQUIDISTANT)


def rectified(R: np.ndarray | None = None) -> Camera:
    """A rectified camera with other intrinsics than the raw one."""
    P = np.array([[88.0, 0, 80.0, 0], [0, 88.0, 60.0, 0], [0, 0, 1, 0]])
    return Camera(P, WIDTH, HEIGHT, np.eye(3) if R is None else R)


def turned(degrees: float) -> np.ndarray:
    """A rectifying rotation about an axis askew."""
    import cv2

    axis = np.array([0.3, -0.8, 0.52])
    return cv2.Rodrigues(axis / np.linalg.norm(axis) * np.radians(degrees))[0]


def raw_pixels(points: np.ndarray, lens: Distortion) -> np.ndarray:
    """Pixels (N, 2) at which the lens shows points (N, 3) of the camera's optical frame."""
    x, y = (points[:, :2] / points[:, 2:]).T
    r = np.hypot(x, y)
    if lens.model == 'equidistant':
        theta = np.arctan(r)
        bent = theta + sum(k * theta ** (2 * i + 3) for i, k in enumerate(lens.D))
        scale = np.where(r > 0, bent / np.maximum(r, 1e-12), 1.0)
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*lens.D, 0, 0, 0)[:8]
        s = r * r
        radial = (1 + k1 * s + k2 * s**2 + k3 * s**3) / (1 + k4 * s + k5 * s**2 + k6 * s**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x),
            y * radial + p1 * (s + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.stack([K[0, 0] * x + K[0, 2], K[1, 1] * y + K[1, 2]], axis=1)


def points_ahead(camera: Camera, margin: int = 16, step: int = 26) -> np.ndarray:
    """Points (N, 3) of the optical frame that the rectified camera shows on a wide grid."""
    u, v = np.meshgrid(
        np.arange(margin, camera.width - margin, step) + 0.37,
        np.arange(margin, camera.height - margin, step) - 0.21,
    )
    depth = 4 + 3 * np.sin(u + 2 * v)
    rays = np.stack([u.ravel(), v.ravel(), np.ones(u.size)]) * depth.ravel()
    return (camera.R.T @ np.linalg.inv(camera.K) @ rays).T


def image_of(pixels: np.ndarray) -> np.ndarray:
    """Image (H, W, 3) uint8 with a soft bright spot at each pixel (N, 2)."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    image = np.zeros((HEIGHT, WIDTH))
    for column, row in pixels:
        image += 235 * np.exp(-((u - column) ** 2 + (v - row) ** 2) / (2 * 1.3**2))
    return np.repeat(np.rint(image + 10).astype(np.uint8)[..., None], 3, axis=2)


def spot_at(image: np.ndarray, pixel: np.ndarray, reach: int = 7) -> np.ndarray:
    """Centre (2,) of the bright spot near a pixel."""
    column, row = np.rint(pixel).astype(int)
    rows = slice(max(row - reach, 0), row + reach + 1)
    columns = slice(max(column - reach, 0), column + reach + 1)
    window = image[rows, columns, 0].astype(float)
    window = np.clip(window - 30, 0, None)
    v, u = np.mgrid[rows.start : rows.stop, columns.start : columns.stop][
        :, : window.shape[0], : window.shape[1]
    ]
    return np.array([(u * window).sum(), (v * window).sum()]) / window.sum()

"""The path through a scene: a smooth curve with heights, and (s, t) coordinates along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Path:
    """Samples of a curve every step metres from s0: x, y, z (m) and heading (rad)."""

    s0: float
    step: float
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    heading: np.ndarray

    @classmethod
    def integrate(cls, curvature: np.ndarray, slope: np.ndarray, s0: float, step: float) -> Path:
        """Curve with the given curvature (1/m) and slope at each sample; s = 0 is the origin."""
        heading = np.cumsum(curvature) * step
        x, y = np.cumsum(np.cos(heading)) * step, np.cumsum(np.sin(heading)) * step
        z = np.cumsum(slope) * step
        origin = round(-s0 / step)
        turn = heading[origin]
        x, y, z = (a - a[origin] for a in (x, y, z))
        c, s = np.cos(-turn), np.sin(-turn)
        return cls(s0, step, c * x - s * y, s * x + c * y, z, heading - turn)

    def _at(self, values: np.ndarray, s: np.ndarray) -> np.ndarray:
        grid = self.s0 + self.step * np.arange(len(values))
        return np.interp(s, grid, values)

    def height(self, s: np.ndarray) -> np.ndarray:
        """Height (m) of the curve at s."""
        return self._at(self.z, s)

    def points(self, s: np.ndarray, t: np.ndarray, height: np.ndarray | float = 0.0) -> np.ndarray:
        """World points (..., 3) at s along, t to the left, height above it."""
        s, t = np.broadcast_arrays(np.asarray(s, float), np.asarray(t, float))
        heading = self._at(self.heading, s)
        return np.stack(
            [
                self._at(self.x, s) - t * np.sin(heading),
                self._at(self.y, s) + t * np.cos(heading),
                self._at(self.z, s) + height,
            ],
            -1,
        )

    def pose(self, s: float, t: float = 0.0, level: bool = False) -> np.ndarray:
        """Transform (4, 4) of a body at (s, t): x along the curve, pitched unless level."""
        heading = float(self._at(self.heading, s))
        rise = float(self.height(s + 1.0) - self.height(s - 1.0)) / 2.0
        pitch = 0.0 if level else np.arctan(rise)
        forward = np.array(
            [np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)]
        )
        left = np.array([-np.sin(heading), np.cos(heading), 0.0])
        T = np.eye(4)
        T[:3, :3] = np.stack([forward, left, np.cross(forward, left)], 1)
        T[:3, 3] = self.points(np.array(s), np.array(t))
        return T

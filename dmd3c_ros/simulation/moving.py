"""A rig that moves while its LiDAR sweeps, with exact poses at every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SWAY_HZ = 1.5  # how often a car's body swings on its springs


@dataclass(frozen=True, eq=False)
class Arc:
    """A body on a level circle, or a straight line, through the pose T_world_body at 0 s.

    speed: along the body's x axis, m/s. turn_rate: to the left, rad/s. sway: how far it pitches
    at most, and twice as far as it rolls, at `SWAY_HZ`, rad.
    """

    T_world_body: np.ndarray
    speed: float
    turn_rate: float
    sway: float = 0.0

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """T_world_body (N, 4, 4) at times (N,), s."""
        times = np.asarray(times_s, np.float64)
        angle, way = self.turn_rate * times, self.speed * times
        T = np.tile(np.eye(4), (len(times), 1, 1))
        T[:, 0, 0] = T[:, 1, 1] = np.cos(angle)
        T[:, 1, 0] = np.sin(angle)
        T[:, 0, 1] = -T[:, 1, 0]
        # sin(a) / a and (1 - cos a) / a; numpy's sinc is that of pi x.
        T[:, 0, 3] = way * np.sinc(angle / np.pi)
        T[:, 1, 3] = way * angle / 2 * np.sinc(angle / 2 / np.pi) ** 2
        phase = 2 * np.pi * SWAY_HZ * times
        pitch, roll = self.sway * np.sin(phase), self.sway / 2 * np.cos(phase)
        return self.T_world_body @ T @ _tilted(pitch, roll)


def _tilted(pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) rolled about x, then pitched about y, rad (N,)."""
    T = np.tile(np.eye(4), (len(pitch), 1, 1))
    (cp, sp), (cr, sr) = (np.cos(pitch), np.sin(pitch)), (np.cos(roll), np.sin(roll))
    T[:, 0, 0], T[:, 0, 1], T[:, 0, 2] = cp, sp * sr, sp * cr
    T[:, 1, 1], T[:, 1, 2] = cr, -sr
    T[:, 2, 0], T[:, 2, 1], T[:, 2, 2] = -sp, cp * sr, cp * cr
    return T

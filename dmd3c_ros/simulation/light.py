"""Random daylight, lamps and camera response."""

from __future__ import annotations

import numpy as np

from .scene import Light


def _camera(rng: np.random.Generator) -> dict:
    return {
        'gamma': float(rng.uniform(1.6, 2.5)),
        'white_balance': tuple(rng.uniform(0.9, 1.1, 3).tolist()),
        'noise': float(rng.choice([0.004, 0.01, 0.02, 0.04])),
        'vignette': float(rng.uniform(0, 0.4)),
        'blur_px': float(rng.uniform(0.3, 0.7)),
    }


def daylight(rng: np.random.Generator) -> Light:
    """Clear, hazy or overcast day, with a camera exposed somewhat high or low."""
    overcast = rng.random() < 0.35
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(12, 65))
    sun = (
        np.cos(elevation) * np.cos(azimuth),
        np.cos(elevation) * np.sin(azimuth),
        np.sin(elevation),
    )
    warm = np.array([1.0, 0.94, 0.82]) ** rng.uniform(0.5, 3)
    power = rng.uniform(0.0, 0.25) if overcast else rng.uniform(1.2, 3.5)
    blue = np.array([0.75, 0.88, 1.0]) ** (0.3 if overcast else 1.5)
    level = rng.uniform(0.9, 1.8)
    zenith = np.array([0.25, 0.45, 0.9]) if not overcast else np.array([0.75, 0.78, 0.82])
    return Light(
        sun_direction=tuple(float(x) for x in sun),
        sun_color=tuple((power * warm).tolist()),
        ambient=tuple((0.45 * level * blue).tolist()),
        zenith=tuple((zenith * level).tolist()),
        horizon=tuple((np.array([0.85, 0.92, 1.0]) * level * rng.uniform(0.8, 1.5)).tolist()),
        cloudiness=float(rng.uniform(0, 1)),
        haze_m=float(rng.choice([250.0, 1000.0, 4000.0], p=[0.12, 0.33, 0.55])),
        key=float(rng.uniform(0.07, 0.42)),
        **_camera(rng),
    )


def lamplight(rng: np.random.Generator, lamps: np.ndarray) -> Light:
    """Rooms: a soft grey ambient and a few lamps (K, 3) m, little daylight."""
    level = rng.uniform(0.15, 0.6)
    return Light(
        sun_direction=(0.5, 0.4, 0.768),
        sun_color=(0.0, 0.0, 0.0),
        ambient=(level, level * 0.97, level * 0.92),
        zenith=(0.9, 0.95, 1.0),
        horizon=(0.9, 0.92, 0.95),
        haze_m=1e6,
        key=float(rng.uniform(0.15, 0.45)),
        lamps=tuple(tuple(float(x) for x in lamp) for lamp in lamps[:2]),
        **_camera(rng),
    )

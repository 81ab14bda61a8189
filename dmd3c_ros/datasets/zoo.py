"""Simulated sets: every LiDAR pattern, and random points, in every kind of scene.

For comparing models over sensors and scenes where no recording is at hand: exact truth, the same
frames for the same seed. Written in the layout of ``SetFolders``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.core.projection import project_points
from dmd3c_ros.io.atomic import write_bytes
from dmd3c_ros.io.depth_png import write_depth_png
from dmd3c_ros.io.images import write_rgb
from dmd3c_ros.simulation import (
    KINDS,
    PATTERNS,
    Rig,
    Scene,
    camera_mount,
    lidar_mount,
    pinhole,
    render,
    scan,
)

from .files import random_points

POINTS = (100, 500, 5000)  # random pixels as input, beside the LiDARs
_LARGEST_M = 80.0  # depth beyond does not count, nor does a point there
_SECONDS = 4.0  # from a frame of a scene to the next
_LEAST_POINTS = 20


def write_zoo(root: str | Path, *, frames: int = 2, seed: int = 0) -> int:
    """Write ROOT/KIND_PATTERN and ROOT/KIND_pN, each with the frames of one scene.

    frames: of each set. seed: of the scenes, views and noise. Returns the number of sets. A LiDAR
    that sees next to nothing of a scene has no set there. Raises ValueError: no frame.
    Raises OSError: the disk. Raises ImportError: no library to cast rays.
    """
    if frames < 1:
        raise ValueError(f'frames: expected at least 1, got {frames}')
    root = Path(root)
    for kind_index, (kind, build) in enumerate(KINDS.items()):
        for index in range(frames):
            rng = np.random.default_rng([seed, kind_index, index])
            _write_frame(root, kind, build(int(rng.integers(2**31))), index, rng)
    return sum(1 for _ in root.glob('*/truth'))


def _write_frame(
    root: Path, kind: str, scene: Scene, index: int, rng: np.random.Generator
) -> None:
    rig = _rig(kind, rng)
    time_s = index * _SECONDS
    now = scene.at(time_s)
    T_world_camera = now.ground_pose(time_s) @ rig.T_body_camera
    view = render(now, T_world_camera, rig.camera)
    truth = np.where(view.depth < _LARGEST_M, view.depth, 0).astype(np.float32)
    inputs = {f'p{count}': random_points(truth, count, rng) for count in POINTS}
    for name, pattern in PATTERNS.items():
        sweep = scan(now, T_world_camera @ rig.T_camera_lidar, pattern, rng, frame_index=index)
        sparse = project_points(sweep.points, rig.T_camera_lidar, rig.camera)
        if np.count_nonzero(sparse) >= _LEAST_POINTS:
            inputs[name] = np.where(sparse < _LARGEST_M, sparse, 0).astype(np.float32)
    intrinsics = ' '.join(f'{value:.6f}' for value in rig.camera.K.flat)
    for name, sparse in inputs.items():
        folder = root / f'{kind}_{name}'
        for part in ('image', 'sparse', 'truth', 'K'):
            (folder / part).mkdir(parents=True, exist_ok=True)
        write_rgb(folder / 'image' / f'{index:03d}.png', view.rgb)
        write_depth_png(folder / 'sparse' / f'{index:03d}.png', sparse)
        write_depth_png(folder / 'truth' / f'{index:03d}.png', truth)
        write_bytes(folder / 'K' / f'{index:03d}.txt', intrinsics.encode())


def _rig(kind: str, rng: np.random.Generator) -> Rig:
    """A wide camera on a vehicle, or one that is held; the LiDAR sits above it."""
    if kind == 'street':
        camera, mount = pinhole(960, 480, 90.0), camera_mount(1.65, rng.normal(0, 0.02))
    else:
        mount = camera_mount(rng.uniform(0.5, 1.6), rng.normal(0.1, 0.1), rng.normal(0, 0.5))
        camera = pinhole(640, 480, 75.0)
    return Rig(camera, lidar_mount(-0.05, 0.0, 0.1), next(iter(PATTERNS.values())), mount)

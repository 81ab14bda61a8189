"""Simulated training frames on disk: `python -m training.scenes --out DIR --frames N --seed S`.

One file per frame, named by its number, so that an interrupted run can be resumed;
frame i of a seed is always the same, whatever the number of workers.
"""

from __future__ import annotations

import argparse
import logging
import os
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points
from dmd3c_ros.io.atomic import atomic_write
from dmd3c_ros.simulation import (
    PATTERNS,
    LidarNoise,
    Rig,
    Rosette,
    Scene,
    build,
    camera_mount,
    capture,
    lidar_mount,
    render,
)

log = logging.getLogger(__name__)

DEPTH_SCALE = 256.0  # stored depth is uint16 in 1/256 m; beyond 255 m counts as sky
FRAMES_PER_SCENE = 3
_SIZES = ((640, 480), (640, 480), (768, 432), (848, 480), (480, 640), (896, 384))


@dataclass(frozen=True)
class SceneShares:
    """How often each kind of rig and scene is drawn; the shares add up to 1."""

    kitti: float = 0.3  # 1216x352 on a street, 64 lines
    street: float = 0.25  # any camera on a street, looking anywhere, any pattern
    indoor: float = 0.22  # furnished rooms, any camera and pattern
    clutter: float = 0.23  # halls, corridors and yards full of things, any camera and pattern


class StoredFrame(NamedTuple):
    """A frame as stored.

    rgb (H, W, 3) uint8; depth (H, W) float32 m, 0 = sky; points (N, 3) float32 m, LiDAR frame;
    ring (N,) uint8; K (3, 3); T_camera_lidar (4, 4); pattern: the LiDAR's name.
    """

    rgb: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    ring: np.ndarray
    K: np.ndarray
    T_camera_lidar: np.ndarray
    pattern: str

    def sparse(self) -> np.ndarray:
        """Sparse depth (H, W) float32 m of the whole sweep."""
        height, width = self.depth.shape
        camera = Camera.from_K(self.K, width, height)
        return project_points(self.points, self.T_camera_lidar, camera)


def random_rig(rng: np.random.Generator, shares: SceneShares) -> tuple[str, Rig]:
    """A kind of scene and a rig for it."""
    kinds = ('kitti', 'street', 'indoor', 'clutter')
    kind = kinds[rng.choice(4, p=[getattr(shares, name) for name in kinds])]
    if kind == 'kitti':
        return 'street', _kitti_rig(rng)
    names = [n for n in PATTERNS if n != 'line_scan' or (kind != 'street' and rng.random() < 0.3)]
    pattern = PATTERNS[names[rng.integers(len(names))]]
    if isinstance(pattern, Rosette) and rng.random() < 0.6:
        pattern = replace(pattern, points=96000)  # several frames' worth of the figure
    width, height = _SIZES[rng.integers(len(_SIZES))]
    # Fields of view of 35 to 110 degrees across the longer side.
    focal = max(width, height) / 2 / np.tan(np.radians(rng.uniform(35, 110)) / 2)
    camera = Camera.from_K(_intrinsics(rng, width, height, focal), width, height)
    return kind, Rig(camera, _any_mount(rng), pattern, _any_view(rng, kind), _noise(rng))


def _any_mount(rng: np.random.Generator) -> np.ndarray:
    """T_camera_lidar (4, 4) of a LiDAR that sits within some decimetres of the camera."""
    return lidar_mount(*rng.normal(0, [0.1, 0.1, 0.1]), yaw_rad=rng.normal(0, 0.03))


def _any_view(rng: np.random.Generator, kind: str) -> np.ndarray:
    """T_body_camera (4, 4): handheld or on a robot indoors, mostly facing forward on streets."""
    if kind == 'street':
        yaw = rng.normal(0, 0.05) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
        return camera_mount(
            rng.uniform(0.4, 2.6), rng.normal(0.03, 0.08), yaw, rng.normal(0, 0.02)
        )
    yaw = rng.normal(0, 0.5) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    pitch, roll = rng.normal(0.12, 0.25), rng.normal(0, 0.08)
    return camera_mount(rng.uniform(0.25, 1.9), pitch, yaw, roll)


def _kitti_rig(rng: np.random.Generator) -> Rig:
    focal = rng.uniform(500, 1000) if rng.random() < 0.5 else rng.uniform(690, 750)
    camera = Camera.from_K(_intrinsics(rng, 1216, 352, focal), 1216, 352)
    mount = camera_mount(
        rng.uniform(1.4, 2.0), rng.normal(0.0, 0.015), rng.normal(0, 0.03), rng.normal(0, 0.01)
    )
    offset = (rng.uniform(-0.45, -0.1), rng.uniform(-0.35, 0.35), rng.uniform(0.0, 0.16))
    pattern = replace(PATTERNS['hdl64e'], azimuth_step_deg=float(rng.choice([0.09, 0.1728, 0.18])))
    if rng.random() < 0.6:
        pattern = PATTERNS['hdl64e']
    lift = rng.normal(0, 0.05) + rng.normal(0, 0.03, 64)
    pattern = replace(
        pattern, elevations_deg=tuple((np.array(pattern.elevations_deg) + lift).tolist())
    )
    return Rig(camera, lidar_mount(*offset), pattern, mount, _noise(rng))


def _intrinsics(rng: np.random.Generator, width: int, height: int, focal: float) -> np.ndarray:
    cx, cy = width / 2 + rng.normal(0, 0.015 * width), height / 2 + rng.normal(0, 0.04 * height)
    return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])


def _noise(rng: np.random.Generator) -> LidarNoise:
    return LidarNoise(
        range_sigma_m=float(rng.uniform(0.004, 0.02)),
        random_loss=float(rng.choice([0.0, 0.02, 0.1])),
        loss=float(rng.uniform(0.6, 1.2)),
        glass_return=float(rng.uniform(0.02, 0.4)),
        glass_pass=float(rng.uniform(0.0, 0.2)),
    )


def _miscalibrate(rng: np.random.Generator, T: np.ndarray) -> np.ndarray:
    """The true mount behind a calibration T that is about a milliradian and a centimetre off."""
    rotation, _ = cv2.Rodrigues(rng.normal(0, 0.0008, 3))
    true = T.copy()
    true[:3, :3] = rotation @ T[:3, :3]
    true[:3, 3] += rng.normal(0, 0.008, 3)
    return true


def make_scene_frames(
    seed: int, scene_index: int, shares: SceneShares = SceneShares()
) -> list[StoredFrame]:
    """The FRAMES_PER_SCENE frames of one scene, some seconds apart."""
    rng = np.random.default_rng([seed, scene_index])
    kind, rig = random_rig(rng, shares)
    scene = build(kind, int(rng.integers(2**31)))
    frames = []
    for index in range(FRAMES_PER_SCENE):
        time_s = (index + rng.uniform(0, 0.6)) * (2.0 if kind == 'street' else 4.0)
        if kind != 'street':
            rig = replace(rig, T_body_camera=_worth_seeing(scene, rig, kind, time_s, rng))
        true = replace(rig, T_camera_lidar=_miscalibrate(rng, rig.T_camera_lidar))
        frame = capture(scene, true, time_s, index, threads=1)
        seen = _in_view(frame.points, rig)
        frames.append(
            StoredFrame(
                frame.rgb,
                frame.depth,
                frame.points[seen],
                frame.ring[seen].astype(np.uint8),
                rig.camera.K,
                rig.T_camera_lidar,
                rig.pattern.name,
            )
        )
    return frames


def _in_view(points: np.ndarray, rig: Rig) -> np.ndarray:
    """(N,) bool: points in the image or a fifth of its size beside it, wherever they move to."""
    camera, T = rig.camera, rig.T_camera_lidar
    x, y, z = (points @ T[:3, :3].T + T[:3, 3]).T
    z = np.maximum(z, 1e-3)
    beside_x = np.abs(camera.fx * x / z + camera.cx - camera.width / 2) < 0.7 * camera.width
    beside_y = np.abs(camera.fy * y / z + camera.cy - camera.height / 2) < 0.7 * camera.height
    return beside_x & beside_y & (z > 1e-3)


def _worth_seeing(
    scene: Scene, rig: Rig, kind: str, time_s: float, rng: np.random.Generator
) -> np.ndarray:
    """T_body_camera (4, 4) of a view with some depth to it, not of a bare wall at the nose."""
    small = rig.camera.scaled(96, 72)
    now = scene.at(time_s)
    for _ in range(8):
        T_body_camera = _any_view(rng, kind)
        depth = render(now, now.ground_pose(time_s) @ T_body_camera, small, 1).depth
        log = np.log(depth[depth > 0])
        if len(log) > depth.size / 2 and np.median(log) > np.log(0.5) and log.std() > 0.2:
            break
    return T_body_camera


def save_frame(path: Path, frame: StoredFrame) -> None:
    """Write a frame as .npz, whole or not at all."""
    stored = np.where(frame.depth < 65535 / DEPTH_SCALE, frame.depth * DEPTH_SCALE + 0.5, 0)
    with atomic_write(path) as file:
        np.savez(
            file,
            rgb=frame.rgb,
            depth=stored.astype(np.uint16),
            points=frame.points,
            ring=frame.ring,
            K=frame.K,
            T_camera_lidar=frame.T_camera_lidar,
            pattern=frame.pattern,
        )


def load_frame(path: Path) -> StoredFrame:
    """Read what save_frame wrote. Raises FileNotFoundError, or ValueError naming a bad file."""
    try:
        with np.load(path) as data:
            depth = data['depth'].astype(np.float32) / np.float32(DEPTH_SCALE)
            return StoredFrame(
                data['rgb'],
                depth,
                data['points'],
                data['ring'],
                data['K'],
                data['T_camera_lidar'],
                str(data['pattern']),
            )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f'{path}: expected a frame of python -m training.scenes: {error}'
        ) from error


def frame_path(folder: Path, index: int) -> Path:
    """File of frame index."""
    return Path(folder) / f'{index:06d}.npz'


def _make(folder: Path, seed: int, scene_index: int, total: int) -> int:
    cv2.setNumThreads(1)
    first = scene_index * FRAMES_PER_SCENE
    indices = range(first, min(first + FRAMES_PER_SCENE, total))
    if all(frame_path(folder, index).exists() for index in indices):
        return len(indices)
    frames = make_scene_frames(seed, scene_index)
    for index in indices:
        save_frame(frame_path(folder, index), frames[index - first])
    return len(indices)


def make_training_set(folder: Path, frames: int, seed: int, workers: int = 1) -> None:
    """Write frames 0..frames-1 of the seed into folder, skipping existing ones."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = -(-frames // FRAMES_PER_SCENE)
    # Ray casting and image filters have their own threads, which a forked process would lose.
    pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn'))
    try:
        jobs = [pool.submit(_make, folder, seed, index, frames) for index in range(scenes)]
        for job in track(as_completed(jobs), 'scenes', total=scenes):
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)
    log.info('%d frames in %s', frames, folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m training.scenes', description=__doc__)
    parser.add_argument('--out', type=Path, required=True, help='output folder for the frames')
    parser.add_argument('--frames', type=int, default=3000, help='number of frames')
    parser.add_argument('--seed', type=int, default=0, help='random seed of the set')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes')
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    make_training_set(args.out, args.frames, args.seed, args.workers)

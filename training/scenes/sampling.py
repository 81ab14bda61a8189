"""From one simulated frame to one training sample: sensor, crop and colours drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.networks import Convention
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from training.scenes.frames import load_frame


@dataclass(frozen=True)
class SamplingConfig:
    """How a frame becomes a sample.

    height, width: crop, pixels. ring_steps: one is drawn; of the sweep every n-th ring stays.
    point_drop: largest share of points dropped at random. tilt: standard deviation, in rad, of a
    calibration error that tilt_share of the samples have. speed: largest, m/s, that a spinning
    LiDAR moves at while it turns, in skew_share of the samples. filter_share: of the samples whose
    input lacks hidden points, as the node's does by default. colour: strength of colour changes.
    """

    height: int = 288
    width: int = 640
    ring_steps: tuple[int, ...] = (1, 1, 2, 2, 2, 3, 4)
    point_drop: float = 0.3
    tilt: float = 1.5e-3
    tilt_share: float = 0.5
    speed: float = 15.0
    skew_share: float = 0.5
    filter_share: float = 0.7
    colour: float = 1.0

    def for_validation(self) -> SamplingConfig:
        """Whole frames, half of the rings, nothing else changed."""
        return replace(
            self,
            height=0,
            width=0,
            ring_steps=(2,),
            point_drop=0.0,
            tilt_share=0.0,
            skew_share=0.0,
            filter_share=1.0,
            colour=0.0,
        )


def draw_sample(
    file: Path,
    rng: np.random.Generator,
    config: SamplingConfig,
    convention: Convention | None = None,
) -> dict[str, Tensor]:
    """One sample as tensors, depths in m, 0 = unknown.

    image (3, h, w), normalized by the network's convention; sparse (1, h, w), the network's input;
    sweep (1, h, w), all rings as the same sensor saw them, without hidden points; depth
    (1, h, w), exact; K (3, 3), pixels. Raises as load_frame.
    """
    rgb, depth, points, ring, K, T_camera_lidar, _ = load_frame(file)
    height, width = depth.shape
    camera = Camera.from_K(K, width, height)
    kept = _kept(points, ring, rng, config)
    points, T_camera_lidar = _as_seen(points, T_camera_lidar, rng, config)
    sparse = project_points(points[kept], T_camera_lidar, camera)
    sweep = remove_hidden_points(project_points(points, T_camera_lidar, camera))
    if rng.random() < config.filter_share:
        sparse = remove_hidden_points(sparse)
    h, w = (config.height or height), (config.width or width)
    h, w = min(h, height) // 4 * 4, min(w, width) // 4 * 4
    # The lower part holds what a LiDAR sees; the sky needs fewer looks.
    top = int((height - h) * rng.beta(2.0, 1.0)) if config.height else height - h
    left = int(rng.integers(width - w + 1))
    window = (slice(top, top + h), slice(left, left + w))
    K = camera.crop(left, top, w, h).K
    image = torch.from_numpy(rgb[window].copy()).permute(2, 0, 1).float() / 255
    if config.colour:
        image = _recolour(image, rng, config.colour)
    convention = convention or Convention()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (convention.mean, convention.std))
    sample = {
        'image': (image - mean) / std,
        'sparse': torch.from_numpy(sparse[window].copy())[None],
        'sweep': torch.from_numpy(sweep[window].copy())[None],
        'depth': torch.from_numpy(depth[window].copy())[None],
    }
    if config.height and rng.random() < 0.5:
        sample = {name: value.flip(-1) for name, value in sample.items()}
        K[0, 2] = w - 1 - K[0, 2]
    return {**sample, 'K': torch.from_numpy(K.astype(np.float32))}


def _kept(
    points: np.ndarray, ring: np.ndarray, rng: np.random.Generator, config: SamplingConfig
) -> np.ndarray:
    """(N,) bool: the points of a sparser sensor."""
    step = config.ring_steps[rng.integers(len(config.ring_steps))]
    # A sensor with few lines loses points instead: one line in a street tells too little.
    if ring.max(initial=0) >= 8 * step:
        keep = ring % step == rng.integers(step)
    else:
        keep = rng.random(len(points)) < 1 / step
    return keep & (rng.random(len(points)) >= rng.uniform(0, config.point_drop))


def _as_seen(
    points: np.ndarray,
    T_camera_lidar: np.ndarray,
    rng: np.random.Generator,
    config: SamplingConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Points and extrinsics of a slightly miscalibrated sensor that moves while it turns.

    A turn takes 0.1 s, and points ahead are measured when the image is taken.
    """
    T = np.asarray(T_camera_lidar, np.float64)
    if rng.random() < config.tilt_share:
        x, y, z = rng.normal(0, config.tilt, 3)
        T = np.array([[1, -z, y, 0], [z, 1, -x, 0], [-y, x, 1, 0], [0, 0, 0, 1]]) @ T
    if rng.random() < config.skew_share:
        speed, yaw_rate = rng.uniform(0, config.speed), rng.normal(0, 0.1)
        x, y = points[:, 0], points[:, 1]
        time = np.arctan2(y, x) * np.float32(rng.choice([-1, 1]) * 0.1 / (2 * np.pi))
        turn = np.float32(yaw_rate) * time
        points = points.copy()
        points[:, 0] = x - np.float32(speed) * time + turn * y
        points[:, 1] = y - turn * x
    return points, T


def _recolour(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Change exposure, contrast, colour, sharpness and noise of an image (3, h, w) in 0..1."""
    image = image ** float(np.exp(rng.normal(0, 0.25 * strength)))
    gains = np.exp(rng.normal(0, 0.2 * strength) + rng.normal(0, 0.08 * strength, 3))
    image = image * torch.tensor(gains, dtype=torch.float32).view(3, 1, 1)
    grey = image.mean(0, keepdim=True)
    saturation = 0.0 if rng.random() < 0.1 else float(np.exp(rng.normal(0, 0.35 * strength)))
    image = grey + (image - grey) * saturation
    image = image.mean() + (image - image.mean()) * float(np.exp(rng.normal(0, 0.2 * strength)))
    if rng.random() < 0.3:
        image = F.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    if rng.random() < 0.5:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        noise = torch.randn(image.shape, generator=generator)
        image = image + noise * float(rng.uniform(0, 0.03 * strength))
    return image.clamp(0, 1)

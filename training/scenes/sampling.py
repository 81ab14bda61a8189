"""From one simulated frame to one training sample: sensor, size, crop and colours at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.networks import Convention
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.core.resizing import mean_distance, suitable_scale
from training.augmentation import ToneSpread, network_inputs, resized, resized_depth, toned
from training.scenes.frames import StoredFrame, load_frame

PATTERNS = ('sweep', 'pixels', 'corners', 'grid', 'dense')
_SINGLE = ('pixels', 'corners')
_TONES = ToneSpread(exposure=0.2, balance=0.08, saturation=0.35, grey=0.1)


@dataclass(frozen=True)
class SamplingConfig:
    """How a frame becomes a sample.

    height, width: crop, pixels; 0 for whole frames. scale_min: the frame is reduced by a factor
    from this to 1 (log-uniform; no smaller than the crop) in scaled_fraction of the samples.
    matched: fraction of the sweeps, and of single points by number, for which it is instead
    reduced as the completer reduces images whose points lie far apart, give or take spread
    (standard deviation of the factor's logarithm).
    patterns: fraction of each kind of input: 'sweep', the frame's LiDAR; 'pixels', random ones;
    'corners', what visual odometry tracks; 'grid', a coarse ToF sensor; 'dense', a depth camera
    with holes. ring_steps: one is drawn; of a sweep every n-th ring stays. point_drop: largest
    fraction of points dropped at random. spacing: of single points, pixels of the sample
    (log-uniform). points: their number in the whole frame instead (log-uniform).
    holes: fraction of samples that lose whole parts: sectors, the upper half, all but a
    band, objects.
    outliers: largest fraction of points of a sample that are no surface: rain, fog, mirrors.
    tilt: standard deviation, in rad, of a calibration error; tilt_fraction of the samples have
    one. speed: largest, m/s, that a spinning LiDAR moves at while it turns, in skew_fraction of
    the samples. filter_fraction: of the samples whose input lacks hidden points, as the node's
    may. colour: strength of colour changes.
    """

    height: int = 192
    width: int = 320
    scale_min: float = 0.25
    scaled_fraction: float = 0.5
    matched: float = 0.7
    spread: float = 0.35
    patterns: dict[str, float] = field(
        default_factory=lambda: {
            'sweep': 0.65,
            'pixels': 0.18,
            'corners': 0.07,
            'grid': 0.05,
            'dense': 0.05,
        }
    )
    ring_steps: tuple[int, ...] = (1, 1, 2, 2, 2, 3, 4, 6, 8)
    point_drop: float = 0.3
    spacing: tuple[float, float] = (3.0, 50.0)
    points: tuple[float, float] | None = None
    holes: float = 0.3
    outliers: float = 0.01
    tilt: float = 1.5e-3
    tilt_fraction: float = 0.5
    speed: float = 15.0
    skew_fraction: float = 0.5
    filter_fraction: float = 0.3
    colour: float = 1.0
    texture: float = 0.5
    displaced: float = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(self.patterns.keys() - set(PATTERNS))
        if unknown:
            raise ValueError(f'patterns: expected some of {PATTERNS}, got {unknown}')

    def for_validation(self) -> SamplingConfig:
        """Whole frames, half of the rings or 500 pixels, nothing else changed."""
        return replace(
            self,
            height=0,
            width=0,
            scaled_fraction=0.0,
            matched=0.0,
            patterns={'sweep': 0.6, 'pixels': 0.4},
            ring_steps=(2,),
            point_drop=0.0,
            spacing=(25.0, 25.0),
            points=None,
            holes=0.0,
            outliers=0.0,
            tilt_fraction=0.0,
            skew_fraction=0.0,
            filter_fraction=1.0,
            colour=0.0,
            texture=0.0,
            displaced=0.0,
        )


def draw_sample(
    file: Path,
    rng: np.random.Generator,
    config: SamplingConfig,
    convention: Convention | None = None,
) -> dict[str, Tensor]:
    """One sample as tensors, depths in m, 0 = unknown.

    image (3, h, w), normalized by the network's convention; sparse (1, h, w), the network's input;
    sweep (1, h, w), all that the same sensor could see, without hidden points: a LiDAR's other
    rings, or the exact depth where the input was taken from that; depth (1, h, w), exact;
    K (3, 3), pixels. Raises as load_frame.
    """
    frame = load_frame(file)
    convention = convention or Convention()
    names = sorted(config.patterns)
    fractions = np.array([config.patterns[name] for name in names])
    pattern = names[rng.choice(len(names), p=fractions / fractions.sum())]
    kept = _kept(frame.points, frame.ring, rng, config) if pattern == 'sweep' else None
    height, width = frame.depth.shape
    spacing = None  # pixels of the frame
    if config.points and pattern in _SINGLE:
        spacing = math.sqrt(height * width / _log_uniform(rng, config.points))
    factor = _factor(frame, kept, spacing, rng, config, convention.point_distance)
    camera = Camera.from_K(frame.K, width, height)
    camera = camera.scaled(max(1, round(width * factor)), max(1, round(height * factor)))
    h, w = (config.height or camera.height) // 32 * 32, (config.width or camera.width) // 32 * 32
    if (camera.height, camera.width) != (height, width):
        size = camera.width, camera.height
        frame = frame._replace(
            rgb=resized(frame.rgb, size), depth=resized_depth(frame.depth, size)
        )
    # The lower part holds what a LiDAR sees; the sky needs fewer looks.
    top = int((camera.height - h) * rng.beta(2.0, 1.0)) if config.height else camera.height - h
    left = int(rng.integers(camera.width - w + 1))
    window = (slice(top, top + h), slice(left, left + w))
    if kept is not None:
        sparse, sweep = _sweep(frame, kept, camera, rng, config)
        sparse, sweep, depth = sparse[window], sweep[window], frame.depth[window]
        pattern = pattern if np.count_nonzero(sparse) >= 5 else 'pixels'
    if pattern != 'sweep':
        depth = sweep = frame.depth[window]
        spacing = _log_uniform(rng, config.spacing) if spacing is None else spacing * factor
        sparse = _from_depth(pattern, frame.rgb[window], depth, spacing, rng)
    sparse = _with_faults(sparse, depth, rng, config)
    camera = camera.crop(left, top, w, h)
    rgb = _displaced(frame.rgb[window], rng, config.displaced)
    if rng.random() < config.texture:
        rgb = _textured(rgb, rng)
    image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255
    if config.colour:
        image = _recolour(image, rng, config.colour)
    image, sparse = network_inputs(image.permute(1, 2, 0).numpy(), sparse, convention)
    maps = {'sweep': sweep, 'depth': depth}
    sample = {name: torch.from_numpy(np.array(value))[None] for name, value in maps.items()}
    sample = {'image': image, 'sparse': sparse, **sample}
    if config.height and rng.random() < 0.5:
        sample = {name: value.flip(-1) for name, value in sample.items()}
        camera = camera.flipped()
    return {**sample, 'K': torch.from_numpy(camera.K.astype(np.float32))}


def _factor(
    frame: StoredFrame,
    kept: np.ndarray | None,
    spacing: float | None,
    rng: np.random.Generator,
    config: SamplingConfig,
    point_distance: float | None,
) -> float:
    """Scale of the frame, which stays at least as large as the crop.

    kept: (N,) bool, the points of the input, or None where it is not a sweep. spacing: between
    single points, pixels, or None where it is not known yet.
    """
    height, width = frame.depth.shape
    least = max(config.height / height, config.width / width)
    if least > 1:
        return least
    known = kept is not None or spacing is not None
    if known and point_distance and rng.random() < config.matched:
        # Half of the spacing is the mean distance to the nearest of points placed at random.
        distance = spacing / 2 if spacing is not None else _sweep_distance(frame, kept)
        wanted = point_distance * np.exp(rng.normal(0, config.spread))
        return max(least, suitable_scale((height, width), distance, wanted))
    if rng.random() < config.scaled_fraction:
        return float(np.exp(rng.uniform(np.log(max(least, config.scale_min)), 0)))
    return 1.0


def _sweep_distance(frame: StoredFrame, kept: np.ndarray) -> float:
    """Mean distance of the frame's pixels to a sweep, pixels; 0 where none of it is seen."""
    height, width = frame.depth.shape
    camera = Camera.from_K(frame.K, width, height)
    sparse = project_points(frame.points[kept], frame.T_camera_lidar, camera)
    return mean_distance(sparse) if sparse.any() else 0.0


def _sweep(
    frame: StoredFrame,
    kept: np.ndarray,
    camera: Camera,
    rng: np.random.Generator,
    config: SamplingConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Sparse depth of some rings, and of the whole sweep without hidden points."""
    points, T_camera_lidar = _as_seen(frame.points, frame.T_camera_lidar, rng, config)
    sparse = project_points(points[kept], T_camera_lidar, camera)
    sweep = remove_hidden_points(project_points(points, T_camera_lidar, camera))
    if rng.random() < config.filter_fraction:
        sparse = remove_hidden_points(sparse)
    return sparse, sweep


def _from_depth(
    pattern: str,
    rgb: np.ndarray,
    depth: np.ndarray,
    spacing: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sparse depth as a sensor at the camera's own place measures it; spacing in pixels."""
    h, w = depth.shape
    chosen = np.zeros((h, w), bool)
    if pattern == 'pixels':
        chosen.flat[rng.choice(h * w, max(5, round(h * w / spacing**2)), replace=False)] = True
    elif pattern == 'corners':
        count = max(8, round(h * w / spacing**2))
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        corners = cv2.goodFeaturesToTrack(grey, count, qualityLevel=1e-3, minDistance=3)
        if corners is not None:
            u, v = corners.reshape(-1, 2).round().astype(int).T
            chosen[v, u] = True
    elif pattern == 'grid':
        step = float(np.clip(spacing, 3, 24))
        v, u = np.mgrid[rng.uniform(0, step) : h : step, rng.uniform(0, step) : w : step]
        chosen[v.astype(int), u.astype(int)] = True
    else:
        chosen = rng.random((h, w)) < rng.uniform(0.15, 1.0)
        # A depth camera's shadows and dark or glancing surfaces: blobs without any return.
        field_ = rng.standard_normal((h // 16 + 2, w // 16 + 2)).astype(np.float32)
        blobs = cv2.resize(field_, (w, h), interpolation=cv2.INTER_CUBIC)
        chosen &= blobs < rng.uniform(0, 1.5)
    # Sensors of this kind have an end; beyond it they are silent.
    reach = np.exp(rng.uniform(np.log(4), np.log(120))) if rng.random() < 0.5 else np.inf
    if (seen := chosen & (depth > 0) & (depth < reach)).sum() < 5:
        seen = chosen & (depth > 0)
    sigma = float(np.exp(rng.uniform(np.log(5e-4), np.log(0.02))))
    noise = 1 + sigma * rng.standard_normal((h, w))
    return np.where(seen, depth * noise, 0).astype(np.float32)


def _with_faults(
    sparse: np.ndarray, depth: np.ndarray, rng: np.random.Generator, config: SamplingConfig
) -> np.ndarray:
    """Sparse depth without whole parts of the view, and with some points that are no surface."""
    h, w = sparse.shape
    result = sparse.copy()
    if rng.random() < config.holes:
        kind = rng.integers(5)
        if kind == 0:
            result[: int(h * rng.uniform(0.2, 0.7))] = 0
        elif kind == 4:
            # A field of view that is flatter than the camera's.
            top, height = rng.uniform(0.1, 0.6) * h, rng.uniform(0.1, 0.4) * h
            result[: int(top)] = result[int(top + height) :] = 0
        elif kind == 1:
            start, part = rng.uniform(-0.2, 0.9) * w, rng.uniform(0.1, 0.5) * w
            result[:, max(0, int(start)) : max(0, int(start + part))] = 0
        else:
            # Everything about as far as some place, around it: an object without returns.
            v, u = int(rng.integers(h)), int(rng.integers(w))
            box = np.s_[max(0, v - h // 3) : v + h // 3, max(0, u - w // 4) : u + w // 4]
            alike = np.abs(np.log(np.maximum(depth[box], 0.1) / max(depth[v, u], 0.1))) < 0.15
            result[box] = np.where(alike, 0, result[box])
        if np.count_nonzero(result) < 5:
            result = sparse.copy()
    if config.outliers and rng.random() < 0.3:
        wrong = (result > 0) & (rng.random((h, w)) < rng.uniform(0, config.outliers))
        factor = np.exp(rng.uniform(np.log(0.3), np.log(1.3), (h, w)))
        result = np.where(wrong, result * factor, result).astype(np.float32)
    return result


def _kept(
    points: np.ndarray, ring: np.ndarray, rng: np.random.Generator, config: SamplingConfig
) -> np.ndarray:
    """(N,) bool: the points of a sparser sensor."""
    step = config.ring_steps[rng.integers(len(config.ring_steps))]
    # A sensor with few lines loses points instead: one line in a street tells too little.
    if ring.max(initial=0) >= 4 * step:
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

    A revolution takes 0.1 s, and points ahead are measured when the image is taken.
    """
    T = np.asarray(T_camera_lidar, np.float64)
    if rng.random() < config.tilt_fraction:
        x, y, z = rng.normal(0, config.tilt, 3)
        T = np.array([[1, -z, y, 0], [z, 1, -x, 0], [-y, x, 1, 0], [0, 0, 0, 1]]) @ T
    if rng.random() < config.skew_fraction:
        speed, yaw_rate = rng.uniform(0, config.speed), rng.normal(0, 0.1)
        x, y = points[:, 0], points[:, 1]
        time = np.arctan2(y, x) * np.float32(rng.choice([-1, 1]) * 0.1 / (2 * np.pi))
        turn = np.float32(yaw_rate) * time
        points = points.copy()
        points[:, 0] = x - np.float32(speed) * time + turn * y
        points[:, 1] = y - turn * x
    return points, T


def _displaced(rgb: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """The image moved, turned and enlarged by what a calibration in the field is off by."""
    if not sigma:
        return rgb
    height, width = rgb.shape[:2]
    angle, enlarged = rng.normal(0, 0.2 * sigma), 1 + rng.normal(0, 0.002 * sigma)
    M = cv2.getRotationMatrix2D((width / 2, height / 2), angle, enlarged)
    M[:, 2] += rng.normal(0, sigma, 2)
    return cv2.warpAffine(rgb, M, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _textured(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image with brightness that has nothing to do with depth, (H, W, 3) float32 in 0..255."""
    height, width = rgb.shape[:2]
    image = rgb.astype(np.float32)
    kind = rng.integers(4)
    if kind == 0:
        # Fractal clouds: dirt, foliage, clouds on glass.
        layer = np.zeros((height, width), np.float32)
        for cells in (3, 6, 12, 24, 48):
            coarse = rng.standard_normal((cells, cells)).astype(np.float32)
            layer += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells
        image *= np.exp(rng.uniform(0.3, 1.5) * layer)[..., None]
    elif kind == 1:
        # Stripes, tiles or checks of any size and direction.
        v, u = np.mgrid[:height, :width].astype(np.float32)
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(80)))
        along = (u * np.cos(angle) + v * np.sin(angle)) / period
        across = (v * np.cos(angle) - u * np.sin(angle)) / period
        dark = np.mod(along, 1) < rng.uniform(0.1, 0.6)
        if rng.random() < 0.6:
            dark ^= np.mod(across, 1) < rng.uniform(0.1, 0.6)
        image[dark] *= rng.uniform(0.4, 0.9, 3).astype(np.float32)
    elif kind == 2:
        # What a pane or a wet floor mirrors: another part of the same world.
        other = image[:: rng.choice([-1, 1]), ::-1]
        weight = np.float32(rng.uniform(0.1, 0.4))
        image = (1 - weight) * image + weight * np.roll(other, rng.integers(width), 1)
    else:
        # Shadows with straight edges.
        for _ in range(rng.integers(1, 4)):
            corners = rng.uniform(-0.3, 1.3, (4, 2)) * (width, height)
            mask = np.zeros((height, width), np.uint8)
            cv2.fillConvexPoly(mask, cv2.convexHull(corners.astype(np.int32)), 1)
            image[mask > 0] *= np.float32(rng.uniform(0.3, 0.8))
    return image.clip(0, 255)


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _recolour(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Change exposure, contrast, colour, sharpness and noise of an image (3, h, w) in 0..1."""
    image = toned(image, _TONES, strength, rng)
    if rng.random() < 0.3:
        image = F.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    if rng.random() < 0.5:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        noise = torch.randn(image.shape, generator=generator)
        image = image + noise * float(rng.uniform(0, 0.03 * strength))
    return image.clamp(0, 1)

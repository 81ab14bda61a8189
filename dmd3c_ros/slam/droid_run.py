"""DROID-SLAM's own Python code on a CPU, and what of our frames arrives in it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.transforms import rotation_from_quaternion
from dmd3c_ros.io.atomic import write_json
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb

from .droid import DroidFeeder, DroidSettings, RgbdFrame
from .droid_checkout import DroidCheckout
from .droid_cpu import ba, on_cpu
from .droid_flow import FIRST, STEP, OpticalFlow
from .orbslam3 import Track

# Flow by OpenCV, or by DROID-SLAM's network, with random weights where it has no checkpoint.
FLOWS = ('opencv', 'network')
ARRIVAL = 'arrival.json'


class DroidError(Exception):
    """DROID-SLAM gave up on a sequence."""


@dataclass
class Arrival:
    """What arrived of a sequence's frames in the depth video and in the bundle adjustment.

    frames: passed to `Droid.track`; size: height and width of their images. keyframes: frames that
    passed the motion filter; kept: keyframes at the end. known: share of their cells with a sensor
    disparity. unit_m: DROID-SLAM's unit of length, m; disparities are in 1 / unit.
    disparity_error: largest difference between a stored disparity and that of the frame at the
    pixel that DROID-SLAM samples; invented: cells with a disparity whose pixel has no depth;
    not_finite: disparities that are NaN or infinite. colour_error: largest difference between a
    colour's mean in the frame and in the network's input, 0 to 1. adjustments: bundle adjustments
    of depth and poses; edges: of the largest; held: share of their cells that a sensor disparity
    constrains; moved: median relative difference of these cells from the sensor after the last
    one.
    """

    frames: int = 0
    size: tuple[int, int] = (0, 0)
    keyframes: int = 0
    kept: int = 0
    known: float = 0.0
    unit_m: float = 0.0
    disparity_error: float = 0.0
    invented: int = 0
    not_finite: int = 0
    colour_error: float = 0.0
    adjustments: int = 0
    edges: int = 0
    held: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True)
class DroidOnCpu:
    """Tracks TUM sequences with the DROID-SLAM of a checkout, without CUDA and its extensions.

    flow: one of FLOWS. Without weights, the network's are random. Raises DroidError where it gives
    up.
    """

    checkout: DroidCheckout
    settings: DroidSettings = field(default_factory=DroidSettings)
    flow: str = 'opencv'

    def __post_init__(self) -> None:
        if self.flow not in FLOWS:
            raise ValueError(f'flow: expected {" or ".join(FLOWS)}, got {self.flow!r}')

    def track(self, sequence: Path) -> Track:
        """Poses of all frames; what arrived is written into the sequence's folder."""
        with TemporaryDirectory() as scratch, on_cpu() as backends, ExitStack() as stack:
            droid = self.checkout.load()
            checkout = self.checkout
            if not checkout.droid_weights:
                checkout = replace(checkout, droid_weights=_random_weights(Path(scratch)))
            flow = OpticalFlow() if self.flow == 'opencv' else None
            if flow is not None:
                module = importlib.import_module('droid_net').UpdateModule
                # A function of the class would bind the module as its first argument.
                stack.enter_context(mock.patch.object(module, 'forward', staticmethod(flow)))
            watch = _Watch(partial(checkout.make, droid), self.settings, flow)
            stack.enter_context(mock.patch.object(backends, 'ba', watch.adjust))
            try:
                for frame in read_sequence(sequence):
                    watch.add(frame)
                poses = watch.finish()
            except (RuntimeError, IndexError, ValueError) as error:
                raise DroidError(f'{sequence}: {type(error).__name__}: {error}') from error
        write_json(sequence / ARRIVAL, asdict(watch.arrival))
        count = len(poses)
        return Track(tuple(range(count)), tuple(map(_matrix, poses)), (0,) * count)


def _random_weights(folder: Path) -> str:
    network = importlib.import_module('droid_net').DroidNet
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        torch.save(network().state_dict(), folder / 'random.pth')
    return str(folder / 'random.pth')


class _Watch:
    """Feeds frames, and looks at what DROID-SLAM makes of each."""

    def __init__(self, make: Any, settings: DroidSettings, flow: OpticalFlow | None) -> None:
        self.arrival = Arrival()
        self._feeder = DroidFeeder(partial(self._start, make), settings, keep=True)
        self._flow, self._frame, self._seen = flow, None, None
        self._known: list[float] = []
        self._held: list[float] = []

    def _start(self, make: Any, height: int, width: int) -> Any:
        droid = make(height, width)
        self.arrival.size = height, width
        self._append, droid.video.append = droid.video.append, self._arrive
        droid.net.fnet.register_forward_pre_hook(self._look)
        self._video, self._track, droid.track = droid.video, droid.track, self._given
        if self._flow is not None:
            self._flow.video = droid.video
        return droid

    def add(self, frame: RgbdFrame) -> None:
        """Track a frame."""
        self._frame = frame
        self._feeder.add(frame)
        self.arrival.unit_m = self._feeder.unit_m
        self.arrival.frames += 1
        self.arrival.kept = self._video.counter.value

    def finish(self) -> np.ndarray:
        """Poses (frames, 7), T_first_camera: x y z (m) qx qy qz qw."""
        poses = self._feeder.finish()
        arrival, count = self.arrival, self.arrival.kept
        arrival.known, arrival.held = float(np.mean(self._known)), float(np.mean(self._held))
        sensed = self._video.disps_sens[:count]
        ratio = self._video.disps[:count][sensed > 0] / sensed[sensed > 0]
        arrival.moved = float((ratio - 1).abs().median()) if len(ratio) else 0.0
        return poses

    def _given(self, tstamp: float, image: torch.Tensor, *depth: Any, **intrinsics: Any) -> None:
        if self._flow is not None:
            self._flow.image = image[0]
        self._track(tstamp, image, *depth, **intrinsics)

    def _look(self, module: Any, inputs: tuple[torch.Tensor]) -> None:
        self._seen = inputs[0]

    def _arrive(self, *item: Any) -> None:
        """In the place of `DepthVideo.append`: a keyframe goes in, and is compared."""
        number = self._video.counter.value
        self._append(*item)
        arrival, stored = self.arrival, self._video.disps_sens[number].numpy()
        expected = self._expected(self._video.intrinsics[number].numpy() * 8, stored.shape)
        arrival.keyframes += 1
        arrival.not_finite += int((~np.isfinite(stored)).sum())
        arrival.invented += int(((stored > 0) & (expected == 0)).sum())
        error = float(np.abs(stored - expected).max())
        arrival.disparity_error = max(arrival.disparity_error, error)
        self._known.append(float((stored > 0).mean()))
        # ImageNet's normalization undone: red, green, blue as the network was given them.
        seen = self._seen[0, 0].mean((1, 2)).numpy()
        seen = seen * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
        height, width = self._cut()
        means = self._frame.rgb[:height, :width].mean((0, 1)) / 255
        arrival.colour_error = max(arrival.colour_error, float(np.abs(seen - means).max()))

    def _scales(self) -> tuple[float, float]:
        """Height and width of the resized image, in those of the frame's."""
        fx, fy = (self._video.intrinsics[0, :2] * 8).tolist()
        return fy / self._frame.camera.fy, fx / self._frame.camera.fx

    def _cut(self) -> tuple[int, int]:
        """Rows and columns of the frame that are left of it."""
        return tuple(
            round(side / scale)
            for side, scale in zip(self.arrival.size, self._scales(), strict=True)
        )

    def _expected(self, intrinsics: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Disparity (h, w), 1 / unit, of the frame's pixels that DROID-SLAM samples."""
        rows, columns = (
            ((FIRST + STEP * np.arange(count) + 0.5) / scale).astype(int)
            for count, scale in zip(shape, self._scales(), strict=True)
        )
        depth = self._frame.depth[rows[:, None], columns]
        known = depth > 0
        unit = self._feeder.unit_m or 1.0
        return np.where(known, unit / np.where(known, depth, np.float32(1)), np.float32(0))

    def adjust(self, poses, disps, intrinsics, disps_sens, targets, *rest: Any) -> None:
        """In the place of `droid_backends.ba`: counted, and done."""
        ii, motion_only = rest[2], rest[-1]
        if not motion_only:
            self.arrival.adjustments += 1
            self.arrival.edges = max(self.arrival.edges, len(ii))
            self._held.append(float((disps_sens[torch.unique(ii)] > 0).float().mean()))
        ba(poses, disps, intrinsics, disps_sens, targets, *rest)


def read_sequence(folder: Path) -> Iterator[RgbdFrame]:
    """Frames of a folder that `TumWriter` wrote."""
    settings = cv2.FileStorage(str(folder / 'orbslam3.yaml'), cv2.FILE_STORAGE_READ)
    depth_scale = settings.getNode('RGBD.DepthMapFactor').real()
    fx, fy, cx, cy = np.loadtxt(folder / 'calibration.txt')
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    for line in (folder / 'associations.txt').read_text().splitlines():
        stamp, image, _, depth = line.split()
        seconds, _, fraction = stamp.partition('.')
        rgb = read_rgb(folder / image)
        yield RgbdFrame(
            int(seconds + fraction),
            rgb,
            read_depth_png(folder / depth, depth_scale),
            Camera.from_K(K, rgb.shape[1], rgb.shape[0]),
        )


def _matrix(pose: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation_from_quaternion(pose[3:]), pose[:3]
    return matrix

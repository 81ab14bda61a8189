"""Sequences in the layout of the TUM RGB-D benchmark, as RGB-D SLAM systems read it.

Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems", IROS 2012. A folder has::

    rgb/1317042272.300000000.png  depth/1317042272.300000000.png   16-bit, metres x depth_scale
    rgb.txt  depth.txt            lines `seconds file`
    associations.txt              lines `seconds rgb-file seconds depth-file` (ORB-SLAM)
    calibration.txt               fx fy cx cy, pixels (ETH3D's form, which DROID-SLAM reads)
    orbslam3.yaml                 settings of ORB-SLAM3 with this camera and DepthMapFactor
    groundtruth.txt               lines `seconds tx ty tz qx qy qz qw`, where poses are known
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.transforms import quaternion_from_rotation

from .atomic import write_bytes
from .depth_png import TUM_SCALE, write_depth_png
from .images import write_rgb

_DEFAULT_RATE_HZ = 10.0
_TRAJECTORY_HEADING = '# seconds tx ty tz qx qy qz qw'

# The features' and the viewer's values are those of ORB-SLAM3's own RGB-D examples. It takes depth
# for that of a stereo pair with baseline Stereo.b, right to about a pixel; up to Stereo.b times
# Stereo.ThDepth, m, a point is placed by one frame's depth alone.
_ORBSLAM3 = """%YAML:1.0
File.version: "1.0"
Camera.type: "PinHole"
Camera1.fx: {fx}
Camera1.fy: {fy}
Camera1.cx: {cx}
Camera1.cy: {cy}
Camera1.k1: 0.0
Camera1.k2: 0.0
Camera1.p1: 0.0
Camera1.p2: 0.0
Camera.width: {width}
Camera.height: {height}
Camera.fps: {rate}
Camera.RGB: 0
Stereo.ThDepth: {baselines}
Stereo.b: {baseline}
RGBD.DepthMapFactor: {scale}
ORBextractor.nFeatures: 2000
ORBextractor.scaleFactor: 1.2
ORBextractor.nLevels: 8
ORBextractor.iniThFAST: 20
ORBextractor.minThFAST: 7
Viewer.KeyFrameSize: 0.05
Viewer.KeyFrameLineWidth: 1.0
Viewer.GraphLineWidth: 0.9
Viewer.PointSize: 2.0
Viewer.CameraSize: 0.08
Viewer.CameraLineWidth: 3.0
Viewer.ViewpointX: 0.0
Viewer.ViewpointY: -0.7
Viewer.ViewpointZ: -1.8
Viewer.ViewpointF: 500.0
"""
_ORBSLAM3_CLOSE = 40.0
# So one pixel is 0.7 % of a depth of 10 m (f = 720), which confident pixels keep. With half the
# baseline, traffic and the sky, which stay in place in the image, outvote the depth.
_ORBSLAM3_CLOSE_BASELINES = 20.0


class TumWriter:
    """Writes the folder `path`, which appears when the `with` block succeeds.

    depth_scale: units of the depth images per metre; TUM's 5000 reaches 13.1 m, 256 reaches
    255 m. All frames must come from one camera; ValueError otherwise. Raises FileExistsError
    if `path` already exists.
    """

    def __init__(self, path: str | Path, depth_scale: float = TUM_SCALE) -> None:
        self.path, self.depth_scale = Path(path), depth_scale
        if self.path.exists():
            raise FileExistsError(f'{self.path} already exists; choose a new folder')
        self._scratch = self.path.with_name(f'.{self.path.name}.{os.getpid()}.tmp')
        self._camera: Camera | None = None
        self._names: list[str] = []
        self._stamps: list[int] = []
        self._poses: list[str] = []
        self.too_far = 0

    def __enter__(self) -> TumWriter:
        for folder in ('rgb', 'depth'):
            (self._scratch / folder).mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
        except BaseException:
            self._discard()
            raise
        try:
            self._scratch.rename(self.path)
        except OSError as error:
            # It may have taken hours to make.
            raise OSError(
                f'{self.path}: {error.strerror}; the sequence is in {self._scratch}'
            ) from error

    def _discard(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._names)

    def add(
        self,
        stamp_ns: int,
        rgb: np.ndarray,
        depth: np.ndarray,
        camera: Camera,
        T_world_camera: np.ndarray | None = None,
    ) -> None:
        """Add a frame: rgb (H, W, 3) uint8, depth (H, W) float32, m, 0 = unknown.

        T_world_camera (4, 4): pose of the rectified camera, m, for groundtruth.txt.
        """
        if rgb.shape[:2] != depth.shape or depth.shape != (camera.height, camera.width):
            raise ValueError(
                f'frame: expected image and depth of {camera.width}x{camera.height}, '
                f'got {rgb.shape[1]}x{rgb.shape[0]} and {depth.shape[1]}x{depth.shape[0]}'
            )
        self._camera = self._camera or camera
        if not np.allclose(self._camera.K, camera.K) or depth.shape != (
            self._camera.height,
            self._camera.width,
        ):
            raise ValueError(
                'frame: expected the same camera as before; a sequence has one calibration'
            )
        name = _name(stamp_ns)
        if self._stamps and stamp_ns <= self._stamps[-1]:
            raise ValueError(
                f'frame: expected stamps that grow, got {name} after {self._names[-1]}'
            )
        write_rgb(self._scratch / f'rgb/{name}.png', rgb)
        reach = np.iinfo(np.uint16).max / self.depth_scale
        far = depth > reach
        self.too_far += int(np.count_nonzero(far))
        depth = np.where(far, np.float32(0), depth)
        write_depth_png(self._scratch / f'depth/{name}.png', depth, self.depth_scale)
        self._names.append(name)
        self._stamps.append(stamp_ns)
        if T_world_camera is not None:
            rotation = quaternion_from_rotation(T_world_camera[:3, :3])
            self._poses.append(_line(name, (*T_world_camera[:3, 3], *rotation)))

    def _finish(self) -> None:
        if not self._names:
            raise ValueError(f'{self.path}: no frame to write')
        names = self._names
        self._text('rgb.txt', ['# seconds file', *(f'{n} rgb/{n}.png' for n in names)])
        self._text('depth.txt', ['# seconds file', *(f'{n} depth/{n}.png' for n in names)])
        self._text('associations.txt', [f'{n} rgb/{n}.png {n} depth/{n}.png' for n in names])
        if self._poses:
            self._text('groundtruth.txt', [_TRAJECTORY_HEADING, *self._poses])
        camera = self._camera
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
        self._text('calibration.txt', [' '.join(f'{number:.9g}' for number in numbers)])
        self._text('orbslam3.yaml', [self._orbslam3().rstrip('\n')])

    def _text(self, name: str, lines: list[str]) -> None:
        write_bytes(self._scratch / name, ('\n'.join(lines) + '\n').encode('ascii'))

    def _orbslam3(self) -> str:
        camera, gaps = self._camera, np.diff(self._stamps)
        rate = 1e9 / np.median(gaps) if len(gaps) else _DEFAULT_RATE_HZ
        reach = np.iinfo(np.uint16).max / self.depth_scale
        return _ORBSLAM3.format(
            fx=_real(camera.fx),
            fy=_real(camera.fy),
            cx=_real(camera.cx),
            cy=_real(camera.cy),
            width=camera.width,
            height=camera.height,
            rate=max(1, round(float(rate))),
            baseline=_real(min(reach, _ORBSLAM3_CLOSE) / _ORBSLAM3_CLOSE_BASELINES),
            baselines=_real(_ORBSLAM3_CLOSE_BASELINES),
            scale=_real(self.depth_scale),
        )


def write_trajectory(path: str | Path, stamps_ns: Sequence[int], poses: np.ndarray) -> None:
    """Write poses (N, 7), x y z (m) qx qy qz qw, as a trajectory file, which evo reads."""
    lines = [_line(_name(stamp), pose) for stamp, pose in zip(stamps_ns, poses, strict=True)]
    write_bytes(Path(path), ('\n'.join([_TRAJECTORY_HEADING, *lines]) + '\n').encode('ascii'))


def _name(stamp_ns: int) -> str:
    """Seconds with all nanoseconds, as files and lines are named."""
    return f'{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}'


def _real(number: float) -> str:
    """With a point: ORB-SLAM3 takes a number without one for an integer, and refuses it."""
    text = f'{number:.9g}'
    return text if '.' in text or 'e' in text else f'{text}.0'


def _line(name: str, numbers: Iterable[float]) -> str:
    return f'{name} ' + ' '.join(f'{number:.9g}' for number in numbers)

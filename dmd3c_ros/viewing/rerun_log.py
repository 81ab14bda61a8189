"""Frames as a Rerun recording: image, sparse and dense depth, confidence, cloud, trajectory."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.io.atomic import check_file
from dmd3c_ros.io.clouds import read_cloud

from .frames import ViewFrame

# Depth as 16-bit integers: half the size, 4 mm steps, as KITTI's images.
_UNITS_A_METRE = 256
_CLOUD_EVERY = 3
_STRIP = 100
# More than any frame takes, bytes.
_LEAST_FREE = 100_000_000
_FARTHEST_SHOWN_M = 80.0
_TIMELINE = 'time'
IMAGE, SPARSE = 'world/camera/image', 'world/camera/sparse'
DENSE, CONFIDENCE = 'world/camera/dense', 'world/camera/confidence'
CLOUD, TRAJECTORY = 'world/cloud', 'world/trajectory'


class RerunLog:
    """A recording, shown in Rerun's viewer, written to the file `save`, or served to a browser.

    min_confidence: depth with a lower confidence is left out of the cloud. web_port: serve the
    viewer at this port, and the recording at the next one; `url` is then the page to open. The
    file gets its name once it is complete. Raises ImportError with a hint if rerun-sdk is not
    installed, and OSError without a viewer or a display, for a port in use, or if the file cannot
    be written.
    """

    def __init__(
        self,
        name: str,
        save: Path | None = None,
        min_confidence: float = 0.0,
        web_port: int | None = None,
    ) -> None:
        try:
            import rerun
        except ImportError as error:
            raise ImportError(
                f"viewing needs rerun-sdk: pip install 'dmd3c_ros[view]' ({error})"
            ) from error
        self._rerun, self._min_confidence = rerun, min_confidence
        self._recording = rerun.RecordingStream('dmd3c')
        self._save, self._scratch, self.url = save, None, ''
        if save is not None:
            self._open_file(save)
        elif web_port is not None:
            self._serve(web_port)
        else:
            self._open_viewer()
        self._recording.send_recording_name(name)
        # REP 103's optical frame: x right, y down, z forward.
        self._log('world', rerun.ViewCoordinates.RDF, static=True)
        self._way: list[np.ndarray] = []
        self._strips = 0

    def __enter__(self) -> RerunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
            if not self.url:
                self._recording.disconnect()
            if kind is None and self._scratch is not None:
                self._scratch.replace(self._save)
        finally:
            if self._scratch is not None:
                self._scratch.unlink(missing_ok=True)

    def add(self, frame: ViewFrame) -> None:
        """Log one frame at its stamp."""
        if self._save is not None:
            self._check_space(self._save)
        self._recording.set_time(_TIMELINE, timestamp=np.datetime64(frame.stamp_ns, 'ns'))
        if frame.rgb is not None:
            self._log(IMAGE, self._rerun.Image(frame.rgb).compress(jpeg_quality=90))
        for path, depth in ((SPARSE, frame.sparse), (DENSE, frame.dense)):
            if depth is not None:
                self._log(path, self._depth_image(depth))
        if frame.confidence is not None:
            shown = np.clip(255 * frame.confidence, 0, 255).astype(np.uint8)
            image = cv2.applyColorMap(shown, cv2.COLORMAP_VIRIDIS)[..., ::-1]
            self._log(CONFIDENCE, self._rerun.Image(image).compress(jpeg_quality=90))
        if frame.camera is not None:
            self._add_camera(frame, frame.camera)

    def add_cloud(self, path: Path) -> None:
        """A cloud file that is not tied to a time, in the camera's frame."""
        self._log(f'{CLOUD}/file', self._rerun.Points3D(read_cloud(path)), static=True)

    def add_image(self, path: Path) -> None:
        """An image that is not tied to a time, such as the demo's report."""
        self._log('report', self._rerun.EncodedImage(path=path), static=True)

    # ---------------------------------------------------------------- where it goes

    def _open_file(self, path: Path) -> None:
        if path.suffix != '.rrd':
            raise ValueError(f'{path}: expected the name of a recording, NAME.rrd')
        check_file(path)
        self._check_space(path)
        self._scratch = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        self._recording.save(self._scratch, default_blueprint=self._layout())

    def _check_space(self, path: Path) -> None:
        # Before Rerun notices: its thread would end then, and logging could block forever.
        if shutil.disk_usage(path.parent).free < _LEAST_FREE:
            raise OSError(f'{path}: no space left on the disk')

    def _flush(self) -> None:
        try:
            self._recording.flush()
        except (RuntimeError, ValueError) as error:
            raise OSError(f'{self._save or "viewer"}: {error}') from error

    def _open_viewer(self) -> None:
        if not has_display():
            raise OSError(
                'no display to show the viewer on: --save NAME.rrd writes a file, --web serves '
                'the viewer to a browser'
            )
        beside = str(Path(sys.executable).parent)
        program = shutil.which('rerun', path=beside) or shutil.which('rerun')
        if program is None:
            raise OSError(
                f'no viewer: expected the program rerun in {beside} or in PATH; pip install '
                "'dmd3c_ros[view]' installs it, --web works without it"
            )
        try:
            self._rerun.spawn(executable_path=program, connect=False, recording=self._recording)
            self._recording.connect_grpc(default_blueprint=self._layout())
        except RuntimeError as error:
            raise OSError(f'{program} failed to start: {error}') from error

    def _serve(self, port: int) -> None:
        for needed in (port, port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(('', needed))
                except (OSError, OverflowError) as error:
                    raise OSError(f'port {needed} cannot be used ({error}); choose --port') from (
                        error
                    )
        uri = self._recording.serve_grpc(
            grpc_port=port + 1, default_blueprint=self._layout(), server_memory_limit='25%'
        )
        self._rerun.serve_web_viewer(web_port=port, open_browser=has_display(), connect_to=uri)
        self.url = f'http://127.0.0.1:{port}/?url={uri.replace("+", "%2B")}'

    # ---------------------------------------------------------------- what is logged

    def _add_camera(self, frame: ViewFrame, camera: Camera) -> None:
        rerun = self._rerun
        pose = np.eye(4) if frame.T_world_camera is None else frame.T_world_camera
        self._log(
            'world/camera',
            rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]),
            rerun.Pinhole(image_from_camera=camera.K, width=camera.width, height=camera.height),
        )
        if frame.T_world_camera is not None:
            self._add_to_way(pose[:3, 3])
        if frame.dense is not None:
            points, colors = self._cloud(frame, camera)
            world = points @ pose[:3, :3].T + pose[:3, 3]
            self._log(CLOUD, rerun.Points3D(world, colors=colors, radii=0.03))

    def _add_to_way(self, position: np.ndarray) -> None:
        """In strips, so that a long way does not weigh more and more with every frame."""
        self._way.append(position.copy())
        strip = self._rerun.LineStrips3D([np.array(self._way)], colors=[255, 120, 0])
        self._log(TRAJECTORY, strip)
        if len(self._way) == _STRIP:
            self._strips += 1
            self._log(f'{TRAJECTORY}/{self._strips}', strip)
            self._way = self._way[-1:]

    def _cloud(self, frame: ViewFrame, camera: Camera) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (N, 3) of the rectified camera's frame, m, and their colours."""
        depth = np.where(frame.dense <= _FARTHEST_SHOWN_M, frame.dense, np.float32(0))
        if frame.confidence is not None:
            depth = np.where(frame.confidence >= self._min_confidence, depth, np.float32(0))
        every = (slice(None, None, _CLOUD_EVERY),) * 2
        points, known = camera.backproject(depth)[every], depth[every] > 0
        return points[known], None if frame.rgb is None else frame.rgb[every][known]

    def _depth_image(self, depth: np.ndarray) -> Any:
        units = np.clip(depth * _UNITS_A_METRE, 0, np.iinfo(np.uint16).max).astype(np.uint16)
        return self._rerun.DepthImage(
            units,
            meter=_UNITS_A_METRE,
            colormap='turbo',
            depth_range=(0, _FARTHEST_SHOWN_M * _UNITS_A_METRE),
        )

    def _log(self, path: str, *entities: Any, static: bool = False) -> None:
        self._recording.log(path, *entities, static=static)

    def _layout(self) -> Any:
        import rerun.blueprint as layout

        views = [
            layout.Spatial2DView(origin=path, name=path.rpartition('/')[2])
            for path in (IMAGE, SPARSE, DENSE, CONFIDENCE)
        ]
        world = layout.Spatial3DView(
            origin='world',
            name='cloud and trajectory',
            contents=['+ world/**', *(f'- {path}' for path in (SPARSE, DENSE, CONFIDENCE))],
        )
        return layout.Blueprint(
            layout.Horizontal(world, layout.Vertical(*views), column_shares=[2, 1]),
            collapse_panels=True,
        )


def has_display() -> bool:
    """Whether windows can be shown: on Linux, under X or Wayland."""
    if not sys.platform.startswith('linux'):
        return True
    return bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))

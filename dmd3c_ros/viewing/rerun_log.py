"""Frames as a Rerun recording: image, sparse and dense depth, confidence, cloud, trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.io.clouds import read_cloud

from .frames import ViewFrame

# Depth as 16-bit integers: half the size, 4 mm steps, as KITTI's images.
_UNITS_A_METRE = 256
_CLOUD_EVERY = 3
_STRIP = 100
_FARTHEST_SHOWN_M = 80.0
_TIMELINE = 'time'
IMAGE, SPARSE = 'world/camera/image', 'world/camera/sparse'
DENSE, CONFIDENCE = 'world/camera/dense', 'world/camera/confidence'
CLOUD, TRAJECTORY = 'world/cloud', 'world/trajectory'


class RerunLog:
    """A recording, shown in Rerun's viewer or written to the file `save`.

    min_confidence: depth that the model is less sure of is left out of the cloud. Raises
    ImportError with a hint where rerun-sdk is not installed.
    """

    def __init__(self, name: str, save: Path | None = None, min_confidence: float = 0.0) -> None:
        try:
            import rerun
        except ImportError as error:
            raise ImportError(
                f"viewing needs rerun-sdk: pip install 'dmd3c_ros[view]' ({error})"
            ) from error
        self._rerun, self._min_confidence = rerun, min_confidence
        self._recording = rerun.RecordingStream('dmd3c')
        if save is None:
            self._recording.spawn(default_blueprint=self._layout())
        else:
            save.parent.mkdir(parents=True, exist_ok=True)
            self._recording.save(save, default_blueprint=self._layout())
        self._recording.send_recording_name(name)
        # REP 103's optical frame: x right, y down, z forward.
        self._log('world', rerun.ViewCoordinates.RDF, static=True)
        self._way: list[np.ndarray] = []
        self._strips = 0

    def __enter__(self) -> RerunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._recording.flush()
        self._recording.disconnect()

    def add(self, frame: ViewFrame) -> None:
        """Log one frame at its stamp."""
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
        """A cloud file that belongs to the whole, in the camera's frame."""
        self._log(f'{CLOUD}/file', self._rerun.Points3D(read_cloud(path)), static=True)

    def add_image(self, path: Path) -> None:
        """An image that belongs to the whole, such as demo's report."""
        self._log('report', self._rerun.EncodedImage(path=path), static=True)

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

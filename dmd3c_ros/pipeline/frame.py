"""Processing of one frame: image, CameraInfo and sweep in, dense depth out, for nodes and bags.

image, info -> decoded, rectified                        `ImageRectifier`
cloud       -> points where the camera sees them         `SweepAligner`
            -> sparse depth, without hidden points       `project_points`, `filter_hidden`
            -> dense depth and confidence                `DepthCompleter`
            -> requested outputs                         `outputs`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.core.projection import HiddenPointFilter, project_points
from dmd3c_ros.messages.decoding import decode_image
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.stamps import stamp_ns_of

from .arrays import selected_depth
from .rectification import ImageRectifier, RectifiedImage
from .settings import NodeSettings
from .sweeps import SweepAligner

Complete = Callable[[np.ndarray, np.ndarray, np.ndarray], Completion]


class Frame(NamedTuple):
    """One image with the sparse depth from the LiDAR and, once completed, its dense depth.

    sparse, depth: (H, W) float32, m, 0 = unknown. depth: without what the settings remove.
    """

    image: RectifiedImage
    sparse: np.ndarray
    completion: Completion | None = None
    depth: np.ndarray | None = None

    @property
    def stamp_ns(self) -> int:
        """The image's, ns."""
        return stamp_ns_of(self.image.info)


class FramePipeline:
    """Turns synchronized messages into frames; sets are independent of each other.

    on_step: called with the name of each step when it is done.
    """

    def __init__(
        self,
        rectifier: ImageRectifier,
        aligner: SweepAligner,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._rectifier, self._aligner, self._on_step = rectifier, aligner, on_step

    def measure(
        self,
        image: Any,
        info: Any,
        cloud: Any,
        completer: DepthCompleter,
        settings: NodeSettings,
        hidden_points: HiddenPointFilter,
        T_camera_lidar: np.ndarray | None = None,
    ) -> Frame:
        """A frame with the sparse depth that `completer` completes from.

        image: Image or CompressedImage message. info: its CameraInfo, or what makes one for an
        image (H, W, 3). cloud: PointCloud2, with a stamp in the camera's time. T_camera_lidar:
        the extrinsics (4, 4), None to look them up. Raises MessageError for a message that cannot
        be used, TransformError while a transform is missing.
        """
        rgb = decode_image(image)
        self._on_step('decode')
        rectified = self._rectifier.read(rgb, info(rgb) if callable(info) else info, image.header)
        self._on_step('rectify')
        points, T_camera_points = self._aligner.locate(
            cloud, image.header.frame_id, stamp_ns_of(image), T_camera_lidar
        )
        sparse = project_points(points, T_camera_points, rectified.camera)
        if not sparse.any():
            raise MessageError(
                f'points: none of {len(points)} falls into the image; check the extrinsics'
            )
        self._on_step('project')
        sparse = completer.filter_hidden(sparse, settings.filter_hidden_points, hidden_points)
        self._on_step('filter')
        return Frame(rectified, sparse)

    def complete(self, frame: Frame, complete: Complete, settings: NodeSettings) -> Frame:
        """The frame with its dense depth. complete: as `DepthCompleter.complete`."""
        image = frame.image
        completion = image.masked(complete(image.rgb, frame.sparse, image.camera.K))
        self._on_step('network')
        depth = selected_depth(completion, settings)
        return frame._replace(completion=completion, depth=depth)

"""The files that are written of a completed frame: depth, confidence, preview, cloud."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from dmd3c_ros.core.baselines import BASELINES
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import Completion
from dmd3c_ros.core.surfaces import hangs_on_edge
from dmd3c_ros.evaluation.drawing import (
    CONFIDENCE,
    Page,
    Panel,
    caption_height,
    depth_scale,
    grid,
    points_on_image,
)
from dmd3c_ros.io.clouds import cloud_bytes
from dmd3c_ros.io.depth_png import KITTI_SCALE, depth_png_bytes
from dmd3c_ros.io.images import encoded
from dmd3c_ros.pipeline.arrays import CompletionInputs, complete_sparse, selected_depth
from dmd3c_ros.pipeline.settings import NodeSettings

from .options import make_completer, part

# Of the pixels below it, three in four are off by more than 10 % on real streets and rooms.
CLOUD_CONFIDENCE = 0.3
_PREVIEW_WIDTH, _GAP = 960, 8


class Paths(NamedTuple):
    """Paths of the output files of a frame; None for those not requested."""

    depth: Path
    confidence: Path | None = None
    preview: Path | None = None
    cloud: Path | None = None

    def requested(self) -> list[Path]:
        """The requested ones."""
        return [path for path in self if path is not None]


@dataclass
class CloudCount:
    """Pixels with depth, and why some of them are not in the cloud."""

    known: int = 0
    unsure: int = 0
    at_edges: int = 0

    def add(self, other: 'CloudCount') -> None:
        """Add the counts of another cloud."""
        self.known += other.known
        self.unsure += other.unsure
        self.at_edges += other.at_edges

    def __str__(self) -> str:
        left_out = self.unsure + self.at_edges
        text = f'{self.known - left_out:,} points'
        if not left_out:
            return text
        unsure, at_edges = self.unsure / self.known, self.at_edges / self.known
        return (
            f'{text}; {left_out / self.known:.0%} of the depth removed: {unsure:.0%} uncertain, '
            f'{at_edges:.0%} at edges (--all-points keeps it)'
        )


class FrameCompleter:
    """Completes frames, and makes the files of each, with those options that were given.

    options: of the group FRAMES. Raises ValueError and OSError for bad ones.
    """

    def __init__(
        self, options: Mapping[str, Any], scale: float | None, *, all_points: bool
    ) -> None:
        self._settings = NodeSettings(**part(options, NodeSettings))
        self._scale = KITTI_SCALE if scale is None else scale
        self._all_points = all_points
        self.completer = make_completer(options)
        # Classical methods are sure of what was measured and of nothing else.
        guesses = self.completer.name not in BASELINES
        self._surely = options.get('min_confidence', CLOUD_CONFIDENCE if guesses else 0.0)

    def complete(self, inputs: CompletionInputs, visible: np.ndarray | None = None) -> Completion:
        """Complete one frame; ValueError without any measurement or any depth.

        visible: (H, W) bool, False where the image has no content; None if all of it has.
        """
        if not inputs.sparse.any():
            raise ValueError('expected measured depth in the image, got none')
        settings = self._settings
        completion = complete_sparse(self.completer, *inputs, settings.filter_hidden_points)[1]
        if not completion.depth.any():
            raise ValueError(f'the model {self.completer.name} returned no depth at all')
        if visible is not None:
            completion = Completion(*(np.where(visible, v, np.float32(0)) for v in completion))
        depth = selected_depth(completion, settings)
        if not depth.any():
            raise ValueError(
                'no depth reaches the confidence of --min-confidence '
                f'{settings.min_confidence:g} or --preset {settings.preset}; the highest is '
                f'{completion.confidence.max():.2f}'
            )
        return Completion(depth, completion.confidence)

    def files(
        self, paths: Paths, inputs: CompletionInputs, completion: Completion
    ) -> tuple[dict[Path, bytes], CloudCount]:
        """Contents of the files and of the cloud.

        Raises ValueError if the cloud would be empty.
        """
        files = {paths.depth: depth_png_bytes(paths.depth, completion.depth, self._scale)}
        if paths.confidence is not None:
            grey = np.rint(255 * np.clip(completion.confidence, 0, 1)).astype(np.uint8)
            files[paths.confidence] = encoded(paths.confidence, grey)
        if paths.preview is not None:
            drawn = preview(inputs, completion)
            files[paths.preview] = encoded(paths.preview, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        count = CloudCount()
        if paths.cloud is not None:
            shown, count = self._select(completion)
            height, width = shown.shape
            points = Camera.from_K(inputs.K, width, height).backproject(completion.depth)
            files[paths.cloud] = cloud_bytes(paths.cloud, points[shown], inputs.rgb[shown])
        return files, count

    def _select(self, completion: Completion) -> tuple[np.ndarray, CloudCount]:
        """Pixels (H, W) bool of the cloud."""
        known = completion.depth > 0
        if self._all_points:
            return known, CloudCount(int(known.sum()))
        sure = known & (completion.confidence >= self._surely)
        shown = sure & ~hangs_on_edge(completion.depth)
        numbers = [int(pixels.sum()) for pixels in (known, sure, shown)]
        if not numbers[2]:
            raise ValueError(
                f'no depth is confident enough for the cloud ({self._surely:g} or more); '
                '--all-points keeps all of it'
            )
        return shown, CloudCount(numbers[0], numbers[0] - numbers[1], numbers[1] - numbers[2])


def preview(inputs: CompletionInputs, completion: Completion) -> np.ndarray:
    """Image, points, depth and confidence, with scales, as (H, W, 3) uint8 RGB."""
    height, width = inputs.sparse.shape
    cell = _PREVIEW_WIDTH, max(1, round(_PREVIEW_WIDTH * height / width))
    scale, known = depth_scale(completion.depth), completion.depth > 0
    panels = (
        Panel(inputs.rgb, 'image', note=f'{width} x {height}'),
        Panel(
            points_on_image(inputs.rgb, inputs.sparse, scale),
            'points',
            note=f'{(inputs.sparse > 0).mean():.1%} of the pixels',
        ),
        Panel(scale.colors(completion.depth, known), 'depth', scale),
        Panel(CONFIDENCE.colors(completion.confidence, known), 'confidence', CONFIDENCE),
    )
    rows = 2 * (cell[1] + caption_height(cell[0]) + _GAP)
    page = Page(2 * cell[0] + 3 * _GAP, rows + _GAP)
    grid(page, panels, 2, cell, _GAP, _GAP)
    return np.asarray(page.image)

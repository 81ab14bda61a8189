"""Dense metric depth from arrays: the single entry point to the networks, without ROS."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch

from dmd3c_ros.core.networks.base import CompletionNetwork, Convention
from dmd3c_ros.core.networks.two_stage import MOST_POINTS

from .appearance import shown_image
from .baselines import BASELINES
from .config import CompleterConfig, needs_filtering
from .loading import check_config, load_runner
from .projection import HiddenPointFilter, drop_enclosed_points, remove_hidden_points
from .resizing import (
    enlarge_confidence,
    enlarge_depth,
    mean_distance,
    reduced,
    shrink,
    suitable_scale,
)
from .runners import Runner
from .threads import torch_threads

_log = logging.getLogger(__name__)

# Networks were hardly trained with fewer measurements per image than this.
FEWEST_POINTS = 20


class Completion(NamedTuple):
    """depth: (H, W) float32, m, 0 = unknown; confidence: (H, W) float32, 0..1."""

    depth: np.ndarray
    confidence: np.ndarray


class DepthCompleter:
    """Completes sparse depth with one model; holds no state between calls.

    name: that of the model; of 'auto', the one for images with many measurements. device,
    precision, backend: those in use.

    Raises ValueError for an unavailable device or back end, FileNotFoundError or CheckpointError
    for weights that are missing or do not fit, ImportError without ONNX Runtime.
    """

    def __init__(
        self, config: CompleterConfig | None = None, network: CompletionNetwork | None = None
    ) -> None:
        """Load the model of ``config``; ``network``, of ``config.model``, replaces its weights.

        Such a network is rewritten for inference and moved to the device.
        """
        config = config or CompleterConfig()
        self.config = config
        self._runner: Runner | None = None
        free = config.model == 'auto' and config.backend == 'auto' and not config.weights
        self._chooses = free and network is None
        self._for_few: DepthCompleter | None = None
        self._warned = False
        # Size and suitable scale of the last image that the network ran on.
        self._last: tuple[tuple[int, int], float] | None = None
        self.name, self.backend = self.config.model, 'eager'
        self.device, self.precision = 'cpu', 'float32'
        self._torch_threads = self.config.threads
        if self.name in BASELINES:
            # Baselines need neither, but a network that replaces them at run time will.
            check_config(self.config)
            return
        self.name, self._runner = load_runner(self.config, network)
        self.device, self.backend = str(self._runner.device), self._runner.backend
        self.precision = str(self._runner.dtype).removeprefix('torch.')
        if self.backend in ('openvino', 'onnx'):
            # These have their own threads; the rest is not worth waking up PyTorch's.
            self._torch_threads = 1
        _log.info(
            'model %s on %s in %s (%s)', self.name, self.device, self.precision, self.backend
        )

    def complete(
        self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray, scale_limit: float = 1.0
    ) -> Completion:
        """Complete one image.

        rgb: (H, W, 3) uint8. sparse: (H, W) float32, m, 0 = unknown. K: (3, 3), pixels.
        scale_limit: limit of the scale of this image, in addition to the settings.
        Any size. Without any known depth the result is unknown everywhere, because no model can
        find a metric scale then. With fewer points than networks are trained for, the confidence
        is lower in proportion: nothing was there to learn it from. Raises ValueError for other
        shapes and types.
        """
        _check(rgb, sparse, K)
        known = (sparse > 0) & (sparse < np.inf)
        count = np.count_nonzero(known)
        if not count:
            return Completion(np.zeros_like(sparse), np.zeros_like(sparse))
        sparse = np.where(known, sparse, np.float32(0)).astype(np.float32, copy=False)
        few = self._chooses and count <= MOST_POINTS
        if few and (two_stages := self._two_stages()):
            return two_stages.complete(rgb, sparse, K, scale_limit)
        self._warn_of_few(count)
        with torch_threads(self._torch_threads):
            completion = self._complete(rgb, sparse, K, scale_limit)
        if not self.config.preserve_lidar:
            return completion
        kept = (remove_hidden_points(sparse) > 0) & (sparse <= self.config.max_depth)
        return Completion(
            np.where(kept, sparse, completion.depth),
            np.where(kept, np.float32(1), completion.confidence),
        )

    def _complete(
        self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray, scale_limit: float
    ) -> Completion:
        """The model on inputs that are valid, at the size that suits it."""
        suitable, distance = self._suited(sparse)
        self._last = sparse.shape, suitable
        scale = min(suitable, scale_limit)
        shape = sparse.shape
        if self._convention.drops_enclosed:
            sparse = drop_enclosed_points(sparse, distance)
        if scale < 1:
            rgb, sparse, K = shrink(rgb, sparse, K, scale)
        convention = self._convention
        rgb = shown_image(rgb, distance * scale, convention.blurred_below, convention.contrast)
        completion = self._run(rgb, sparse, K)
        if scale == 1:
            return completion
        return Completion(
            enlarge_depth(completion.depth, shape),
            enlarge_confidence(completion.confidence, shape),
        )

    def ready(self, scale_limit: float) -> bool:
        """Whether images like the last one run at this limit of their scale without delay.

        False while a network is compiled for their size in the background, which this call starts.
        """
        if self._runner is None or self._last is None:
            return True
        shape, suitable = self._last
        scale, multiple = min(suitable, scale_limit), self._runner.convention.size_multiple
        height, width = (side + -side % multiple for side in reduced(shape, scale))
        return self._runner.ready((height, width))

    def _two_stages(self) -> DepthCompleter | None:
        """What completes images with few measurements, where that is left to this class.

        Loaded with the first of them, as most sensors see more.
        """
        if self._for_few is None and self._runner is not None:
            _log.info('images with at most %d measurements: model two_stage', MOST_POINTS)
            try:
                self._for_few = DepthCompleter(replace(self.config, model='two_stage'))
            except (OSError, RuntimeError, ValueError) as error:
                # Such as for want of memory on a GPU: less accurate depth is better than none.
                self._chooses = False
                _log.warning('model two_stage does not load, %s goes on: %s', self.name, error)
        return self._for_few

    def _warn_of_few(self, count: int) -> None:
        """Say once that so few measurements are fewer than networks are trained for."""
        if count < FEWEST_POINTS and self._runner is not None and not self._warned:
            self._warned = True
            _log.warning(
                '%d measurements in an image: %s was trained for %d or more, so depth '
                'between them is a guess',
                count,
                self.name,
                FEWEST_POINTS,
            )

    def scale(self, sparse: np.ndarray) -> float:
        """The fraction of the image's size that the model runs at.

        sparse: (H, W) float32, m, 0 = unknown, with a known pixel at least.
        """
        return self._suited(sparse)[0]

    def _suited(self, sparse: np.ndarray) -> tuple[float, float]:
        """`scale`, and the `mean_distance` of the measurements where the model depends on it."""
        convention = self._convention
        adapts = self.config.adapt_scale and convention.reduced_by == 'caller'
        wanted = convention.point_distance if adapts else 0.0
        depends = wanted or convention.blurred_below or convention.drops_enclosed
        distance = mean_distance(sparse) if depends else math.inf
        scale = suitable_scale(sparse.shape, distance, wanted) if wanted else 1.0
        return min(self.config.inference_scale, scale), distance

    @property
    def _convention(self) -> Convention:
        return self._runner.convention if self._runner else Convention()

    def _run(self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> Completion:
        """The model on inputs that are valid, at the size they have."""
        if self.name in BASELINES:
            depth = BASELINES[self.name](sparse).clip(0, self.config.max_depth)
            known = (sparse > 0).astype(np.float32)
            return Completion(depth.astype(np.float32, copy=False), known)
        if self._runner is None:
            raise RuntimeError('the completer is closed')
        return self._infer(rgb, sparse, K)

    def filter_hidden(
        self,
        sparse: np.ndarray,
        filtering: str = 'auto',
        settings: HiddenPointFilter | None = None,
    ) -> np.ndarray:
        """The measurements to complete from, (H, W) float32, m, of a projected sweep.

        filtering: of ``FILTERING``, whether points are dropped that a nearer surface hides from
        the camera. 'auto': for the classical baselines. Networks are trained on whole sweeps and
        recognize such points from the image; they need those that the filter drops near edges.
        """
        filtered = needs_filtering(self.name) if filtering == 'auto' else filtering == 'always'
        return remove_hidden_points(sparse, settings) if filtered else sparse

    def close(self) -> None:
        """Release the network and its memory; the completer cannot be used afterwards."""
        self._runner = self._for_few = None
        if self.device.startswith('cuda'):
            torch.cuda.empty_cache()

    def _infer(self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> Completion:
        convention = self._runner.convention
        above = _rows_to_cut(sparse, convention)
        rgb, sparse = np.ascontiguousarray(rgb[above:]), np.ascontiguousarray(sparse[above:])
        height, width = sparse.shape
        # Padding at the right and bottom leaves the intrinsics as they are.
        right, bottom = -width % convention.size_multiple, -height % convention.size_multiple
        if right or bottom:
            rgb = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            sparse = cv2.copyMakeBorder(sparse, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
        if not rgb.flags.writeable:
            rgb = rgb.copy()  # PyTorch takes no array that it must not write to.
        K = np.array(K, np.float32)
        K[1, 2] -= above
        # Every array more costs a millisecond for its pages, where freed ones are not kept.
        scale = np.float32(convention.depth_scale)
        depth, confidence = self._runner(rgb, sparse if scale == 1 else sparse * scale, K)
        depth = depth[:height, :width]
        if scale != 1:
            depth = depth / scale
        if not np.isfinite(depth.sum()):
            # In half precision a network can overflow.
            depth[~np.isfinite(depth)] = 0
        np.clip(depth, 0, self.config.max_depth, out=depth)
        if confidence is None:
            confidence = np.ones_like(depth)
        elif (count := np.count_nonzero(sparse > 0)) < FEWEST_POINTS:
            confidence = confidence * np.float32(count / FEWEST_POINTS)
        return Completion(_whole(depth, above), _whole(confidence[:height, :width], above))


def _whole(result: np.ndarray, above: int) -> np.ndarray:
    """The image that a result (H, W) is of, with the rows that were cut off as zeros."""
    return np.pad(result, ((above, 0), (0, 0))) if above else np.ascontiguousarray(result)


def _rows_to_cut(sparse: np.ndarray, convention: Convention) -> int:
    """Rows at the top that the network is not given; none that holds a measurement."""
    if not convention.cut_above:
        return 0
    first = int((sparse > 0).any(axis=1).argmax())
    return min(first, round(convention.cut_above * len(sparse)))


def _check(rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f'rgb: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}')
    if sparse.shape != rgb.shape[:2] or not np.issubdtype(sparse.dtype, np.floating):
        raise ValueError(
            f'sparse: expected {rgb.shape[:2]} float as the image, got {sparse.shape} '
            f'{sparse.dtype}'
        )
    if np.shape(K) != (3, 3):
        raise ValueError(f'K: expected (3, 3), got {np.shape(K)}')

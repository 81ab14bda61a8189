"""RGB-D frames for DROID-SLAM (Teed and Deng, NeurIPS 2021), through its own interface.

`Droid.track(t, image, depth, intrinsics)` takes:

- t: frame number. It is stored as float32, so seconds since 1970 would be rounded to two minutes.
- image: (1, 3, H, W) uint8, H and W multiples of 8, at least 128: its correlation pyramid halves a
  map of 1/8 resolution four times. The first axis counts cameras. DROID-SLAM reverses the three
  channels before its network and normalizes them as RGB: its input is BGR, as OpenCV reads images,
  so that the network gets RGB.
- depth: (H, W) float32, 0 unknown. It samples every eighth pixel from row and column 3 on, and
  inverts values above 0; a NaN would remain and break the bundle adjustment. Of its first frames,
  unknown pixels start at the disparity 1, and the weight of the depth does not depend on its unit:
  the unit is expected to be such that the mean disparity is about 1, as in its training. A street
  in metres is far from that.
- intrinsics: (4,) float32, fx, fy, cx, cy in pixels of that image.

The poses of all frames come from `Droid.terminate(stream)`, where the stream yields
(t, image, intrinsics) of all frames again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch

from dmd3c_ros.core.camera import Camera

_MULTIPLE = 8
_LEAST_SIDE = 128
CHANNEL_ORDERS = ('bgr', 'rgb')


@dataclass(frozen=True)
class DroidSettings:
    """How frames are prepared for DROID-SLAM.

    pixels: approximate number of pixels that images are reduced to; DROID-SLAM's own readers use
        384x512. Smaller images are not enlarged, unless a side is shorter than 128 pixels, the
        minimum of DROID-SLAM.
    max_depth: larger depth is passed as unknown, m.
    unit: length that DROID-SLAM counts as 1, m; 0 for the one that makes the mean disparity of the
        first frame with depth 1, as in its training. Trajectories are in metres in any case.
    channels: channel order of the image, 'bgr' as in DROID-SLAM's own readers, or 'rgb' for a
        fork that does not reverse the channels.
    """

    pixels: int = 384 * 512
    max_depth: float = 80.0
    unit: float = 0.0
    channels: str = 'bgr'

    def __post_init__(self) -> None:
        if self.pixels < _LEAST_SIDE**2:
            raise ValueError(f'pixels: expected at least {_LEAST_SIDE**2}, got {self.pixels}')
        if not self.max_depth > 0:
            raise ValueError(f'max_depth: expected a positive depth in m, got {self.max_depth}')
        if not 0 <= self.unit < np.inf:
            raise ValueError(f'unit: expected a length in m or 0, got {self.unit}')
        if self.channels not in CHANNEL_ORDERS:
            raise ValueError(
                f'channels: expected {" or ".join(CHANNEL_ORDERS)}, got {self.channels!r}'
            )


class RgbdFrame(NamedTuple):
    """rgb (H, W, 3) uint8; depth (H, W) float32, m, 0 or NaN = unknown; stamp in ns."""

    stamp_ns: int
    rgb: np.ndarray
    depth: np.ndarray
    camera: Camera


class DroidInputs(NamedTuple):
    """Arguments of `Droid.track` after t; depth in m."""

    image: torch.Tensor
    depth: torch.Tensor
    intrinsics: torch.Tensor


class Tracker(Protocol):
    """What a feeder needs of DROID-SLAM's class Droid."""

    def track(self, tstamp, image, depth=None, intrinsics=None) -> None: ...

    def terminate(self, stream=None): ...


def droid_inputs(frame: RgbdFrame, settings: DroidSettings | None = None) -> DroidInputs:
    """One frame in DROID-SLAM's layout; ValueError for depth of another size than the image.

    The image is resized with its aspect ratio kept and cut at the right and the bottom to a
    multiple of 8; depth takes the nearest pixel, so that no value between two surfaces arises.
    """
    settings = settings or DroidSettings()
    height, width = frame.depth.shape
    if frame.rgb.shape != (height, width, 3):
        raise ValueError(f'rgb: expected {(height, width, 3)} as the depth, got {frame.rgb.shape}')
    scale = min(1.0, np.sqrt(settings.pixels / (height * width)))
    scale = max(scale, _LEAST_SIDE / min(height, width))
    size = round(width * scale), round(height * scale)
    cut_width, cut_height = (side // _MULTIPLE * _MULTIPLE for side in size)
    camera = frame.camera.scaled(*size)
    # Means over areas when shrinking; when enlarging they would be blocks.
    how = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    image = cv2.resize(frame.rgb, size, interpolation=how)[:cut_height, :cut_width]
    if settings.channels == 'bgr':
        image = image[..., ::-1]
    known = np.isfinite(frame.depth) & (frame.depth > 0) & (frame.depth <= settings.max_depth)
    depth = np.where(known, frame.depth, 0).astype(np.float32)
    rows, columns = (
        _nearest(new, old) for new, old in zip(size[::-1], (height, width), strict=True)
    )
    depth = depth[rows[:cut_height, None], columns[:cut_width]]
    return DroidInputs(
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]),
        torch.from_numpy(np.ascontiguousarray(depth)),
        torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float32),
    )


def _nearest(new: int, old: int) -> np.ndarray:
    """Index of the old pixel under the centre of each new one."""
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)


class DroidFeeder:
    """Passes frames on to a `Droid`, numbered from 0, and remembers their stamps (ns).

    droid: the Droid, or what makes one for the height and width of the first image. keep: keep
    the images for `stream`, as large as DROID-SLAM gets them (0.6 MB each).

    Depth and trajectory are in metres outside, and in DROID-SLAM in units of `unit_m` metres.
    Works with frames from wherever they come: a node calls `add` for each, a recording goes
    through `add_all`.
    """

    def __init__(
        self,
        droid: Tracker | Callable[[int, int], Tracker],
        settings: DroidSettings | None = None,
        keep: bool = False,
    ) -> None:
        self.droid: Tracker | None = droid if hasattr(droid, 'track') else None
        self._make, self._settings, self._keep = droid, settings or DroidSettings(), keep
        self._size: tuple[int, ...] | None = None
        self._kept: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.stamps_ns: list[int] = []
        self.unit_m = self._settings.unit

    def add(self, frame: RgbdFrame) -> None:
        """Track one frame; ValueError for one of another size than the first."""
        inputs = droid_inputs(frame, self._settings)
        size = tuple(inputs.depth.shape)
        if size != (self._size or size):
            raise ValueError(
                f'image: expected {self._size[1]}x{self._size[0]} for DROID-SLAM as the first, '
                f'got {size[1]}x{size[0]}'
            )
        if self.droid is None:
            self.droid = self._make(*size)
        self._size, number = size, len(self.stamps_ns)
        self.unit_m = self.unit_m or _mean_disparity_of_1(inputs.depth)
        depth = inputs.depth / (self.unit_m or 1.0)
        self.droid.track(number, inputs.image, depth, intrinsics=inputs.intrinsics)
        self.stamps_ns.append(frame.stamp_ns)
        if self._keep:
            self._kept.append((number, inputs.image, inputs.intrinsics))

    def add_all(self, frames: Iterable[RgbdFrame]) -> None:
        """Track a sequence."""
        for frame in frames:
            self.add(frame)

    def finish(
        self, stream: Iterable[tuple[int, torch.Tensor, torch.Tensor]] | None = None
    ) -> np.ndarray:
        """Poses (frames, 7) by `Droid.terminate`: x y z (m) qx qy qz qw, of the camera in the
        first one's frame. stream: by default the frames that were kept.
        """
        poses = np.array(self.droid.terminate(self.stream() if stream is None else stream))
        poses[:, :3] *= self.unit_m or 1.0
        return poses

    def stream(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(t, image, intrinsics) of the frames that were kept, for `Droid.terminate`."""
        yield from self._kept


def _mean_disparity_of_1(depth: torch.Tensor) -> float:
    """Unit, m, that the known depth has a mean disparity of 1 in; 0 without depth."""
    known = depth[depth > 0]
    return float(1 / (1 / known.double()).mean()) if len(known) else 0.0


def image_stream(
    frames: Iterable[RgbdFrame], settings: DroidSettings | None = None
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(t, image, intrinsics) of the frames, for `Droid.terminate`."""
    for number, frame in enumerate(frames):
        inputs = droid_inputs(frame, settings)
        yield number, inputs.image, inputs.intrinsics

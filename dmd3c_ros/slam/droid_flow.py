"""OpenCV's optical flow in the place of DROID-SLAM's update operator, where its checkpoint is not
at hand: the motion it sees is real, though less exact than the network's.

DIS: Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

# DROID-SLAM reads a sensor's depth at these pixels of every 8; flow must be of the same ones.
FIRST, STEP = 3, 8
_TRUSTED_PX = 1.0
_DAMPING = 1e-3


class OpticalFlow:
    """Called as `UpdateModule.forward` is. `video`: the depth video whose images it compares;
    `image` (3, H, W) uint8: the one that the motion filter is asked about.
    """

    def __init__(self) -> None:
        self.video: Any = None
        self.image: torch.Tensor | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._found: dict[tuple[float, float], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, net, inp, corr, flow=None, ii=None, jj=None) -> tuple[torch.Tensor, ...]:
        """Correction of the flow and its weight, (1, M, h, w, 2) in cells, for M pairs of frames;
        (net, delta, weight), and with the pairs' frames given (..., eta, upmask) of frames ii.
        """
        if ii is None:
            last = self.video.images[self.video.counter.value - 1]
            delta, weight = self._measure(_grey(last), _grey(self.image))
            return net, delta[None, None], weight[None, None]
        pairs = [self._between(int(i), int(j)) for i, j in zip(ii, jj, strict=True)]
        measured, weight = (torch.stack(part)[None] for part in zip(*pairs, strict=True))
        # What the poses and disparities predict is the first half of `flow`.
        delta = measured - flow[:, :, :2].permute(0, 1, 3, 4, 2)
        shape = 1, len(torch.unique(ii)), *delta.shape[2:4]
        upmask = torch.zeros(1).expand(*shape[:2], STEP * STEP * 9, *shape[2:])
        return net, delta, weight, torch.full(shape, _DAMPING), upmask

    def _between(self, i: int, j: int) -> tuple[torch.Tensor, torch.Tensor]:
        key = tuple(self.video.tstamp[[i, j]].tolist())
        if key not in self._found:
            images = (_grey(self.video.images[number]) for number in (i, j))
            self._found[key] = self._measure(*images)
        return self._found[key]

    def _measure(self, a: np.ndarray, b: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow from a to b in cells, (h, w, 2), and its weight: 1 where the way back from where it
        leads ends where it began.
        """
        there, back = self._flow.calc(a, b, None), self._flow.calc(b, a, None)
        grid = np.mgrid[FIRST : a.shape[0] : STEP, FIRST : a.shape[1] : STEP][::-1]
        start = np.moveaxis(grid, 0, -1).astype(np.float32)
        flow = there[FIRST::STEP, FIRST::STEP]
        ends = start + flow
        returned = cv2.remap(
            back, ends, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1e6
        )
        gap = np.linalg.norm(flow + returned, axis=-1, keepdims=True)
        weight = np.repeat(1 / (1 + (gap / _TRUSTED_PX) ** 2), 2, axis=-1)
        return torch.from_numpy(flow / STEP), torch.from_numpy(weight.astype(np.float32))


def _grey(image: torch.Tensor) -> np.ndarray:
    return cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_BGR2GRAY)

"""Relative depth of an image from arrays: the entry to the monocular networks, without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .weights.mono import load


class RelativeDepth:
    """A monocular network from a file or folder (``weights.mono.load``).

    size: pixels of the image's shorter side as the network sees it; 0: as it is. device: 'auto',
    'cpu', 'cuda' or 'cuda:N'. Raises as ``weights.mono.load``.
    """

    def __init__(self, weights: str | Path, size: int = 0, device: str = 'auto') -> None:
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self._device, self._size = torch.device(device), size
        self._network = load(weights).to(self._device)
        self.name = Path(weights).stem

    @torch.inference_mode()
    def predict(self, rgb: np.ndarray) -> np.ndarray:
        """Relative inverse depth (H, W) float32, larger when nearer, of rgb (H, W, 3) uint8."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f'rgb: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}')
        convention = self._network.convention
        height, width = rgb.shape[:2]
        scale = self._size / min(height, width) if self._size else 1.0
        multiple = convention.size_multiple
        size = [max(1, round(n * scale / multiple)) * multiple for n in (height, width)]
        image = torch.from_numpy(np.ascontiguousarray(rgb)).to(self._device)
        image = image.permute(2, 0, 1)[None].float() / 255
        image = F.interpolate(image, size=size, mode='bicubic', antialias=True).clamp(0, 1)
        mean, std = (
            image.new_tensor(values).view(1, 3, 1, 1)
            for values in (convention.mean, convention.std)
        )
        disparity = self._network((image - mean) / std).disparity.float()
        disparity = F.interpolate(disparity, size=(height, width), mode='bilinear')
        return disparity[0, 0].cpu().numpy()

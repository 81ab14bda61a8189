"""Residual block with channel and spatial attention.

Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, Sec. 3, on the residual
block of He et al., CVPR 2016, as CompletionFormer uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Scale of each channel, in 0..1, from its mean and maximum (CBAM, Eq. 2)."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(channels, channels // ratio, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // ratio, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, peak = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.fc(mean) + self.fc(peak))


class SpatialAttention(nn.Module):
    """Scale of each pixel, in 0..1, from the mean and maximum of its channels (CBAM, Eq. 3)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)
        return torch.sigmoid(self.conv1(summary))


class CbamBlock(nn.Module):
    """Two 3 x 3 convolutions, both attentions, and the identity.

    ratio: channels over channels of the hidden layer of the channel attention.
    """

    FOLDS = (('conv1', 'bn1'), ('conv2', 'bn2'))

    def __init__(self, channels: int, ratio: int = 16):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.ca = ChannelAttention(channels, ratio)
        self.sa = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        out = self.ca(out) * out
        out = self.sa(out) * out
        return torch.relu(out + x)

"""DINOv2's vision transformer (Oquab et al., TMLR 2024), the encoder of Depth Anything V2.

Parameters bear the names of the released files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 14
_OFFSET = 0.1  # the authors enlarge the grid of positions by so much of a patch
_EPSILON = 1e-6


class Dinov2(nn.Module):
    """Images (B, 3, H, W), in patches of 14 pixels -> tokens of chosen blocks.

    width: channels of a token. depth: number of blocks. heads: of the attention. grid: patches
    along a side of the images it was trained on.
    """

    def __init__(
        self, width: int, depth: int, heads: int, grid: int = 37, expansion: int = 4
    ) -> None:
        super().__init__()
        self._grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid + 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width), requires_grad=False)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.blocks = nn.ModuleList(_Block(width, heads, expansion) for _ in range(depth))
        self.norm = nn.LayerNorm(width, _EPSILON)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)

    def forward(self, image: Tensor, taken: Sequence[int]) -> list[Tensor]:
        """Normalized tokens (B, h * w, width) behind the blocks of these numbers."""
        rows, columns = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        x = self.patch_embed.proj(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x + self._positions(rows, columns).to(x.dtype)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in taken:
                outputs.append(self.norm(x)[:, 1:])
        return outputs

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, width), resampled for another grid than the trained one's."""
        if rows == columns == self._grid:
            return self.pos_embed
        first, rest = self.pos_embed.float().split([1, self._grid**2], 1)
        rest = rest.unflatten(1, (self._grid, self._grid)).permute(0, 3, 1, 2)
        scale = (rows + _OFFSET) / self._grid, (columns + _OFFSET) / self._grid
        rest = F.interpolate(rest, scale_factor=scale, mode='bicubic')
        return torch.cat([first, rest.flatten(2).transpose(1, 2)], 1)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _EPSILON)
        self.attn = _Attention(width, heads)
        self.ls1 = _LayerScale(width)
        self.norm2 = nn.LayerNorm(width, _EPSILON)
        self.mlp = _FeedForward(width, expansion * width)
        self.ls2 = _LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma

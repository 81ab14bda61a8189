"""Planes fitted to sparse depth: exact on planes, and dense whatever is known."""

import math
from itertools import product

import pytest
import torch

from dmd3c_ros.core.ops.planes import Planes, fit_planes, refine, refined_value

H, W = 64, 96


def _plane(height: int = H, width: int = W) -> torch.Tensor:
    """Depth (1, 1, h, w) of a slanted plane, 4 to 25 m."""
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return 1 / (0.04 + 0.0015 * u + 0.001 * v)[None, None].float()


def _dense(sparse: torch.Tensor) -> torch.Tensor:
    """Depth of every pixel from the planes of the smallest cells."""
    fit = fit_planes(sparse)
    planes = refine(refine(fit.fine))
    value = torch.minimum(torch.maximum(planes.value, fit.low), fit.high)
    return 1 / (value * fit.mean)


def _chosen(share: float, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 1, H, W, generator=torch.Generator().manual_seed(seed)) < share


@pytest.mark.parametrize('share', [1.0, 0.1, 0.02, 0.005])
def test_a_plane_is_filled_at_any_density(share: float) -> None:
    depth = _plane()
    error = (_dense(depth * _chosen(share)) / depth - 1).abs()
    assert error[..., 16:-16, 16:-16].max() < 0.04
    assert error.mean() < 0.02


def test_lines_tell_the_slope_across_them() -> None:
    depth = _plane()
    lines = torch.zeros(1, 1, H, W, dtype=torch.bool)
    lines[..., 4::14, :] = True
    error = (_dense(depth * lines) / depth - 1).abs()
    assert error[..., 8:-8, :].max() < 0.02


def test_scale_of_depth_goes_through() -> None:
    sparse = _plane() * _chosen(0.05)
    torch.testing.assert_close(_dense(sparse * 7), _dense(sparse) * 7, rtol=1e-3, atol=0)


def test_depth_keeps_to_the_range_of_the_measurements() -> None:
    sparse = _plane() * _chosen(0.01)
    sparse[..., :, 48:] = 0
    known, dense = sparse[sparse > 0], _dense(sparse)
    assert dense.min() > 0.9 * known.min() and dense.max() < 1.1 * known.max()


def test_refined_planes_are_those_around_blended_bilinearly() -> None:
    coarse = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(3))
    planes = Planes(*coarse[:, None, None])
    fine = torch.cat(refine(planes), 1)[0]
    torch.testing.assert_close(refined_value(planes)[0, 0], fine[0])
    for i, j in product(range(10), range(14)):
        y, x = (i - 0.5) / 2, (j - 0.5) / 2
        expected = torch.zeros(3)
        for row, column in product((math.floor(y), math.ceil(y)), (math.floor(x), math.ceil(x))):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            # At the border the outermost plane goes on.
            r, c = min(max(row, 0), 4), min(max(column, 0), 6)
            value, slope_x, slope_y = coarse[:, r, c]
            at = value + slope_x * (x - c) + slope_y * (y - r)
            expected += weight * torch.stack([at, slope_x / 2, slope_y / 2])
        torch.testing.assert_close(fine[:, i, j], expected)


@pytest.mark.parametrize('known', [0, 1, 2])
def test_hardly_any_measurement_gives_a_flat_finite_depth(known: int) -> None:
    sparse = torch.zeros(1, 1, H, W)
    sparse[..., 30, 40 : 40 + known] = 12.0
    dense = _dense(sparse)
    torch.testing.assert_close(dense, torch.full_like(dense, 12.0 if known else 1.0))


@pytest.mark.parametrize('rows', [8, 16, 24])
def test_a_shift_of_the_image_shifts_the_depth(rows: int) -> None:
    depth = _plane(96, 160)
    depth[..., 40:70, 50:90] = 3.0
    generator = torch.Generator().manual_seed(3)
    sparse = depth * (torch.rand(depth.shape, generator=generator) < 0.005)
    sparse[..., : rows + 1, :] = 0
    moved = torch.zeros_like(sparse)
    moved[..., :-rows, :] = sparse[..., rows:, :]
    inside = slice(8, 96 - rows - 16)  # borders apart
    before, after = _dense(sparse)[..., rows:, :], _dense(moved)
    change = (after[..., inside, :] / before[..., inside, :] - 1).abs()
    assert change.max() < 0.02


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    one, other = _plane() * _chosen(0.03), 4 * _plane() * _chosen(0.2, seed=1)
    both = _dense(torch.cat([one, other]))
    torch.testing.assert_close(both[:1], _dense(one))
    torch.testing.assert_close(both[1:], _dense(other))

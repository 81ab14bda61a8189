"""Deformable propagation against its definition, written out pixel by pixel."""

import math

import pytest
import torch

from dmd3c_ros.core.ops.deform import NEIGHBOURS_3X3, propagate, sample, sampling_grid


def _bilinear(image: torch.Tensor, row: float, col: float) -> float:
    """Value of an (H, W) image at any place; what lies outside counts as zero."""
    height, width = image.shape
    top, left, value = math.floor(row), math.floor(col), 0.0
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            value += (1 - abs(row - i)) * (1 - abs(col - j)) * float(image[i, j])
    return value


def _brute_force(depth, weight, offset, taps=NEIGHBOURS_3X3) -> torch.Tensor:
    batch, _, height, width = depth.shape
    half = len(taps) // 2
    out = torch.zeros_like(depth)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                total = float(weight[b, half, i, j] * depth[b, 0, i, j])
                for k, (di, dj) in enumerate(taps):
                    row = i + di + float(offset[b, 2 * k, i, j])
                    col = j + dj + float(offset[b, 2 * k + 1, i, j])
                    factor = float(weight[b, k if k < half else k + 1, i, j])
                    total += factor * _bilinear(depth[b, 0], row, col)
                out[b, 0, i, j] = total
    return out


def _problem(batch=2, height=7, width=11, taps=8, reach=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    draw = {'generator': generator, 'dtype': dtype}
    depth = 1 + 40 * torch.rand(batch, 1, height, width, **draw)
    weight = torch.randn(batch, taps + 1, height, width, **draw)
    offset = reach * torch.randn(batch, 2 * taps, height, width, **draw)
    return depth, weight, offset


@pytest.mark.parametrize('size', [(7, 11), (1, 5), (9, 2), (16, 17)])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_propagation_equals_its_definition(size, dtype, tolerance) -> None:
    depth, weight, offset = _problem(height=size[0], width=size[1], dtype=dtype)
    found = propagate(depth, weight, sampling_grid(offset))
    expected = _brute_force(depth.double(), weight.double(), offset.double())
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=40 * tolerance)


def test_borders_ties_and_far_away_offsets_follow_the_definition() -> None:
    depth, weight, _ = _problem(batch=1, height=4, width=5)
    # Whole and half pixels, onto, across and far past each border.
    steps = torch.tensor([-1e6, -7.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.5, 1e6])
    index = torch.arange(16 * 4 * 5).view(1, 16, 4, 5)
    offset = steps[(index * 7 + index // 3) % len(steps)].double()
    found = propagate(depth, weight, sampling_grid(offset))
    torch.testing.assert_close(found, _brute_force(depth, weight, offset))


def test_other_taps_are_sampled_where_they_say() -> None:
    depth, _, offset = _problem(taps=2)
    taps = ((0, 0), (-5, 4))
    found = sample(depth, sampling_grid(offset, taps))
    for k in range(2):
        one_hot = torch.zeros(2, 3, 7, 11, dtype=torch.float64)
        one_hot[:, 0 if k == 0 else 2] = 1.0
        expected = _brute_force(depth, one_hot, offset, taps)
        torch.testing.assert_close(found[:, k : k + 1], expected)


def test_gradients_equal_finite_differences() -> None:
    depth, weight, offset = (x.requires_grad_() for x in _problem(height=3, width=4))
    assert torch.autograd.gradcheck(
        lambda d, w, o: propagate(d, w, sampling_grid(o)), (depth, weight, offset)
    )


def test_positions_stay_precise_across_a_wide_image() -> None:
    # On a ramp of 1 m a pixel, an error of position is the error of depth.
    ramp = torch.arange(1216.0).expand(1, 1, 8, 1216)
    offset = torch.full((1, 16, 8, 1216), 0.3)
    offset[:, 0::2] = 0.0
    found = sample(ramp, sampling_grid(offset))[0, :, 2:6, 4:-4]
    tap_cols = torch.tensor([j for _, j in NEIGHBOURS_3X3]).view(8, 1, 1)
    expected = (torch.arange(4, 1212) + tap_cols).double() + 0.3
    assert float((found - expected).abs().max()) < 2e-4


def test_half_precision_weights_do_not_coarsen_positions() -> None:
    depth, weight, offset = _problem(dtype=torch.float32)
    weight, offset = weight.bfloat16(), offset.bfloat16()
    found = propagate(depth, weight, sampling_grid(offset))
    assert found.dtype == torch.float32
    expected = _brute_force(depth.double(), weight.double(), offset.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def test_it_exports_for_a_fixed_size() -> None:
    class Step(torch.nn.Module):
        def forward(self, depth, weight, offset):
            return propagate(depth, weight, sampling_grid(offset))

    problem = _problem(dtype=torch.float32)
    program = torch.export.export(Step(), problem)
    torch.testing.assert_close(program.module()(*problem), Step()(*problem))


def test_wrong_shapes_are_named() -> None:
    depth, weight, offset = _problem()
    with pytest.raises(
        ValueError, match=r'offset: expected \(B, 16, H, W\), got \(2, 14, 7, 11\)'
    ):
        sampling_grid(offset[:, :14])
    grid = sampling_grid(offset)
    with pytest.raises(ValueError, match='weight: expected 9 channels'):
        propagate(depth, weight[:, :8], grid)
    with pytest.raises(ValueError, match=r'image: expected \(2, 1, 7, 11\)'):
        sample(depth[..., :10], grid)

"""The per-pixel convolution agrees with its definition, its gradients with finite differences."""

import numpy as np
import pytest
import torch

from dmd3c_ros.core.ops.local_conv import local_conv


def by_definition(x: np.ndarray, kernel: np.ndarray, side: int) -> np.ndarray:
    """(H, W), (side * side, H, W) -> (H, W), one product at a time."""
    height, width = x.shape
    out = np.zeros_like(x)
    for row in range(height):
        for column in range(width):
            for i in range(side):
                for j in range(side):
                    r, c = row + i - side // 2, column + j - side // 2
                    if 0 <= r < height and 0 <= c < width:
                        out[row, column] += kernel[i * side + j, row, column] * x[r, c]
    return out


def draw(batch: int, side: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(batch, 1, height, width, generator=generator, dtype=torch.float64)
    kernel = torch.randn(
        batch, side * side, height, width, generator=generator, dtype=torch.float64
    )
    return x, kernel


@pytest.mark.parametrize('side', [1, 3, 5, 7])
@pytest.mark.parametrize('size', [(6, 9), (2, 3)])
def test_agrees_with_the_definition(side: int, size: tuple[int, int]) -> None:
    x, kernel = draw(2, side, *size)
    out = local_conv(x, kernel)
    for image in range(2):
        expected = by_definition(x[image, 0].numpy(), kernel[image].numpy(), side)
        np.testing.assert_allclose(out[image, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize('side', [3, 5, 7])
def test_gradients_agree_with_finite_differences(side: int) -> None:
    x, kernel = draw(2, side, 4, 5)
    assert torch.autograd.gradcheck(local_conv, (x.requires_grad_(), kernel.requires_grad_()))


def test_gradients_of_one_input_need_none_of_the_other() -> None:
    x, kernel = draw(1, 3, 4, 5)
    local_conv(x, kernel.requires_grad_()).sum().backward()
    assert x.grad is None and kernel.grad is not None
    assert torch.autograd.gradcheck(lambda moved: local_conv(moved, kernel), x.requires_grad_())


def test_values_do_not_depend_on_whether_gradients_are_kept() -> None:
    x, kernel = draw(1, 5, 8, 8)
    assert torch.equal(local_conv(x, kernel), local_conv(x.requires_grad_(), kernel).detach())


def test_a_map_laid_out_channels_last_gives_the_same() -> None:
    x, kernel = draw(2, 3, 8, 6)
    last = kernel.to(memory_format=torch.channels_last)
    torch.testing.assert_close(local_conv(x, last), local_conv(x, kernel))


def test_is_one_operator_to_the_compiler() -> None:
    x, kernel = draw(2, 7, 8, 6)
    inputs = x.to(memory_format=torch.channels_last), kernel
    torch.library.opcheck(
        torch.ops.dmd3c.local_conv.default, inputs, test_utils=('test_schema', 'test_faketensor')
    )
    called = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        called.extend(node.target for node in graph.graph.nodes if node.op == 'call_function')
        return graph.forward

    with torch.inference_mode():
        compiled = torch.compile(local_conv, backend=backend, fullgraph=True)
        assert torch.equal(compiled(*inputs), local_conv(*inputs))
    assert [str(target) for target in called] == ['dmd3c.local_conv.default']


@pytest.mark.parametrize('channels', [4, 8, 10])
def test_kernels_that_are_no_odd_square_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match='k \\* k channels with odd k'):
        local_conv(torch.zeros(1, 1, 4, 4), torch.zeros(1, channels, 4, 4))


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match='x: expected'):
        local_conv(torch.zeros(1, 1, 4, 5), torch.zeros(1, 9, 4, 4))

"""The light network: budget, invariances, and a start from its prior."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dmd3c_ros.core import networks
from dmd3c_ros.core.fusion import fold_batch_norms


def _inputs(height: int = 64, width: int = 96, share: float = 0.05, seed: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, height, width, generator=generator)
    sparse = 2 + 30 * torch.rand(1, 1, height, width, generator=generator)
    sparse = sparse * (torch.rand(1, 1, height, width, generator=generator) < share)
    K = torch.tensor([[[90.0, 0, width / 2], [0, 90.0, height / 2], [0, 0, 1]]])
    return image, sparse, K


def _network(seed: int = 1) -> networks.CompletionNetwork:
    """A network whose every layer takes part, the zero-initialized heads too."""
    torch.manual_seed(seed)
    network = networks.build('light').eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    for head in (network.coarse_head, network.fine_head):
        torch.nn.init.normal_(head.weight, std=0.1)
    return network.requires_grad_(False)


def test_budget_of_a_machine_without_a_gpu() -> None:
    network = networks.build('light').eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(*_inputs(352, 1216))
    assert counter.get_total_flops() <= 16e9
    assert sum(p.numel() for p in network.parameters()) <= 2e6


@pytest.mark.parametrize('size', [(64, 96), (96, 32), (32, 160)])
def test_output_has_the_size_of_the_input(size: tuple[int, int]) -> None:
    output = _network()(*_inputs(*size))
    assert output.depth.shape == output.confidence.shape == (1, 1, *size)
    assert output.pyramid[-1] is output.depth
    assert (output.depth > 0).all()
    assert ((output.confidence > 0) & (output.confidence < 1)).all()


def test_depth_scales_with_the_measurements() -> None:
    network, (image, sparse, K) = _network(), _inputs()
    depth = network(image, sparse, K).depth
    torch.testing.assert_close(network(image, sparse * 10, K).depth, depth * 10, rtol=1e-4, atol=0)


def test_before_training_a_flat_scene_stays_flat() -> None:
    image, sparse, K = _inputs()
    sparse = torch.where(sparse > 0, 7.0, 0.0)
    depth = networks.build('light').eval()(image, sparse, K).depth
    torch.testing.assert_close(depth, torch.full_like(depth, 7.0))


def test_points_correct_what_the_network_gets_wrong_around_them() -> None:
    network, (image, sparse, K) = networks.build('light').eval(), _inputs(64, 256)
    torch.nn.init.constant_(network.fine_head.bias[:1], 0.02)  # 2 % too deep
    sparse = torch.where(sparse > 0, 7.0, 0.0)
    sparse[..., 64:] = 0
    error = (network(image, sparse, K).depth / 7 - 1).detach()
    near, far = error[..., :56].abs(), error[..., 192:]
    assert near.mean() < 4e-3
    torch.testing.assert_close(far, torch.full_like(far, 0.0202), atol=2e-4, rtol=0)


def test_image_measurements_and_intrinsics_all_count() -> None:
    network, (image, sparse, K) = _network(), _inputs()
    depth = network(image, sparse, K).depth
    other_image, other_sparse, _ = _inputs(seed=5)
    changed = [(other_image, sparse, K), (image, other_sparse, K), (image, sparse, K * 1.3)]
    for inputs in changed:
        assert (network(*inputs).depth - depth).abs().max() > 1e-2


def test_no_measurement_and_one_measurement_give_finite_depth() -> None:
    network, (image, sparse, K) = _network(), _inputs()
    for known in (0, 1):
        few = torch.zeros_like(sparse)
        few[..., 30, 40 : 40 + known] = 12.0
        assert network(image, few, K).depth.isfinite().all()


def test_folding_batch_norms_changes_nothing() -> None:
    inputs = _inputs()
    before = _network()(*inputs).depth
    folded = fold_batch_norms(_network())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(*inputs).depth, before, rtol=1e-4, atol=1e-4)


def test_every_parameter_learns() -> None:
    network = _network().train().requires_grad_(True)
    output = network(*_inputs(seed=3))
    loss = sum(depth.log().square().mean() for depth in output.pyramid) + output.confidence.mean()
    loss.backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead

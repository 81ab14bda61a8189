"""LRRU against its authors' implementation, and what each of its parts must do.

golden/lrru.json holds sketches (see parity.py) made by the authors' implementation with the
weights and inputs below, in float64, its CUDA extension replaced by modulated deformable
convolution written out from its definition. Gradients are those of one step in training mode.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parity import TOLERANCE, draw, draw_weights, golden, golden_error, relative_error
from parity_scene import Scene, scene, supervision

from dmd3c_ros.core import networks
from dmd3c_ros.core.fusion import fold_batch_norms
from dmd3c_ros.core.networks.lrru import LRRU, ResidualBlock
from dmd3c_ros.core.ops.ip_basic import ip_basic, remove_outliers

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = golden('lrru')
# Offsets of about a pixel and mild changes of depth: else 1e-6 of noise grows past the tolerance
# from update to update. The coarsest stage gets more, so that it is seen from the output.
GAINS = {
    '*conv_offset.weight': 0.05,
    '*conv_weight.weight': 0.3,
    '*convd1.conv.0.weight': 0.3,
    'conv_lidar.conv.0.weight': 0.3,
    'layer5*conv2*': 2.0,
}


def _scene(batch: int = 2, dtype: torch.dtype = torch.float64) -> Scene:
    return scene(batch, 48, 64, dtype=dtype, near=4.0, span=12.0, share=0.1)


def _network(name: str = 'mini', dtype: torch.dtype = torch.float64) -> LRRU:
    return draw_weights(networks.build(f'lrru_{name}').to(dtype), gains=GAINS).eval()


@pytest.mark.parametrize(
    ('name', 'dtype'),
    [
        ('mini', torch.float64),
        ('mini', torch.float32),
        ('tiny', torch.float32),
        ('small', torch.float32),
        ('base', torch.float32),
    ],
)
def test_every_update_equals_the_authors(name: str, dtype: torch.dtype) -> None:
    with torch.no_grad():
        output = _network(name, dtype)(*_scene(dtype=dtype).inputs)
    assert output.depth is output.pyramid[-1]
    for level, numbers in enumerate(GOLDEN[name]['updates']):
        assert golden_error(f'update{level}', output.pyramid[level], numbers) < TOLERANCE


def test_filling_and_filtering_equal_the_authors() -> None:
    sparse = _scene().sparse
    assert golden_error('filled', ip_basic(sparse), GOLDEN['mini']['filled']) < 1e-6
    assert golden_error('cleared', remove_outliers(sparse), GOLDEN['mini']['cleared']) < 1e-6


def test_gradients_of_a_training_step_equal_the_authors() -> None:
    network, data = _network().train(), _scene()
    loss = supervision(network(*data.inputs).pyramid, data.truth)
    loss.backward()
    assert loss.item() == pytest.approx(GOLDEN['mini']['loss'], rel=TOLERANCE)
    gradients = GOLDEN['mini']['gradients']
    assert gradients.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        assert golden_error(name, parameter.grad, gradients[name]) < TOLERANCE, name


@torch.no_grad()
def test_the_numbers_see_every_layer_and_both_inputs() -> None:
    network, data = _network(dtype=torch.float32), _scene(batch=1, dtype=torch.float32)
    expected = network(*data.inputs).depth

    def moved(*inputs: torch.Tensor) -> float:
        difference = network(*(inputs or data.inputs)).depth - expected
        return float(difference.square().mean().sqrt() / expected.square().mean().sqrt())

    state = network.state_dict()
    for layer in sorted({name.rpartition('.')[0] for name in state}):
        own = [n for n in state if n.rpartition('.')[0] == layer and 'running_var' not in n]
        saved = {name: state[name].clone() for name in own}
        for name in own:
            state[name].zero_()
        assert moved() > 10 * TOLERANCE, f'{layer} set to zero'
        for name in own:
            state[name].copy_(saved[name])
    zero = torch.zeros_like
    assert moved(zero(data.image), data.sparse, data.K) > 10 * TOLERANCE
    assert moved(data.image, data.sparse * 1.01, data.K) > 10 * TOLERANCE
    assert moved(data.image + 1e-6, data.sparse, data.K) < TOLERANCE / 10
    assert moved(data.image, data.sparse * (1 + 1e-6), data.K) < TOLERANCE / 10


@torch.no_grad()
def test_exchanged_branches_and_updates_show() -> None:
    data = _scene(batch=1)
    expected = _network()(*data.inputs).depth
    for first, second in (('layer3_img', 'layer3_lidar'), ('weight_offset0', 'weight_offset2')):
        network = _network()
        state = network.state_dict()
        swapped = {}
        for name, value in state.items():
            top, _, rest = name.partition('.')
            swapped[name] = state[f'{({first: second, second: first}).get(top, top)}.{rest}']
            assert swapped[name].shape == value.shape
        network.load_state_dict(swapped)
        assert relative_error(network(*data.inputs).depth, expected) > 10 * TOLERANCE


@torch.no_grad()
def test_each_image_of_a_batch_is_completed_by_itself() -> None:
    network, data = _network(), _scene(batch=2)
    both = network(*data.inputs).depth
    for index in range(2):
        alone = network(*(x[index : index + 1] for x in data.inputs)).depth
        torch.testing.assert_close(alone, both[index : index + 1])


@torch.no_grad()
def test_half_precision_keeps_depth_in_float32() -> None:
    network, data = _network(dtype=torch.float32), _scene(batch=1, dtype=torch.float32)
    expected = network(*data.inputs).depth
    with torch.autocast('cpu', torch.bfloat16):
        found = network(*data.inputs).depth
    assert found.dtype == torch.float32
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.1


@torch.no_grad()
def test_folding_batch_norms_changes_nothing() -> None:
    data = _scene(batch=1)
    expected = _network()(*data.inputs).depth
    folded = fold_batch_norms(_network())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(*data.inputs).depth, expected)


@torch.no_grad()
def test_stochastic_depth_drops_the_residual_or_keeps_it_whole() -> None:
    block = ResidualBlock(4, 4, survival=0.5)
    block = draw_weights(block, gains={'*': 1.0})
    x = torch.randn(2, 4, 8, 8)
    block.eval()
    half = block(x)
    block.survival = 1.0
    whole = block(x)
    residual = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(whole, torch.relu(x + residual))
    torch.testing.assert_close(half, torch.relu(x + 0.5 * residual))
    block.survival = 0.0
    torch.testing.assert_close(block.train()(x), torch.relu(x))


_CHANNELS_LAST = """
import torch
from dmd3c_ros.core.networks.lrru import ResidualBlock

torch.manual_seed(0)
block = ResidualBlock(8, 16, stride=2).to(memory_format=torch.channels_last)
x = torch.randn(2, 8, 128, 256).contiguous(memory_format=torch.channels_last)
for _ in range(20):
    block.downsample(x).square().sum().backward()
"""


def test_training_in_channels_last_layout_keeps_to_its_memory() -> None:
    # In a process of its own: memory that was written past ends it.
    command = [sys.executable, '-c', _CHANNELS_LAST]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_redrawn_weights_differ() -> None:
    # The rule itself: another seed is another network.
    name, value = 'conv_img.conv.0.weight', torch.zeros(4, 3, 5, 5)
    assert not torch.equal(draw(name, value, seed=0), draw(name, value, seed=1))

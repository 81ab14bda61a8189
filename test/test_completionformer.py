"""CompletionFormer against its authors' implementation, and what each of its parts must do.

golden/completionformer.json holds sketches (see parity.py) made by the authors' implementation
with the weights and inputs below, in float64, its CUDA extension replaced by modulated deformable
convolution written out from its definition. Gradients are those of one step in training mode
without stochastic depth, whose draws differ between machines.
"""

import copy

import pytest
import torch
from parity import TOLERANCE, draw_weights, golden, golden_error, relative_error
from parity_scene import Scene, scene, supervision

from dmd3c_ros.core import networks
from dmd3c_ros.core.fusion import fold_batch_norms
from dmd3c_ros.core.networks.completionformer import CompletionFormer
from dmd3c_ros.core.networks.nlspn import NonLocalPropagation
from dmd3c_ros.core.networks.pvt import DropPath

GOLDEN = golden('completionformer')
# Learned positions as large as the tokens they are added to, offsets of about a pixel, attention
# and its coarsest stage away from uniform: what else would go unseen. The first pattern wins.
GAINS = {
    '*pos_embed1': 450.0,
    '*pos_embed2': 160.0,
    '*pos_embed3': 125.0,
    '*pos_embed4': 160.0,
    'prop_layer.conv_offset_aff.weight': 0.1,
    'prop_layer.conv_offset_aff.bias': 1.0,
    'prop_layer.w': 0.1,
    'prop_layer.w_conf': 0.3,
    'prop_layer.aff_scale_const': 0.3,
    'backbone.conv1_dep.0.weight': 0.3,
    '*block4*.sa.conv1.weight': 3.0,
    '*dec6*.sa.conv1.weight': 0.3,
    '*block3*.sa.conv1.weight': 1.0,
    '*.sa.conv1.weight': 0.3,
    '*block4*.attn.q.weight': 5.0,
    '*embed_layer*conv2*': 0.7,
    '*.proj.weight': 1.0,
}
OFFSETS = {
    'prop_layer.w': 1.0,
    'prop_layer.w_conf': 1.0,
    'prop_layer.aff_scale_const': 0.1,
    '*block4*.resblock.bn2.weight': 3.0,
    '*dec6.1.bn2.weight': 3.0,
    '*dec6.0.1.weight': 3.0,
}


def _network(dtype: torch.dtype) -> CompletionFormer:
    network = networks.build('completionformer').to(dtype)
    return draw_weights(network, gains=GAINS, offsets=OFFSETS).eval()


@pytest.fixture(scope='module')
def double() -> CompletionFormer:
    return _network(torch.float64)


@pytest.fixture(scope='module')
def single(double: CompletionFormer) -> CompletionFormer:
    network = networks.build('completionformer')
    network.load_state_dict(double.state_dict())
    return network.eval()


def _scene(batch: int = 2, size: tuple[int, int] = (48, 64), dtype=torch.float64) -> Scene:
    # 48 rows do not halve five times: the decoder resamples.
    return scene(batch, *size, dtype=dtype, near=3.0, span=5.0, share=0.3)


@torch.no_grad()
def test_depth_and_confidence_equal_the_authors(double, single) -> None:
    for network, dtype in ((double, torch.float64), (single, torch.float32)):
        output = network(*_scene(dtype=dtype).inputs)
        assert golden_error('depth', output.depth, GOLDEN['depth']) < TOLERANCE
        assert golden_error('confidence', output.confidence, GOLDEN['confidence']) < TOLERANCE


@torch.no_grad()
def test_any_size_equals_the_authors(single) -> None:
    data = _scene(1, (76, 100), torch.float32)
    output = single(*data.inputs)
    assert output.depth.shape == (1, 1, 76, 100)
    assert golden_error('depth', output.depth, GOLDEN['odd_size']) < TOLERANCE


@torch.no_grad()
def test_folding_batch_norms_changes_nothing(single) -> None:
    data = _scene(1, dtype=torch.float32)
    folded = fold_batch_norms(copy.deepcopy(single))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert relative_error(folded(*data.inputs).depth, single(*data.inputs).depth) < TOLERANCE


@torch.no_grad()
def test_the_numbers_see_every_block_and_both_inputs(single) -> None:
    network, data = single, _scene(1, dtype=torch.float32)
    expected = network(*data.inputs).depth

    def moved(*inputs: torch.Tensor) -> float:
        difference = network(*(inputs or data.inputs)).depth - expected
        return float(difference.square().mean().sqrt() / expected.square().mean().sqrt())

    for block, tensors in _blocks(network).items():
        saved = [tensor.clone() for tensor in tensors]
        for tensor in tensors:
            tensor.zero_()
        assert moved() > 10 * TOLERANCE, f'{block} set to zero'
        for tensor, value in zip(tensors, saved, strict=True):
            tensor.copy_(value)
    assert moved(data.image * 0, data.sparse, data.K) > 10 * TOLERANCE
    assert moved(data.image, data.sparse * 1.01, data.K) > 10 * TOLERANCE
    assert moved(data.image + 1e-6, data.sparse, data.K) < TOLERANCE / 10
    assert moved(data.image, data.sparse * (1 + 1e-6), data.K) < TOLERANCE / 10


def _blocks(network: CompletionFormer) -> dict[str, list[torch.Tensor]]:
    """Parameters of each stem, decoder stage and head, and of the branches of joint blocks.

    Of a stage's joint blocks only the first and the last: each takes a pass through the network.
    """
    blocks: dict[str, list[torch.Tensor]] = {}
    for name, parameter in network.named_parameters():
        parts = name.split('.')
        if '.block' in name:
            stage = getattr(network.backbone.former, parts[2])
            if int(parts[3]) not in (0, len(stage) - 1) or parts[4].startswith('norm'):
                continue
        depth = 5 if '.block' in name else 3 if '.former.' in name else 2
        blocks.setdefault('.'.join(parts[:depth]), []).append(parameter)
    return blocks


@torch.no_grad()
def test_exchanged_blocks_show(single) -> None:
    data = _scene(1, dtype=torch.float32)
    expected = single(*data.inputs).depth
    former = single.backbone.former
    for blocks in (former.block1, former.block4):
        own = [{k: v.clone() for k, v in block.state_dict().items()} for block in blocks[:2]]
        blocks[0].load_state_dict(own[1])
        blocks[1].load_state_dict(own[0])
        assert relative_error(single(*data.inputs).depth, expected) > 10 * TOLERANCE
        blocks[0].load_state_dict(own[0])
        blocks[1].load_state_dict(own[1])
    torch.testing.assert_close(single(*data.inputs).depth, expected)


def test_gradients_of_a_training_step_equal_the_authors(double) -> None:
    network, data = double, _scene()
    for module in network.modules():
        if isinstance(module, DropPath):
            module.probability = 0.0
    loss = supervision((network.train()(*data.inputs).depth,), data.truth)
    loss.backward()
    assert loss.item() == pytest.approx(GOLDEN['loss'], rel=TOLERANCE)
    found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert found.keys() == GOLDEN['gradients'].keys()
    for name, gradient in found.items():
        assert golden_error(name, gradient, GOLDEN['gradients'][name]) < TOLERANCE, name


def test_drop_path_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    path = DropPath(0.25)
    out = path.train()(torch.ones(4000, 3, 2))
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert bool((out == out[:, :1, :1]).all())
    assert float(out.mean()) == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(path.eval()(out), out)


def test_before_training_propagation_changes_nothing() -> None:
    # Zero affinity leaves all the weight on the centre.
    depth = 1 + torch.rand(1, 1, 16, 20)
    layer = NonLocalPropagation()
    out = layer(depth, torch.randn(1, 8, 16, 20), torch.rand(1, 1, 16, 20))
    torch.testing.assert_close(out, depth)


def test_too_small_an_image_is_refused() -> None:
    with torch.device('meta'):
        network = CompletionFormer()
    with pytest.raises(ValueError, match='at least 32 pixels a side'):
        network(torch.zeros(1, 3, 31, 64), torch.zeros(1, 1, 31, 64), torch.zeros(1, 3, 3))

"""BP-Net computes what its authors' implementation computes, and every block of it counts.

The golden numbers come from the authors' network (github.com/kakaxi314/BP-Net, commit bb1886b),
its CUDA operations replaced by brute-force ones, with weights and inputs drawn by the rule below.
"""

import copy
import hashlib

import parity
import pytest
import torch
from parity import TOLERANCE
from torch import Tensor

from dmd3c_ros.core import networks
from dmd3c_ros.core.fusion import fold_batch_norms
from dmd3c_ros.core.networks.bpnet import KITTI, NYU, BPNet
from dmd3c_ros.core.networks.bpnet_blocks import DropPath
from dmd3c_ros.core.networks.bpnet_scale import (
    BilateralPropagation,
    WeightedPool,
    backproject,
    scale_intrinsics,
)

GOLDEN = parity.golden('bpnet')

# Features grow towards the fine scales; these keep depth of one size at all six, kernels mostly
# positive (signed ones amplify with every step of the refinement) and softmaxes unsaturated.
GAINS = {
    '*.conv2.weight': 0.6,
    '*.upf.conv.weight': 1.9,
    '*.wpool.permute.conv.2.weight': 1.0,
    '*.coef.conv.weight': 0.35,
    'pred[345].conv.weight': 1.0,
    'pred?.conv.weight': 0.5,
    'pred[01].cspn.weight?x?.conv.1.conv.conv.weight': 0.15,
    '*.cspn.weight?x?.conv.1.conv.conv.weight': 0.35,
    '*.conv[cm]*.1.conv.conv.weight': 0.7,
}
OFFSETS = {'*.cspn.weight?x?.conv.1.conv.bn.bias': 0.7, '*.convmask.1.*.bias': -1.0}


def draw_inputs(
    batch: int, height: int, width: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, sparse depth, K and dense depth: a bent surface with noise, a tenth measured."""
    image = parity.centred('image', (batch, 3, height, width), seed)
    v, u = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing='ij'
    )
    noise = parity.centred('depth', (batch, 1, height, width), seed)
    depth = 2.5 + 1.2 * u * v + 0.6 * v + 0.3 * noise
    measured = parity.uniform('measured', (batch, 1, height, width), seed) < 0.1
    K = torch.tensor([[0.6 * width, 0, 0.49 * width], [0, 0.6 * width, 0.52 * height], [0, 0, 1]])
    return image.float(), (depth * measured).float(), K.repeat(batch, 1, 1), depth.float()


def training_loss(pyramid: tuple[Tensor, ...], depth: Tensor) -> Tensor:
    """Squared errors of the six scales, a finer one weighing four times its coarser."""
    return sum(
        4.0 ** (level - 5) * (estimate - depth).square().mean()
        for level, estimate in enumerate(pyramid)
    )


@pytest.fixture(scope='module')
def network() -> BPNet:
    return parity.draw_weights(BPNet(drop_path=0.0), 0, GAINS, OFFSETS).eval()


@pytest.fixture(scope='module')
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return draw_inputs(1, 64, 96)[:3]


@pytest.fixture(scope='module')
def pyramid(network: BPNet, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return network(*inputs).pyramid


def change(network: BPNet, inputs: tuple[Tensor, ...], pyramid: tuple[Tensor, ...]) -> float:
    """Largest change, over the scales, of the network's output."""
    with torch.no_grad():
        found = network(*inputs).pyramid
    return max(map(parity.relative_error, found, pyramid))


def test_names_and_shapes_are_those_of_the_released_checkpoints() -> None:
    with torch.device('meta'):
        state = BPNet().state_dict()
    lines = '\n'.join(sorted(f'{name} {tuple(value.shape)}' for name, value in state.items()))
    assert len(state) == 1648
    assert hashlib.sha256(lines.encode()).hexdigest() == GOLDEN['names_sha256']


def test_has_the_parameters_that_the_paper_reports() -> None:
    with torch.device('meta'):
        network = networks.build('bpnet')
    assert sum(parameter.numel() for parameter in network.parameters()) == 89_873_730


def test_all_scales_agree_with_the_reference(pyramid: tuple[Tensor, ...]) -> None:
    for level, (found, expected) in enumerate(zip(pyramid, GOLDEN['pyramid'], strict=True)):
        rms, projections = expected
        error = parity.golden_error(f'scale{level}', found, (rms, *projections))
        assert error < TOLERANCE, f'scale {level}'


def test_gradients_of_a_training_step_agree_with_the_reference(network: BPNet) -> None:
    # In double precision, since the batch statistics of the coarsest scale's 12 pixels amplify
    # rounding in single precision beyond any use.
    network = copy.deepcopy(network).double().train()
    image, sparse, K, depth = (x.double() for x in draw_inputs(2, 64, 96, seed=1))
    loss = training_loss(network(image, sparse, K).pyramid, depth)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(GOLDEN['loss'], rel=1e-6)
    errors = {}
    for name, parameter in network.named_parameters():
        rms, projections = GOLDEN['gradients'][name]
        errors[name] = parity.golden_error(name, parameter.grad, (rms, *projections))
    assert len(errors) == len(GOLDEN['gradients'])
    assert {name: error for name, error in errors.items() if error > TOLERANCE} == {}


def test_rounding_noise_at_the_input_stays_rounding_noise(
    network: BPNet, inputs: tuple[Tensor, ...], pyramid: tuple[Tensor, ...]
) -> None:
    noisy = [x * (1 + 1e-6 * parity.centred('noise', tuple(x.shape)).float()) for x in inputs]
    assert change(network, noisy, pyramid) < TOLERANCE


@pytest.mark.parametrize('number', [0, 1, 2])
def test_every_input_counts(
    number: int,
    network: BPNet,
    inputs: tuple[Tensor, ...],
    pyramid: tuple[Tensor, ...],
) -> None:
    moved = list(inputs)
    moved[number] = inputs[number] * 1.01
    assert change(network, moved, pyramid) > 10 * TOLERANCE


def test_neighbouring_image_channels_are_told_apart(
    network: BPNet, inputs: tuple[Tensor, ...], pyramid: tuple[Tensor, ...]
) -> None:
    image, sparse, K = inputs
    assert change(network, (image[:, [1, 0, 2]], sparse, K), pyramid) > 10 * TOLERANCE


# One block of each kind, at the scales where its effect is smallest.
BLOCKS = (
    'conv_img.1.1.conv2',
    'layer5_img.1.conv2',
    'pred4.upcat.upf.conv',
    'pred5.wpool.permute.conv.2',
    'pred1.wpool.permute.conv.0.conv.conv',
    'pred5.prop.convXF.0.conv.conv',
    'pred5.prop.convXL.1.conv.conv',
    'pred5.prop.coef.conv',
    'pred0.fuse.encoder.5.1.conv2',
    'pred0.fuse.decoder.0.upf.conv',
    'pred5.conv',
    'pred0.conv',
    'pred5.cspn.weight3x3.conv.1.conv.conv',
    'pred5.cspn.weight7x7.conv.1.conv.conv',
    'pred0.cspn.weight5x5.conv.0.conv.conv',
    'pred5.cspn.convmask.1.conv.conv',
    'pred5.cspn.convck.1.conv.conv',
    'pred5.cspn.convct.1.conv.conv',
)


@pytest.mark.parametrize('name', BLOCKS)
def test_zeroing_any_block_shows(
    name: str, network: BPNet, inputs: tuple[Tensor, ...], pyramid: tuple[Tensor, ...]
) -> None:
    weight = network.get_submodule(name).weight
    kept = weight.detach().clone()
    try:
        weight.data.zero_()
        assert change(network, inputs, pyramid) > 10 * TOLERANCE
    finally:
        weight.data.copy_(kept)


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('layer4_img.0.conv2', 'layer4_img.1.conv2'),
        ('pred5.prop.convXL.0', 'pred5.prop.convXL.1'),
        ('pred5.cspn.weight3x3.conv.0', 'pred5.cspn.weight5x5.conv.0'),
        ('pred5.cspn.convmask', 'pred5.cspn.convck'),
        ('pred4.fuse.encoder.0.1', 'pred4.fuse.encoder.1'),
    ],
)
def test_exchanging_two_blocks_shows(
    one: str,
    other: str,
    network: BPNet,
    inputs: tuple[Tensor, ...],
    pyramid: tuple[Tensor, ...],
) -> None:
    states = {name: dict(network.get_submodule(name).named_parameters()) for name in (one, other)}
    pairs = [
        (states[one][name], states[other][name])
        for name in states[one]
        if name in states[other] and states[one][name].shape == states[other][name].shape
    ]
    assert pairs

    def exchange() -> None:
        for first, second in pairs:
            kept = first.detach().clone()
            first.data.copy_(second)
            second.data.copy_(kept)

    exchange()
    try:
        assert change(network, inputs, pyramid) > 10 * TOLERANCE
    finally:
        exchange()


def test_images_of_a_batch_do_not_mix(network: BPNet) -> None:
    image, sparse, K, _ = draw_inputs(2, 32, 64, seed=2)
    with torch.no_grad():
        together = network(image, sparse, K).depth
        alone = network(image[1:], sparse[1:], K[1:]).depth
    assert parity.relative_error(together[1:], alone) < TOLERANCE


def test_depth_is_finite_where_nothing_was_measured(network: BPNet) -> None:
    image, sparse, K, _ = draw_inputs(1, 32, 64)
    with torch.no_grad():
        assert network(image, torch.zeros_like(sparse), K).depth.isfinite().all()


def test_pyramid_has_the_images_size_and_ends_with_the_depth(
    pyramid: tuple[Tensor, ...],
) -> None:
    assert [tuple(level.shape) for level in pyramid] == [(1, 1, 64, 96)] * 6
    assert all(level.dtype == torch.float32 for level in pyramid)


def test_inference_form_gives_the_same_depth(
    network: BPNet, inputs: tuple[Tensor, ...], pyramid: tuple[Tensor, ...]
) -> None:
    network = fold_batch_norms(copy.deepcopy(network).requires_grad_(False))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    network = network.to(memory_format=torch.channels_last)
    network.pred0.prop._CHUNK = network.pred0.prop._CHUNK // 64
    image = inputs[0].contiguous(memory_format=torch.channels_last)
    assert change(network, (image, *inputs[1:]), pyramid) < TOLERANCE
    with torch.autocast('cpu', torch.bfloat16):
        reduced = change(network, (image, *inputs[1:]), pyramid)
    # bfloat16 keeps 8 bits; depth kept in it throughout would be off by far more.
    assert TOLERANCE < reduced < 0.2


def test_conventions_are_those_of_the_training_programs() -> None:
    assert BPNet.__init__.__defaults__ == (0.1, KITTI)
    assert [round(value * 255, 4) for value in KITTI.mean] == [90.995, 96.2278, 94.3213]
    assert [round(value * 255, 4) for value in KITTI.std] == [79.2382, 80.5267, 82.1483]
    assert (KITTI.depth_scale, NYU.depth_scale) == (1.0, 10.0)
    assert KITTI.size_multiple == NYU.size_multiple == 32


def test_pooling_averages_the_measurements_of_a_cell_by_softmax() -> None:
    pool = WeightedPool(channels=4, level=1).eval()
    torch.manual_seed(0)
    features = torch.randn(1, 4, 2, 3)
    sparse = torch.rand(1, 1, 4, 6) * 10 + 1
    sparse[0, 0, 0, :3] = 0
    sparse[0, 0, :2, 4:] = 0
    with torch.no_grad():
        found = pool(sparse, features)
        logits = torch.nn.functional.pixel_shuffle(pool.permute['conv'](features), 2)
    for row in range(2):
        for column in range(3):
            cell = (0, 0, slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
            depths = sparse[cell][sparse[cell] > 0]
            weights = logits[cell][sparse[cell] > 0].softmax(0)
            expected = float((depths * weights).sum()) if len(depths) else 0.0
            assert found[0, 0, row, column].item() == pytest.approx(expected, rel=1e-4)


def test_a_compiler_sees_the_propagation_as_one_graph_however_large_the_image() -> None:
    propagation = parity.draw_weights(BilateralPropagation(32)).eval()
    nodes = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        nodes.append(len(graph.graph.nodes))
        return graph.forward

    for height, width in ((16, 24), (96, 128)):
        torch.compiler.reset()
        compiled = torch.compile(propagation, backend=backend, fullgraph=True, dynamic=False)
        features = parity.centred('features', (1, 32, height, width)).float()
        known = parity.uniform('known', (1, 1, height, width)).float()
        K = torch.tensor([[[100.0, 0, width / 2], [0, 100, height / 2], [0, 0, 1]]])
        inputs = features, 20 * known * (known < 0.1), K
        with torch.inference_mode():
            torch.testing.assert_close(
                compiled(*inputs), propagation(*inputs), rtol=1e-4, atol=1e-4
            )
    # The larger image takes three chunks where nothing is compiled.
    assert len(nodes) == 2 and nodes[0] == nodes[1]


def test_points_project_back_onto_their_pixels() -> None:
    K = torch.tensor([[[70.0, 0, 47], [0, 65, 30], [0, 0, 1]]])
    small = scale_intrinsics(K, level=2)
    depth = torch.rand(1, 1, 5, 7) + 1
    points = backproject(depth, small)
    assert torch.equal(points[:, 2:], depth)
    pixels = (small[0] @ points[0].flatten(1)) / points[0, 2].flatten()
    v, u = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing='ij')
    torch.testing.assert_close(pixels[:2], torch.stack([u.flatten(), v.flatten()]))
    assert small[0, 0].tolist() == [17.5, 0.0, 11.75]


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    factors = drop(torch.ones(4000, 2, 3))[:, 0, 0]
    assert factors.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(3, 1)), torch.ones(3, 1))

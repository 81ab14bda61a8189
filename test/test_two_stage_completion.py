"""Two-stage completion: a student's depth, aligned to the points, under the completion."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dmd3c_ros.core import networks
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.networks.mono import MonoOutput
from training.augmentation import network_inputs

HEIGHT, WIDTH = 64, 96
K = np.array([[80.0, 0, 48], [0, 80.0, 32], [0, 0, 1]])


class Oracle(torch.nn.Module):
    """A student that reads inverse depth, but for scale and shift, from the image's red."""

    def forward(self, image):
        return MonoOutput(3 * image[:, :1] - 7, ())


def scene(points=12, seed=0):
    """Image that shows inverse depth, depth and sparse depth, (1, c, H, W)."""
    rng = np.random.default_rng(seed)
    depth = np.full((HEIGHT, WIDTH), 12.0) - np.linspace(0, 6, HEIGHT)[:, None]
    depth[20:44, 30:70] = 3.0
    sparse = np.zeros_like(depth)
    chosen = rng.choice(depth.size, points, replace=False)
    sparse.flat[chosen] = depth.flat[chosen]
    depth, sparse = (torch.tensor(x)[None, None].float() for x in (depth, sparse))
    return (1 / depth).expand(-1, 3, -1, -1), depth, sparse


@pytest.fixture
def network():
    torch.manual_seed(0)
    return networks.build('two_stage', student='topformer_tiny', size=HEIGHT).eval()


def trusting(network):
    """The network as it would be had it learned to follow its guide."""
    heads = network.completion.coarse_guide_head, network.completion.fine_guide_head
    with torch.no_grad():
        for head in heads:
            head.bias[-4:] = 5.0
        heads[0].bias[0] = 1.0
    return network


def mae(found, depth):
    return float((found - depth).abs().mean())


def test_a_good_student_needs_few_points(network):
    trusting(network).mono = Oracle()
    image, depth, sparse = scene(12)
    intrinsics = torch.tensor(K[None]).float()
    with torch.no_grad():
        two = network(image, sparse, intrinsics).depth
        one = networks.build('light').eval()(image, sparse, intrinsics).depth
    assert mae(two, depth) < 0.15 < 1.0 < mae(one, depth)


def test_stage_two_begins_as_the_light_network_and_without_a_guide_stays_so(network):
    light = networks.build('light').eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in light.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    network.completion.load_state_dict(light.state_dict(), strict=False)
    image, depth, sparse = scene(60)
    intrinsics = torch.tensor(K[None]).float()
    for guide, tolerance in ((None, 1e-6), (0 * depth, 1e-6), (2 * depth, 0.03)):
        with torch.no_grad():
            one = light(image, sparse, intrinsics)
            two = network.completion(image, sparse, intrinsics, guide)
        torch.testing.assert_close(two.depth, one.depth, rtol=tolerance, atol=0)
        torch.testing.assert_close(two.confidence, one.confidence)
    trusting(network)
    with torch.no_grad():
        unguided = network.completion(image, sparse, intrinsics).depth
        half = torch.where(torch.arange(WIDTH) < WIDTH // 2, depth, 0.0)
        guided = network.completion(image, sparse, intrinsics, half).depth
    torch.testing.assert_close(unguided, one.depth)
    left = np.s_[..., : WIDTH // 2 - 8]
    assert mae(guided[left], depth[left]) < 0.2 * mae(one.depth[left], depth[left])


@pytest.mark.parametrize('training', [False, True])
def test_the_student_sees_colours_and_stage_two_what_the_light_network_sees(
    network, monkeypatch, training
):
    seen = {}
    for part in (network.mono, network.completion):
        forward = part.forward
        monkeypatch.setattr(
            part, 'forward', lambda image, *x, f=forward: seen.update({f: image}) or f(image, *x)
        )
    network.train(training)
    network._dropped = 0.0
    convention = networks.build('light').convention
    rgb = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(4))
    image = (rgb - torch.tensor(convention.mean)) / torch.tensor(convention.std)
    _, _, sparse = scene(700)
    with torch.no_grad():
        network(image.permute(2, 0, 1)[None], sparse, torch.tensor(K[None]).float())
    of_student, of_stage_two = seen.values()
    torch.testing.assert_close(of_student[0].permute(1, 2, 0), image)
    expected, _ = network_inputs(rgb.numpy(), sparse[0, 0].numpy(), convention)
    torch.testing.assert_close(of_stage_two[0], expected, atol=1e-4, rtol=1e-4)


def test_points_that_disagree_with_the_student_are_followed(network):
    trusting(network).mono = Oracle()
    image, depth, sparse = scene(600)
    bent = depth * torch.linspace(0.7, 1.3, WIDTH)
    sparse = torch.where(sparse > 0, bent, sparse)
    with torch.no_grad():
        found = network(image, sparse, torch.tensor(K[None]).float()).depth
    assert mae(found, bent) < 0.35 * mae(depth, bent)


def test_stage_two_is_reduced_where_points_lie_far_apart(network, monkeypatch):
    trusting(network).mono, seen = Oracle(), []
    network._size = 4 * HEIGHT
    forward = network.completion.forward
    monkeypatch.setattr(network.completion, 'forward', lambda *x: seen.append(x) or forward(*x))
    image, depth, sparse = (x.repeat_interleave(4, 2).repeat_interleave(4, 3) for x in scene(40))
    sparse = sparse * (torch.rand(sparse.shape, generator=torch.Generator().manual_seed(1)) < 0.1)
    intrinsics = torch.tensor(K[None]).float() * torch.tensor([[4.0], [4.0], [1.0]])
    with torch.no_grad():
        found = network(image, sparse, intrinsics)
    (small, points, reduced, guide), size = seen[0], depth.shape[-2:]
    assert found.depth.shape == found.confidence.shape == depth.shape
    assert 112 <= small.shape[-2] < size[0] and guide.shape[-2:] == small.shape[-2:]
    assert 0 < int((points > 0).sum()) <= int((sparse > 0).sum())
    assert float((points / guide)[points > 0].sub(1).abs().max()) < 0.2
    # A ray through the same point of both images is the same.
    for k, (h, w) in ((intrinsics, size), (reduced, small.shape[-2:])):
        middle = torch.tensor([w / 3 - 0.5, h / 3 - 0.5, 1.0])
        ray = torch.linalg.inv(k[0]) @ middle
        torch.testing.assert_close(
            ray[:2], torch.tensor([(32 - 48) / 80, (64 / 3 - 32) / 80]), atol=0.03, rtol=0
        )
    assert mae(found.depth, depth) < 0.15


def test_a_fraction_of_a_pixel_makes_no_reduced_image_larger(network, monkeypatch):
    seen, forward = [], network.completion.forward
    monkeypatch.setattr(network.completion, 'forward', lambda *x: seen.append(x[0]) or forward(*x))
    image, sparse = torch.zeros(1, 3, 272, 272), torch.zeros(1, 1, 272, 272)
    # 17 pixels from a point on average, of which 12 are wanted: 192.33 pixels.
    sparse[..., 22::45, 22::45] = 5.0
    with torch.no_grad():
        network(image, sparse, torch.tensor(K[None]).float())
    assert seen[0].shape[-2:] == (192, 192)


def test_samples_of_a_batch_do_not_touch_each_other(network):
    network.mono = Oracle()
    samples = [scene(points, seed) for points, seed in ((20, 1), (900, 2))]
    image, _, sparse = (torch.cat(x) for x in zip(*samples, strict=True))
    intrinsics = torch.tensor(np.stack([K, K])).float()
    with torch.no_grad():
        both = network(image, sparse, intrinsics)
        for index in range(2):
            one = network(*(x[index : index + 1] for x in (image, sparse, intrinsics)))
            torch.testing.assert_close(both.depth[index], one.depth[0])
            torch.testing.assert_close(both.confidence[index], one.confidence[0])


def test_only_the_second_stage_learns(network):
    network.train()
    image, _, sparse = scene()
    output = network(image, sparse, torch.tensor(K[None]).float())
    assert [level.shape[-2:] for level in output.pyramid] == [(16, 24), (32, 48), (64, 96)]
    sum(level.log().mean() for level in output.pyramid).backward()
    assert all(p.grad is None for p in network.mono.parameters())
    assert any(p.grad is not None for p in network.completion.parameters())
    assert not network.mono.training and network.completion.training


def test_as_built_the_students_statistics_stay_while_stage_two_trains():
    """A training loop that keeps each module's mode never calls ``train``."""
    built = networks.build('two_stage')
    before = {name: buffer.clone() for name, buffer in built.mono.named_buffers()}
    image, _, sparse = scene()
    for _ in range(4):  # one may be without a guide
        built(image, sparse, torch.tensor(K[None]).float())
    assert before
    for name, buffer in built.mono.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
    assert built.completion.training


def test_without_a_point_the_output_is_that_of_the_light_network(network):
    image, _, sparse = scene()
    intrinsics = torch.tensor(K[None]).float()
    with torch.no_grad():
        assert not network.aligned(image, 0 * sparse).any()
        output = network(image, 0 * sparse, intrinsics)
        light = networks.build('light').eval()(image, 0 * sparse, intrinsics)
    torch.testing.assert_close(output.depth, light.depth)
    assert output.depth.isfinite().all() and output.confidence.isfinite().all()


def test_the_completer_takes_it_like_any_network(tmp_path):
    torch.manual_seed(0)
    network = networks.build('two_stage')
    path = tmp_path / 'weights.pth'
    torch.save({'net': network.state_dict()}, path)
    completer = DepthCompleter(CompleterConfig(weights=str(path), device='cpu'))
    assert completer.name == 'two_stage'
    image, _, sparse = scene(40)
    rgb = (image[0] * 255).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    depth, confidence = completer.complete(rgb[:61, :93], sparse[0, 0, :61, :93].numpy(), K)
    # It reduces by itself, and is given whole images.
    assert completer.scale(np.eye(480, 640, dtype=np.float32)) == 1
    assert depth.shape == (61, 93) and (depth > 0).all() and np.isfinite(confidence).all()


def test_where_points_are_many_the_student_is_not_asked(network, monkeypatch):
    monkeypatch.setattr(network, 'aligned', lambda *_: pytest.fail('asked'))
    image, _, sparse = scene(1001)
    intrinsics = torch.tensor(K[None]).float()
    with torch.no_grad():
        found = trusting(network)(image, sparse, intrinsics)
        expected = network.completion(image, sparse, intrinsics)
    torch.testing.assert_close(found.depth, expected.depth)


def test_left_the_choice_images_with_few_points_are_completed_in_two_stages():
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    few, many = (scene(points)[2][0, 0].numpy() for points in (1000, 1001))
    completers = {
        name: DepthCompleter(CompleterConfig(model=name, device='cpu'))
        for name in ('auto', 'light', 'two_stage')
    }
    depth = {
        name: [each.complete(rgb, sparse, K).depth for sparse in (few, many)]
        for name, each in completers.items()
    }
    np.testing.assert_array_equal(depth['auto'][0], depth['two_stage'][0])
    np.testing.assert_array_equal(depth['auto'][1], depth['light'][1])
    assert np.abs(depth['auto'][0] / depth['light'][0] - 1).max() > 1e-3
    assert completers['auto'].name == 'light'
    completers['auto'].close()
    with pytest.raises(RuntimeError, match='closed'):
        completers['auto'].complete(rgb, few, K)


def test_the_bundled_weights_use_the_image_where_points_are_few():
    completer = DepthCompleter(CompleterConfig(model='two_stage', device='cpu', backend='eager'))
    rgb = np.full((192, 256, 3), 120, np.uint8)
    rgb[96:] = 60, 70, 60
    rgb[40:150, 90:170] = 200, 40, 30
    sparse = np.zeros((192, 256), np.float32)
    sparse[[20, 60, 110, 180, 180], [30, 220, 128, 60, 200]] = 12, 12, 4, 3, 3
    depth = completer.complete(rgb, sparse, 2.5 * K).depth
    grey = completer.complete(np.full_like(rgb, 128), sparse, 2.5 * K).depth
    assert depth.min() > 1 and depth.max() < 40
    assert np.median(np.abs(depth / grey - 1)) > 0.02


def test_parts_trained_apart_make_one_file(tmp_path):
    from dmd3c_ros.core.networks import mono
    from dmd3c_ros.core.weights.checkpoint import CheckpointError, read_checkpoint
    from training.mono.assemble import assemble, main

    torch.manual_seed(5)
    student, completion = mono.build('topformer_small'), networks.build('light')
    torch.save({'net': student.state_dict()}, tmp_path / 'student.pth')
    torch.save({'net': completion.state_dict()}, tmp_path / 'light.pth')
    assemble(tmp_path / 'student.pth', tmp_path / 'two.pth', tmp_path / 'light.pth')
    checkpoint = read_checkpoint(tmp_path / 'two.pth')
    assert checkpoint.facts['network'] == 'two_stage'
    for part, network in (('mono.', student), ('completion.', completion)):
        for name, tensor in network.state_dict().items():
            assert torch.equal(checkpoint.state[part + name], tensor)
    main(['--stage-two-of', str(tmp_path / 'two.pth'), '--out', str(tmp_path / 'back.pth')])
    back = read_checkpoint(tmp_path / 'back.pth')
    assert back.facts['network'] == 'light'
    assert back.state.keys() == completion.state_dict().keys()
    for name, tensor in completion.state_dict().items():
        assert torch.equal(back.state[name], tensor)
    with pytest.raises(CheckpointError, match=r'light.pth does not fit'):
        assemble(tmp_path / 'light.pth', tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match='no file'):
        main(['--student', str(tmp_path / 'none.pth'), '--out', str(tmp_path / 'x.pth')])


def test_without_memory_for_two_stages_the_other_model_goes_on(monkeypatch, caplog):
    from dmd3c_ros.core import completer as module

    loaded, asked = module.load_runner, []

    def load(config, network):
        asked.append(config.model)
        if config.model == 'two_stage':
            raise RuntimeError('CUDA out of memory')
        return loaded(replace(config, backend='eager'), network)

    monkeypatch.setattr(module, 'load_runner', load)
    completer = DepthCompleter(CompleterConfig(device='cpu', precision='float32'))
    rgb, K = np.zeros((96, 160, 3), np.uint8), np.array([[90, 0, 80], [0, 90, 48], [0, 0, 1.0]])
    sparse = np.zeros((96, 160), np.float32)
    sparse[60, ::3] = 5.0
    for _ in range(2):
        depth = completer.complete(rgb, sparse, K).depth
        np.testing.assert_allclose(depth, 5.0, rtol=0.2)
    assert asked == ['auto', 'two_stage']
    assert sum('out of memory' in message for message in caplog.messages) == 1

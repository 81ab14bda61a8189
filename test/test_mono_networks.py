"""Monocular networks: sizes, released names, and agreement with the transformers library."""

import itertools

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from training_data import save_teacher

from dmd3c_ros.core.fusion import fold_batch_norms
from dmd3c_ros.core.networks import mono
from dmd3c_ros.core.weights import mono as weights
from dmd3c_ros.core.weights.checkpoint import CheckpointError
from dmd3c_ros.core.weights.transformers_names import from_transformers, to_transformers

STUDENTS = ('topformer_tiny', 'topformer_small', 'topformer_base')
# Millions of parameters that the authors of Depth Anything V2 give, and of Topformer's encoder.
PARAMETERS = {'dav2_small': 24.8, 'dav2_base': 97.5, 'dav2_large': 335.3}


def on_meta(name):
    with torch.device('meta'):
        return mono.build(name)


def scrambled(network, seed=0):
    """The network with all numbers drawn, so that no part of it is silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator)
                scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.3
                positive = 'var' in name or name.endswith(('norm.weight', 'bn.weight'))
                tensor.copy_(drawn.abs() + 0.5 if positive else drawn * scale)
    return network.eval()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A tiny Depth Anything of the transformers library whose every weight counts."""
    from transformers import AutoModelForDepthEstimation

    path = save_teacher(tmp_path_factory.mktemp('model'))
    model = scrambled(AutoModelForDepthEstimation.from_pretrained(path))
    model.head.conv3.bias.data.fill_(3.0)
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize('name', PARAMETERS)
def test_depth_anything_has_the_parameters_that_its_authors_count(name):
    count = sum(p.numel() for p in on_meta(name).parameters())
    assert count / 1e6 == pytest.approx(PARAMETERS[name], abs=0.06)


def test_students_grow_in_parameters_and_operations():
    counted = []
    for name in STUDENTS:
        network = on_meta(name).eval()
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            network(torch.zeros(1, 3, 448, 448, device='meta'))
        counted.append((sum(p.numel() for p in network.parameters()), flops.get_total_flops()))
    assert all(a < b for pair in itertools.pairwise(counted) for a, b in zip(*pair, strict=True))
    # A student is a hundredth of its teacher.
    assert counted[1][0] < 4e6 and counted[1][1] < 3e9


@pytest.mark.parametrize('name', STUDENTS[:1])
@pytest.mark.parametrize('size', [(64, 96), (96, 32)])
def test_a_student_gives_inverse_depth_of_every_pixel_and_the_features_it_announces(name, size):
    network = mono.build(name).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, *size))
    assert output.disparity.shape == (2, 1, *size)
    assert output.disparity.isfinite().all()
    assert tuple(f.shape[1] for f in output.features) == network.feature_channels
    assert [f.shape[-2] for f in output.features] == [size[0] // n for n in (4, 8, 16, 32)]


def test_every_parameter_of_a_student_learns():
    network = mono.build('topformer_tiny')
    # The attention begins switched off, as its authors have it.
    for block in network.backbone.trans.transformer_blocks:
        torch.nn.init.ones_(block.attn.proj[1].bn.weight)
        block._drop = 0.0
    network(torch.randn(2, 3, 128, 192)).disparity.square().mean().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_batch_norms_of_a_student_fold_without_changing_what_it_says():
    network = scrambled(mono.build('topformer_tiny'))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network(image).disparity
        after = fold_batch_norms(network)(image).disparity
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.std()))


@pytest.mark.parametrize('size', [(56, 56), (56, 84), (112, 70)])
def test_depth_anything_says_what_the_transformers_library_says(folder, size):
    from transformers import AutoModelForDepthEstimation

    theirs = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    ours = weights.load(folder)
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(pixel_values=image).predicted_depth
        found = ours(image).disparity[:, 0]
    assert expected.std() > 0.05
    # Away from the trained size the authors enlarge positions by 0.1 of a patch more.
    tolerance = 1e-5 if size == (56, 56) else 0.05
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def test_names_of_the_library_translate_both_ways(folder):
    theirs = load_file(folder / 'model.safetensors')
    again = to_transformers(from_transformers(theirs))
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize('wrapped', [False, True])
def test_a_file_tells_which_network_it_is_of(tmp_path, wrapped):
    network = scrambled(mono.build('topformer_tiny'))
    state = network.state_dict()
    torch.save({'net': state} if wrapped else state, tmp_path / 'weights.pth')
    found = weights.load(tmp_path / 'weights.pth')
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found(image).disparity, network(image).disparity)


def test_released_depth_anything_loads_by_either_kind_of_names(tmp_path):
    # A released file's names and shapes; every tensor and row of it has a number of its own.
    state = {
        key: torch.arange(t.shape[0]).view(-1, *[1] * (t.dim() - 1)).expand(t.shape).float() + i
        for i, (key, t) in enumerate(on_meta('dav2_small').state_dict().items())
    }
    theirs = to_transformers(state)
    torch.save(theirs, tmp_path / 'model.pth')
    found = weights.load(tmp_path / 'model.pth').state_dict()
    assert weights.recognize(state) == 'dav2_small'
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_an_encoder_of_imagenet_loads_without_its_classifier(tmp_path):
    source, student = scrambled(mono.build('topformer_tiny')), mono.build('topformer_tiny')
    state = {
        k: v for k, v in source.backbone.state_dict().items() if k.startswith(('tpm.', 'trans.'))
    }
    injection = {k: v.clone() for k, v in student.backbone.SIM.state_dict().items()}
    torch.save({'state_dict': {**state, 'head.l.weight': torch.ones(3)}}, tmp_path / 'T.pth')
    weights.load_encoder(student, tmp_path / 'T.pth')
    loaded = student.backbone.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
    assert all(torch.equal(loaded[f'SIM.{k}'], v) for k, v in injection.items())


def test_what_does_not_fit_is_named(tmp_path):
    torch.save({'weight': torch.ones(2)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'other.pth: .* no monocular network'):
        weights.load(tmp_path / 'other.pth')
    state = mono.build('topformer_tiny').backbone.state_dict()
    torch.save(state, tmp_path / 'tiny.pth')
    with pytest.raises(CheckpointError, match=r'does not fit the encoder: .* another shape'):
        weights.load_encoder(mono.build('topformer_small'), tmp_path / 'tiny.pth')
    with pytest.raises(ValueError, match=r'expected one of topformer_tiny.*got .vgg'):
        mono.build('vgg')

"""Checkpoints load whatever wraps them, and bad ones are refused with the reason."""

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from dmd3c_ros.core.networks import CompletionNetwork
from dmd3c_ros.core.weights.checkpoint import (
    CheckpointError,
    load_weights,
    read_checkpoint,
    read_state,
)


class _Tiny(CompletionNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)


def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    state = _Tiny().state_dict()
    return {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in state.items()}


def _prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    'wrap',
    [
        lambda s: s,
        lambda s: {'net': s, 'epoch': 3},
        lambda s: {'state_dict': _prefixed(s, 'module.')},
        lambda s: {'net': _prefixed(s, 'module.'), 'optimizer': {'lr': 0.1}},
        lambda s: {'net': {k: v * 0 for k, v in s.items()}, 'ema': s},
    ],
    ids=['bare', 'net', 'data parallel', 'both', 'averaged'],
)
def test_wrappers_of_training_programs_are_taken_off(wrap, tmp_path: Path) -> None:
    state = _state()
    torch.save(wrap(state), tmp_path / 'a.pth')
    network = _Tiny()
    load_weights(network, tmp_path / 'a.pth')
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    state = {k: v for k, v in _state().items() if not k.endswith('num_batches_tracked')}
    torch.save(state, tmp_path / 'a.pth')
    load_weights(_Tiny(), tmp_path / 'a.pth')


def test_every_misfit_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = _state()
    del state['norm.weight']
    state['conv.weight'] = torch.zeros(4, 5, 1, 1)
    state['head.bias'] = torch.zeros(1)
    torch.save(state, tmp_path / 'a.pth')
    network = _Tiny()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_weights(network, tmp_path / 'a.pth')
    for part in ('missing: norm.weight', 'unexpected: head.bias', 'got (4, 5, 1, 1)', 'a.pth'):
        assert part in str(error.value)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_settings_of_a_training_program_load_with_the_weights(tmp_path: Path) -> None:
    """CompletionFormer's files keep the parsed command line beside the weights."""
    settings = argparse.Namespace(data_name='NYU', milestones=[36, 48], lr=1e-3)
    torch.save({'net': _state(), 'args': settings, 'epoch': 71}, tmp_path / 'a.pt')
    checkpoint = read_checkpoint(tmp_path / 'a.pt')
    assert checkpoint.facts == {'args': settings, 'epoch': 71}
    assert checkpoint.wrappers == ('net',)
    assert checkpoint.state.keys() == _state().keys()


class _Hostile:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / 'executed'
    torch.save({'net': _Hostile(trace)}, tmp_path / 'zip.pth')
    (tmp_path / 'plain.pth').write_bytes(pickle.dumps(_Hostile(trace)))
    for name in ('zip.pth', 'plain.pth'):
        with pytest.raises(CheckpointError, match='refused') as error:
            read_state(tmp_path / name)
        # torch's own text says how to load it all the same.
        assert 'trust' not in str(error.value) and 'weights_only' not in str(error.value)
    assert not trace.exists()


def test_truncated_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    contents = {'cut': whole[: len(whole) // 2], 'empty': b'', 'text': b'not a checkpoint\n' * 50}
    for name, content in contents.items():
        for suffix in ('pth', 'safetensors'):
            path = tmp_path / f'{name}.{suffix}'
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match=path.name):
                read_state(path)
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='expected a state dict, got list'):
        read_state(tmp_path / 'list.pth')
    with pytest.raises(FileNotFoundError, match='no file'):
        read_state(tmp_path / 'none.pth')

"""Reading network weights from files, without running anything they hold."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from dmd3c_ros.core.networks.base import CompletionNetwork

from .contents import Checkpoint
from .conventions import convention_of

_log = logging.getLogger(__name__)

# Where training programs put the weights inside a checkpoint; an averaged copy (EMA) comes first.
_WRAPPERS = ('ema', 'ema_state_dict', 'net', 'model', 'state_dict', 'model_state_dict')
# What torch.load refuses to make, as it names it.
_GLOBAL = re.compile(r'GLOBAL ([\w.]+)')
_PREFIXES = ('module.', '_orig_mod.', 'ema_model.', 'network.')
# CompletionFormer's files keep their settings in one: a plain bag of attributes that runs no code.
_HARMLESS = [argparse.Namespace]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message says what was expected."""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file.

    Unwraps the containers of common training programs (``net``, ``model``, ``state_dict``, EMA)
    and the ``module.`` prefix of data-parallel training. Raises FileNotFoundError, or
    CheckpointError for a file that is truncated, is no checkpoint or holds pickled code (which is
    refused, never run).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}')
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        # Without PyTorch's advice, which is to run code from the file.
        found = _GLOBAL.search(str(error))
        what = f'pickled objects of {found[1]}' if found else 'other pickled objects'
        raise CheckpointError(
            f'{path}: expected tensors only; refused because the file is damaged or holds {what}'
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # Any exception: torch.load reads several formats, one of them with safetensors, whose
        # errors are its own.
        raise CheckpointError(f'{path}: not a readable checkpoint ({error})') from error
    return _unwrap(content, path)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Parameters and buffers of a checkpoint file by name; errors as of ``read_checkpoint``."""
    return read_checkpoint(path).state


def _unwrap(content: object, path: Path) -> Checkpoint:
    wrappers, facts = [], {}
    while isinstance(content, dict):
        key = next((key for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if key is None:
            break
        facts |= {name: value for name, value in content.items() if name != key}
        wrappers.append(key)
        content = content[key]
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: expected a state dict, got {type(content).__name__}')
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(f'{path}: expected tensors by name, got none')
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
            wrappers.append(prefix)
    return Checkpoint(path, state, tuple(wrappers), facts)


def load_weights(network: CompletionNetwork, weights: str | Path | Checkpoint) -> None:
    """Load a checkpoint, or the file of one, into a network, in place.

    The network's convention becomes that of the checkpoint (``conventions.convention_of``). Raises
    CheckpointError that names missing and unexpected parameters and different shapes; the network
    is unchanged then. See ``read_checkpoint`` for the errors of the file itself.
    """
    checkpoint = weights if isinstance(weights, Checkpoint) else read_checkpoint(weights)
    faults = misfits(network.state_dict(), checkpoint.state)
    if faults:
        raise CheckpointError(
            f'{checkpoint.path} does not fit {type(network).__name__}: ' + '; '.join(faults)
        )
    broken = [name for name, tensor in checkpoint.state.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f'{checkpoint.path}: expected finite numbers; '
            + _fault('tensors hold others', sorted(broken))
        )
    convention = convention_of(network, checkpoint)
    network.load_state_dict(checkpoint.state, strict=False)
    network.convention = convention
    _log.info('loaded %d tensors from %s', len(checkpoint.state), checkpoint.path)


def misfits(own: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """Why ``state`` cannot be loaded into a network whose state dict is ``own``."""
    # Batch counters only matter to training; old checkpoints lack them.
    optional = {name for name in own if name.endswith('num_batches_tracked')}
    faults = [
        _fault('missing', sorted(own.keys() - state.keys() - optional)),
        _fault('unexpected', sorted(state.keys() - own.keys())),
        _fault(
            'of another shape',
            [
                f'{name} (expected {tuple(own[name].shape)}, got {tuple(state[name].shape)})'
                for name in sorted(own.keys() & state.keys())
                if own[name].shape != state[name].shape
            ],
        ),
    ]
    return [fault for fault in faults if fault]


def _fault(kind: str, names: list[str]) -> str:
    if not names:
        return ''
    shown = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
    return f'{len(names)} {kind}: {shown}'

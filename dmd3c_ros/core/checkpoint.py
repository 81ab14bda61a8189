"""Reading network weights from files, without running anything they hold."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# Where training programs put the weights inside a checkpoint; an averaged copy (EMA) comes first.
_WRAPPERS = ('ema', 'ema_state_dict', 'net', 'model', 'state_dict', 'model_state_dict')
_PREFIXES = ('module.', '_orig_mod.', 'ema_model.', 'network.')


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message says what was expected."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Parameters and buffers by name from a checkpoint file, on the CPU.

    Unwraps the containers of common training programs (``net``, ``model``, ``state_dict``, EMA)
    and the ``module.`` prefix of data-parallel training. Raises FileNotFoundError, or
    CheckpointError for a file that is truncated, is no checkpoint or holds pickled code (which is
    refused, never run).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'{path}: expected tensors only; refused because the file is damaged or holds other '
            f'pickled objects ({str(error).splitlines()[0]})'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'{path}: not a readable checkpoint ({error})') from error
    return _unwrap(content, path)


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    while isinstance(content, dict):
        inner = next((content[k] for k in _WRAPPERS if isinstance(content.get(k), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: expected a state dict, got {type(content).__name__}')
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(f'{path}: expected tensors by name, got none')
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return state


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a checkpoint file into a network, in place.

    Raises CheckpointError that names missing and unexpected parameters and different shapes; the
    network is unchanged then. See ``read_state`` for the errors of the file itself.
    """
    state = read_state(path)
    own = network.state_dict()
    # Batch counters only matter to training; old checkpoints lack them.
    optional = {name for name in own if name.endswith('num_batches_tracked')}
    faults = [
        _fault('missing', sorted(own.keys() - state.keys() - optional)),
        _fault('unexpected', sorted(state.keys() - own.keys())),
        _fault(
            'of another shape',
            [
                f'{name} (expected {tuple(own[name].shape)}, got {tuple(state[name].shape)})'
                for name in own.keys() & state.keys()
                if own[name].shape != state[name].shape
            ],
        ),
    ]
    faults = [fault for fault in faults if fault]
    if faults:
        raise CheckpointError(
            f'{path} does not fit {type(network).__name__}: ' + '; '.join(faults)
        )
    network.load_state_dict(state, strict=False)
    log.info('loaded %d tensors from %s', len(state), path)


def _fault(kind: str, names: list[str]) -> str:
    if not names:
        return ''
    shown = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
    return f'{len(names)} {kind}: {shown}'

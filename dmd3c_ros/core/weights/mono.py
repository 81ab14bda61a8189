"""Weights of monocular networks: from files of every release, and telling networks by them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..networks.mono import MonoNetwork, build, names
from ..networks.mono.dpt import DepthAnything, DepthAnythingConfig
from ..networks.mono.student import Student
from .checkpoint import CheckpointError, misfits, read_state
from .transformers_names import from_transformers, is_transformers

log = logging.getLogger(__name__)


def load(path: str | Path) -> MonoNetwork:
    """The network that a file or folder holds, with its weights, on the CPU in eval mode.

    path: a checkpoint of this project's training or of the authors of Depth Anything V2, by whose
    parameters the network is recognized; or a folder of the transformers library with a model of
    the Depth Anything kind. Raises FileNotFoundError, or CheckpointError for what does not read or
    is no such network.
    """
    path = Path(path)
    if path.is_dir():
        network = DepthAnything(_folder_config(path))
        state = from_transformers(_folder_state(path))
    else:
        state = _own_names(read_state(path))
        name = recognize(state)
        if name is None:
            raise CheckpointError(
                f'{path}: its parameters are those of no monocular network ({", ".join(names())})'
            )
        network = build(name)
    load_state(network, state, path)
    return network.eval().requires_grad_(False)


def load_state(network: MonoNetwork, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Set a network's parameters, by the authors' names or the library's; path: for errors.

    Raises CheckpointError that names what does not fit; the network is unchanged then.
    """
    state = _own_names(state)
    faults = misfits(network.state_dict(), state)
    if faults:
        raise CheckpointError(f'{path} does not fit {type(network).__name__}: {"; ".join(faults)}')
    network.load_state_dict(state, strict=False)


def load_encoder(student: Student, path: str | Path) -> None:
    """Set the encoder's parameters from a released Topformer: of ImageNet or of segmentation.

    What a classifier or a segmentation head adds is left out; what the encoder has beyond the
    file (the injection, in files of ImageNet) stays as it is. Raises CheckpointError for a file
    of another size or network, which leaves the student unchanged.
    """
    state = read_state(path)
    state = {name.removeprefix('backbone.'): tensor for name, tensor in state.items()}
    own = student.backbone.state_dict()
    needed = {name for name in own if name.startswith(('tpm.', 'trans.'))}
    taken = {name: tensor for name, tensor in state.items() if name in own}
    faults = misfits({name: own[name] for name in needed | taken.keys()}, taken)
    if faults:
        raise CheckpointError(f'{path} does not fit the encoder: {"; ".join(faults)}')
    student.backbone.load_state_dict(taken, strict=False)
    log.info('%s: %d of %d tensors of the encoder', path, len(taken), len(own))


def recognize(state: Mapping[str, Tensor]) -> str | None:
    """Name of the network that has exactly these parameters; None where there is none."""
    shapes = _shapes(state)
    return next((name for name in names() if _own_shapes(name) == shapes), None)


@lru_cache
def _own_shapes(name: str) -> dict[str, torch.Size]:
    with torch.device('meta'):
        return _shapes(build(name).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    # Batch counters only matter to training.
    return {k: v.shape for k, v in state.items() if not k.endswith('num_batches_tracked')}


def _own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return from_transformers(state) if is_transformers(state) else dict(state)


def _folder_config(folder: Path) -> DepthAnythingConfig:
    """Shape of the network that the config.json of the transformers library describes."""
    path = folder / 'config.json'
    try:
        settings = json.loads(path.read_text())
        encoder = settings['backbone_config']
        return DepthAnythingConfig(
            width=encoder['hidden_size'],
            depth=encoder['num_hidden_layers'],
            heads=encoder['num_attention_heads'],
            taken=tuple(index - 1 for index in encoder['out_indices']),
            channels=tuple(settings['neck_hidden_sizes']),
            fused=settings['fusion_hidden_size'],
            last=settings['head_hidden_size'],
            grid=encoder['image_size'] // encoder['patch_size'],
            expansion=encoder.get('mlp_ratio', 4),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'{path}: expected the settings of a Depth Anything model ({error})'
        ) from error


def _folder_state(folder: Path) -> dict[str, Tensor]:
    path = folder / 'model.safetensors'
    if not path.is_file():
        return read_state(folder / 'pytorch_model.bin')
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f'{path}: reading it needs the package safetensors') from error
    return load_file(path)

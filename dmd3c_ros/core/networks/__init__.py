"""Completion networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from torch import Tensor

from .base import CompletionNetwork, Convention, NetworkOutput

__all__ = ['CompletionNetwork', 'Convention', 'NetworkOutput', 'build', 'names', 'preparations']

# name -> (module, factory); a module is imported only when one of its networks is built.
_REGISTRY = {
    'light': ('light', 'LightNet'),
    'bpnet': ('bpnet', 'BPNet'),
    'lrru_mini': ('lrru', 'lrru_mini'),
    'lrru_tiny': ('lrru', 'lrru_tiny'),
    'lrru_small': ('lrru', 'lrru_small'),
    'lrru_base': ('lrru', 'lrru_base'),
    'completionformer': ('completionformer', 'CompletionFormer'),
    'two_stage': ('two_stage', 'TwoStage'),
}


def names() -> tuple[str, ...]:
    """Names that ``build`` accepts."""
    return tuple(_REGISTRY)


def build(name: str, **options: object) -> CompletionNetwork:
    """Build a network with freshly initialized weights.

    Raises ValueError for an unknown name, naming the known ones.
    """
    module, factory = _entry(name)
    return getattr(import_module(f'{__name__}.{module}'), factory)(**options)


def preparations(name: str) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """Of a network, ``CompletionNetwork.preparations``, without building it; as ``build``."""
    return getattr(import_module(f'{__name__}.{_entry(name)[0]}'), 'PREPARATIONS', {})


def _entry(name: str) -> tuple[str, str]:
    if name not in _REGISTRY:
        raise ValueError(f'network: expected one of {", ".join(_REGISTRY)}; got {name!r}')
    return _REGISTRY[name]

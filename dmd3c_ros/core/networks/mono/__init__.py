"""Monocular networks: relative inverse depth from an image alone, by name.

The label-free student (a light token pyramid transformer with a fusing decoder) and Depth Anything
V2, each in three sizes; any of them may teach or be taught.
"""

from __future__ import annotations

from importlib import import_module

from .base import MonoNetwork, MonoOutput

__all__ = ['MonoNetwork', 'MonoOutput', 'build', 'names']

# name -> (module, factory, its argument); a module is imported when one of its networks is built.
_REGISTRY = {
    **{f'topformer_{size}': ('student', 'Student', size) for size in ('tiny', 'small', 'base')},
    **{f'dav2_{size}': ('dpt', 'DepthAnything', size) for size in ('small', 'base', 'large')},
}


def names() -> tuple[str, ...]:
    """Names that ``build`` accepts."""
    return tuple(_REGISTRY)


def build(name: str) -> MonoNetwork:
    """Build a network with freshly initialized weights.

    Raises ValueError for an unknown name, naming the known ones.
    """
    if name not in _REGISTRY:
        raise ValueError(f'monocular network: expected one of {", ".join(names())}; got {name!r}')
    module, factory, size = _REGISTRY[name]
    return getattr(import_module(f'{__name__}.{module}'), factory).named(size)

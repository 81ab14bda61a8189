"""The kinds of scene by name."""

from __future__ import annotations

from .clutter import clutter
from .indoor import indoor
from .scene import Scene
from .street import street

KINDS = {'street': street, 'indoor': indoor, 'clutter': clutter}


def build(kind: str, seed: int) -> Scene:
    """The scene of that kind and seed. Raises ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f'scene kind: expected one of {", ".join(KINDS)}, got {kind!r}')
    return KINDS[kind](seed)

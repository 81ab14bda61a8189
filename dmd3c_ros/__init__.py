"""Dense metric depth from a camera and a LiDAR.

    from dmd3c_ros import CompleterConfig, DepthCompleter

Both are imported lazily, because importing PyTorch takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.completer import DepthCompleter
    from .core.config import CompleterConfig

__all__ = ['CompleterConfig', 'DepthCompleter']


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .core import completer

    return getattr(completer, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

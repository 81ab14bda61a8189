"""The demonstration: the real node on a real graph, recorded, scored and drawn."""

from .config import DemoConfig, DemoError
from .session import run

__all__ = ['DemoConfig', 'DemoError', 'run']

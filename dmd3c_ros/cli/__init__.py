"""The `dmd3c` command."""

from .app import main

__all__ = ['main']

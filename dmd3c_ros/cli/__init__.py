"""The `dmd3c` command."""

from dmd3c_ros.cli.app import main

__all__ = ['main']

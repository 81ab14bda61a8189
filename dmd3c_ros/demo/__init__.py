"""The demonstration: the real node on a real graph, recorded, scored and drawn."""

from dmd3c_ros.demo.config import DemoConfig, DemoError
from dmd3c_ros.demo.session import run

__all__ = ['DemoConfig', 'DemoError', 'run']

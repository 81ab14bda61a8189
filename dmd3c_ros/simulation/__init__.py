"""Procedural worlds, ray-cast images with exact depth, and LiDAR sweeps."""

from .indoor import indoor
from .lidar import PATTERNS, LidarNoise, Pattern, Rays, Rosette, Spinning, Sweep, scan
from .moving import Arc
from .render import RenderedView, render
from .rig import Frame, Rig, camera_mount, capture, drive, lidar_mount, pinhole
from .scene import Light, Scene
from .scenes import KINDS, build
from .street import street

__all__ = [
    'KINDS',
    'PATTERNS',
    'Arc',
    'Frame',
    'LidarNoise',
    'Light',
    'Pattern',
    'Rays',
    'RenderedView',
    'Rig',
    'Rosette',
    'Scene',
    'Spinning',
    'Sweep',
    'build',
    'camera_mount',
    'capture',
    'drive',
    'indoor',
    'lidar_mount',
    'pinhole',
    'render',
    'scan',
    'street',
]

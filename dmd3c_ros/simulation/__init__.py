"""Procedural worlds, ray-cast images with exact depth, and LiDAR sweeps."""

from dmd3c_ros.simulation.indoor import indoor
from dmd3c_ros.simulation.lidar import (
    PATTERNS,
    LidarNoise,
    Pattern,
    Rays,
    Rosette,
    Spinning,
    Sweep,
    scan,
)
from dmd3c_ros.simulation.moving import Arc
from dmd3c_ros.simulation.render import RenderedView, render
from dmd3c_ros.simulation.rig import (
    Frame,
    Rig,
    camera_mount,
    capture,
    drive,
    lidar_mount,
    pinhole,
)
from dmd3c_ros.simulation.scene import Light, Scene
from dmd3c_ros.simulation.scenes import KINDS, build
from dmd3c_ros.simulation.street import street

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

"""Sources of the demo: a simulated drive or a recorded one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmd3c_ros.io.kitti_raw import KittiDrive

from .config import DemoConfig, DemoError
from .recorder import Recording
from .scoring import MAX_SCORED_M, Truth, held_out_truth, simulator_truth


@dataclass(frozen=True, eq=False)
class Source:
    """A player and the properties of its drive.

    module, parameters: the player's module and ROS parameters.
    T_camera_lidar: (4, 4) extrinsics of the drive; image_size: width and height, pixels.
    n_frames: frames that will come.
    truth: from a recording to the true depth of each of its frames.
    title: the drive in a few words; ground_truth: what the errors are measured against.
    """

    module: str
    parameters: dict[str, object]
    T_camera_lidar: np.ndarray
    image_size: tuple[int, int]
    n_frames: int
    truth: Callable[[Recording], Truth]
    title: str
    ground_truth: str


def source_of(config: DemoConfig) -> Source:
    """The drive of a configuration; DemoError if it cannot be played."""
    return _simulator(config) if config.kitti is None else _kitti(config, config.kitti)


def _simulator(config: DemoConfig) -> Source:
    from dmd3c_ros.node.players.sim_player import SimSettings
    from dmd3c_ros.simulation import lidar_mount

    parameters = {
        'scene': config.scene,
        'seed': config.seed,
        'frames': config.n_frames,
        'frame_rate': config.rate_hz,
        'lidar': config.lidar,
    }
    try:
        # Found out here and now, not by the player once the node is up.
        settings = SimSettings(**parameters)
    except ValueError as error:
        raise DemoError(str(error)) from error
    return Source(
        module='dmd3c_ros.node.players.sim_player',
        parameters=parameters,
        T_camera_lidar=lidar_mount(),
        image_size=(settings.width, settings.height),
        n_frames=config.n_frames,
        truth=simulator_truth,
        title=f'simulated {config.scene}, {config.lidar}',
        ground_truth=f'exact depth up to {MAX_SCORED_M:.0f} m, all pixels covered by the LiDAR',
    )


def _kitti(config: DemoConfig, path: Path) -> Source:
    try:
        drive = KittiDrive(path)
    except (OSError, ValueError) as error:
        raise DemoError(str(error)) from error
    return Source(
        module='dmd3c_ros.node.players.kitti_player',
        parameters={
            'drive': str(path.resolve()),
            'rings': 'even',
            'frames': config.n_frames,
            'rate': config.rate_hz * _period_s(drive),
        },
        T_camera_lidar=drive.T_camera_lidar,
        image_size=(drive.camera.width, drive.camera.height),
        n_frames=min(config.n_frames, len(drive)),
        truth=lambda recording: held_out_truth(drive),
        title=f'KITTI {path.resolve().name}, every other laser ring',
        ground_truth='points of the held-out laser rings',
    )


def _period_s(drive: KittiDrive) -> float:
    """Mean time between frames; that of KITTI's camera for a drive of one frame."""
    last = len(drive) - 1
    return (drive.stamp_ns(last) - drive.stamp_ns(0)) / 1e9 / last if last else 0.1

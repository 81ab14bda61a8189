"""Settings of the players: the only home of their defaults, units and ranges."""

from __future__ import annotations

from dataclasses import dataclass

from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.pipeline.settings import CAMERA_FRAME, LIDAR_FRAME


@dataclass(frozen=True)
class PlayerSettings:
    """How a player publishes a drive.

    rate: playback speed; 2.0 plays a drive in half the time.
    loop: start again at the end; stamps keep increasing.
    restamp: stamp messages with the current time instead of the drive's.
    publish_clock: publish the drive's time on /clock, for nodes with use_sim_time.
    wait_for_subscribers: subscribers that each of the three topics must have before the first
        frame; 0 starts immediately.
    prefetch: frames to read ahead of playback; a drive of at most this many frames is read
        completely before playback, which then needs no time for reading.
    camera_frame: frame_id of images and CameraInfo.
    lidar_frame: frame_id of sweeps.
    """

    rate: float = ranged(1.0, 0.01, 100.0)
    loop: bool = False
    restamp: bool = False
    publish_clock: bool = False
    wait_for_subscribers: int = ranged(1, 0, 100)
    prefetch: int = ranged(100, 1, 100_000)
    camera_frame: str = CAMERA_FRAME
    lidar_frame: str = LIDAR_FRAME

    def __post_init__(self) -> None:
        check_ranges(self)

"""Settings of the players: the only home of their defaults, units and ranges."""

from __future__ import annotations

from dataclasses import dataclass

from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.pipeline.settings import CAMERA_FRAME, LIDAR_FRAME


@dataclass(frozen=True)
class PlayerSettings:
    """How a player publishes a drive.

    rate: speed of playback; 2.0 plays a drive in half its time.
    loop: start again at the end, with stamps that go on.
    restamp: stamp messages with the present time instead of the drive's own.
    publish_clock: publish /clock with the drive's time, for nodes with use_sim_time.
    wait_for_subscribers: subscribers that each of the three topics must have before the first
        frame; 0 starts at once.
    prefetch: frames that are read ahead of playback; a drive of no more frames is read as a whole
        before it starts, so that reading costs nothing while it plays.
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

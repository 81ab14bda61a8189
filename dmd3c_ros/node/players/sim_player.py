"""sim_player: renders a simulated drive and publishes it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.node.parameters import Parameters
from dmd3c_ros.simulation import KINDS, PATTERNS, Rig, drive, lidar_mount, pinhole

from .playback import play
from .player import Drive, DriveFrame, Player

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimSettings:
    """The simulated drive that `sim_player` plays.

    scene: 'street' or 'indoor'.
    seed: number that the scene, the path and the noise follow from.
    frames: length of the drive, frames.
    frame_rate: frames a second, Hz.
    lidar: scan pattern, 'hdl64e', 'vlp16', 'os1_128', 'solid_state' or 'line_scan'.
    width: of the image, pixels.
    height: of the image, pixels.
    field_of_view: of the image from left to right, degrees.
    """

    scene: str = 'street'
    seed: int = ranged(0, 0, 2**31 - 1)
    frames: int = ranged(60, 1, 100_000)
    frame_rate: float = ranged(10.0, 0.1, 100.0)
    lidar: str = 'hdl64e'
    width: int = ranged(1216, 16, 8192)
    height: int = ranged(352, 16, 8192)
    field_of_view: float = ranged(80.0, 10.0, 150.0)

    def __post_init__(self) -> None:
        check_ranges(self)
        for name, known in (('scene', KINDS), ('lidar', PATTERNS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name}: expected one of {", ".join(known)}; got {getattr(self, name)!r}'
                )


class SimulatedDrive(Drive):
    """A drive that is rendered as a whole when it is made, so that playing it costs little."""

    has_depth = True

    def __init__(self, settings: SimSettings) -> None:
        self.camera = pinhole(settings.width, settings.height, settings.field_of_view)
        self.T_camera_lidar = lidar_mount()
        self.period_ns = round(1e9 / settings.frame_rate)
        # The present as the origin, so that stamps look like those of a live sensor.
        self._start_ns = time.time_ns()
        rig = Rig(self.camera, self.T_camera_lidar, PATTERNS[settings.lidar])
        _log.info('rendering %d frames of a simulated %s', settings.frames, settings.scene)
        frames = drive(settings.seed, settings.frames, rig, settings.scene, settings.frame_rate)
        self._frames = [(frame.rgb, frame.points, frame.depth) for frame in frames]

    def __len__(self) -> int:
        return len(self._frames)

    def stamp_ns(self, index: int) -> int:
        """Time of a frame; image and sweep share it."""
        return self._start_ns + index * self.period_ns

    def __getitem__(self, index: int) -> DriveFrame:
        stamp_ns = self.stamp_ns(index)
        return DriveFrame(stamp_ns, stamp_ns, *self._frames[index])


PARAMETER_GROUPS = (('', SimSettings),)


def _open(parameters: Parameters) -> Drive:
    return SimulatedDrive(parameters.get(SimSettings))


def main(args: Sequence[str] | None = None) -> int:
    """Run the player to the end of the drive."""
    return play('sim_player', lambda: Player('sim_player', PARAMETER_GROUPS, _open), args)


if __name__ == '__main__':
    sys.exit(main())

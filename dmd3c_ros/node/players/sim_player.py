"""sim_player: renders a simulated drive and publishes it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.datasets.drives import Drive, SimulatedDrive
from dmd3c_ros.node.parameters import Parameters
from dmd3c_ros.simulation import KINDS, PATTERNS

from .playback import play
from .player import Player

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimSettings:
    """The simulated drive that `sim_player` plays.

    scene: 'street' or 'indoor'.
    seed: random seed of the scene, the path and the noise.
    frames: number of frames in the drive.
    frame_rate: frames per second, Hz.
    lidar: scan pattern, 'hdl64e', 'vlp16', 'os1_128', 'solid_state' or 'line_scan'.
    width: image width, pixels.
    height: image height, pixels.
    field_of_view: horizontal field of view of the camera, degrees.
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


PARAMETER_GROUPS = (('', SimSettings),)


def _open(parameters: Parameters) -> Drive:
    """The whole drive, rendered before playback so that playback costs little."""
    settings = parameters.get(SimSettings)
    _log.info('rendering %d frames of a simulated %s', settings.frames, settings.scene)
    return SimulatedDrive(
        settings.scene,
        settings.seed,
        settings.lidar,
        settings.frames,
        settings.frame_rate,
        settings.width,
        settings.height,
        settings.field_of_view,
        # The current time as the origin, so that stamps look like those of a live sensor.
        start_ns=time.time_ns(),
    ).render()


def main(args: Sequence[str] | None = None) -> int:
    """Run the player to the end of the drive."""
    return play('sim_player', lambda: Player('sim_player', PARAMETER_GROUPS, _open), args)


if __name__ == '__main__':
    sys.exit(main())

"""kitti_player: publishes a KITTI raw drive at its time stamps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.datasets.drives import RINGS, Drive, RecordedDrive
from dmd3c_ros.node.parameters import Parameters

from .playback import play
from .player import Player


@dataclass(frozen=True)
class KittiSettings:
    """What `kitti_player` plays.

    drive: folder of a KITTI raw drive (synchronized and rectified), such as
        2011_09_26/2011_09_26_drive_0001_sync.
    camera: folder of the camera's images, image_00 to image_03.
    rings: laser rings of each sweep to publish, 'all', 'even' or 'odd'; the others can serve as
        ground truth for the completed depth.
    frames: number of frames to play from the start of the drive; 0 plays all.
    """

    drive: str = ''
    camera: str = 'image_02'
    rings: str = 'all'
    frames: int = ranged(0, 0, 1_000_000)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.drive:
            raise ValueError('drive: expected the folder of a KITTI raw drive, got none')
        if self.rings not in RINGS:
            raise ValueError(f'rings: expected one of {", ".join(RINGS)}; got {self.rings!r}')


PARAMETER_GROUPS = (('', KittiSettings),)


def _open(parameters: Parameters) -> Drive:
    settings = parameters.get(KittiSettings)
    return RecordedDrive(settings.drive, settings.frames or None, settings.camera, settings.rings)


def main(args: Sequence[str] | None = None) -> int:
    """Run the player to the end of the drive."""
    return play('kitti_player', lambda: Player('kitti_player', PARAMETER_GROUPS, _open), args)


if __name__ == '__main__':
    sys.exit(main())

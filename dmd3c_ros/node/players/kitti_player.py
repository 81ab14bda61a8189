"""kitti_player: publishes a KITTI raw drive at its time stamps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices
from dmd3c_ros.node.parameters import Parameters

from .playback import play
from .player import Drive, DriveFrame, Player

RINGS = ('all', 'even', 'odd')
# Of a drive with one frame, which has no rate of its own: KITTI's.
_SINGLE_FRAME_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class KittiSettings:
    """What `kitti_player` plays.

    drive: folder of a KITTI raw drive (synchronized and rectified), such as
        2011_09_26/2011_09_26_drive_0001_sync.
    camera: folder of the camera's images, image_00 to image_03.
    rings: laser rings of each sweep to publish, 'all', 'even' or 'odd'; those left out can be
        compared with the completed depth.
    """

    drive: str = ''
    camera: str = 'image_02'
    rings: str = 'all'

    def __post_init__(self) -> None:
        if not self.drive:
            raise ValueError('drive: expected the folder of a KITTI raw drive, got none')
        if self.rings not in RINGS:
            raise ValueError(f'rings: expected one of {", ".join(RINGS)}; got {self.rings!r}')


class RecordedDrive(Drive):
    """A KITTI raw drive, read frame by frame."""

    def __init__(self, settings: KittiSettings) -> None:
        self._drive = KittiDrive(settings.drive, settings.camera)
        self._rings = settings.rings
        self.camera, self.T_camera_lidar = self._drive.camera, self._drive.T_camera_lidar
        gaps = np.diff([self.stamp_ns(index) for index in range(len(self))])
        self.period_ns = int(np.median(gaps)) if len(gaps) else _SINGLE_FRAME_PERIOD_NS

    def __len__(self) -> int:
        return len(self._drive)

    def stamp_ns(self, index: int) -> int:
        """Time of the image."""
        return self._drive.stamp_ns(index)

    def __getitem__(self, index: int) -> DriveFrame:
        frame = self._drive[index]
        points = frame.points
        if self._rings != 'all':
            points = points[ring_indices(points) % 2 == (self._rings == 'odd')]
        return DriveFrame(frame.stamp_ns, frame.points_stamp_ns, frame.rgb, points)


PARAMETER_GROUPS = (('', KittiSettings),)


def _open(parameters: Parameters) -> Drive:
    return RecordedDrive(parameters.get(KittiSettings))


def main(args: Sequence[str] | None = None) -> int:
    """Run the player to the end of the drive."""
    return play('kitti_player', lambda: Player('kitti_player', PARAMETER_GROUPS, _open), args)


if __name__ == '__main__':
    sys.exit(main())

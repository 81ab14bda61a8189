"""A small KITTI raw drive on disk, for tests."""

from pathlib import Path

import numpy as np

from dmd3c_ros.io.images import write_rgb

POINTS = np.array([[1, 2, 3], [-4, 5.5, 6], [7, -8, 9.25]], np.float32)
WIDTH, HEIGHT = 40, 24


def make_drive(root: Path, n_frames: int = 3) -> Path:
    """A small KITTI raw drive: grey images whose level is the frame's number, a few points."""
    day, drive = root / '2011_09_26', root / '2011_09_26' / '2011_09_26_drive_0001_sync'
    for folder in ('image_02/data', 'velodyne_points/data'):
        (drive / folder).mkdir(parents=True)
    for index in range(n_frames):
        image = np.full((HEIGHT, WIDTH, 3), index, np.uint8)
        write_rgb(drive / f'image_02/data/{index:010d}.png', image)
        points = np.c_[POINTS, np.full(3, index)].astype(np.float32)
        points.tofile(drive / f'velodyne_points/data/{index:010d}.bin')
    stamps = [f'2011-09-26 13:02:2{index}.964389445\n' for index in range(n_frames)]
    (drive / 'image_02/timestamps.txt').write_text(''.join(stamps))
    (drive / 'velodyne_points/timestamps.txt').write_text(''.join(stamps))
    (day / 'calib_cam_to_cam.txt').write_text(
        'calib_time: 09-Jan-2012 13:57:47\n'
        f'S_rect_02: {WIDTH:e} {HEIGHT:e}\n'
        'R_rect_00: 0 1 0 -1 0 0 0 0 1\n'
        'P_rect_02: 30 0 20 4 0 30 12 0.2 0 0 1 0.003\n'
    )
    (day / 'calib_velo_to_cam.txt').write_text(
        'calib_time: 15-Mar-2012 11:37:16\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0.1 0.2 0.3\n'
    )
    return drive

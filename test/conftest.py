"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

_KITTI = Path('data/kitti_raw_mini/2011_09_26/2011_09_26_drive_0000_sync')


@pytest.fixture(scope='session')
def kitti_drive() -> Path:
    """Folder of a real KITTI raw drive; the test is skipped where there is none."""
    shared = Path(
        os.environ.get('DMD3C_SHARED', Path(__file__).resolve().parents[1].parent / 'shared')
    )
    drive = shared / _KITTI
    if not drive.is_dir():
        pytest.skip(f'no KITTI raw drive at {drive} (set DMD3C_SHARED to the folder above data/)')
    return drive

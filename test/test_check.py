"""`dmd3c check`: what it says of recordings that are fit, and of those that are not."""

import json

import numpy as np
import pytest
from bag_data import T_CAMERA_LIDAR, write_bag
from commands import invoke

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.evaluation.alignment import View, estimate_clock, estimate_shift
from dmd3c_ros.io.images import read_rgb

WIDTH, HEIGHT = 320, 160
CAMERA = Camera.from_K(np.array([[250, 0, 160], [0, 250, 80], [0, 0, 1.0]]), WIDTH, HEIGHT)

pytestmark = pytest.mark.usefixtures('wide_terminal')


def street(frame: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth (H, W), m, of posts that pass each other by 6 pixels a frame."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(90, 110, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    depth = np.full((HEIGHT, WIDTH), 40, np.float32)
    for number in range(6):
        way = 6 * (frame - 6) * (-1) ** number
        left = round(20 + 50 * number + way + rng.integers(0, 20))
        top = int(rng.integers(10, 60))
        window = np.s_[top : top + 80, max(left, 0) : max(left + 18, 0)]
        rgb[window], depth[window] = (30 + 25 * number) % 256, 5 + number
    return rgb, depth


def scanned(depth: np.ndarray, du: int = 0, dv: int = 0) -> np.ndarray:
    """Every third column and every fourth row of it, moved by (du, dv) pixels."""
    sparse = np.zeros_like(depth)
    sparse[::4, ::3] = depth[::4, ::3]
    return np.roll(sparse, (dv, du), (0, 1))


def views(du: int = 0, dv: int = 0, late: int = 0, count: int = 12) -> list[View]:
    """Views whose points lie (du, dv) pixels beside the image, of sweeps `late` frames later."""
    return [
        View(street(frame)[0], scanned(street(frame + late)[1], du, dv)) for frame in range(count)
    ]


@pytest.mark.parametrize(('du', 'dv'), [(0, 0), (7, 0), (-5, -8), (40, 3)])
def test_points_beside_the_image_are_measured(du, dv):
    shift = estimate_shift(views(du, dv))
    assert shift.is_known and shift.is_off == ((du, dv) != (0, 0))
    # Upper edges of things lie up to a line of the scan too low.
    assert shift.du == pytest.approx(du, abs=1) and shift.dv == pytest.approx(dv + 1, abs=3)


def test_corrected_extrinsics_put_the_points_where_they_belong():
    from dmd3c_ros.core.projection import project_points

    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-3, 3, (500, 2)), rng.uniform(8, 9, 500)]
    shift = estimate_shift(views(7, -4))
    T = shift.corrected(np.eye(4), CAMERA)
    moved = project_points(points, T, CAMERA) > 0
    expected = np.roll(project_points(points, np.eye(4), CAMERA) > 0, (4, -7), (0, 1))
    from scipy.ndimage import binary_dilation

    assert (moved & binary_dilation(expected, iterations=3)).sum() > 0.95 * moved.sum()


@pytest.mark.parametrize(('late', 'du'), [(0, 0), (2, 0), (-1, 0), (0, 15), (2, 15)])
def test_sweeps_of_another_time_are_measured(late, du):
    run = views(du, late=late)
    clock = estimate_clock([run], estimate_shift(run))
    assert clock.is_known and clock.is_off == (late != 0), clock
    assert clock.frames == pytest.approx(-late, abs=0.5)


def test_where_nothing_moves_or_stands_apart_nothing_is_claimed():
    still = [views(count=1)[0]] * 12
    shift = estimate_shift(still)
    assert not estimate_clock([still], shift).is_known
    flat = View(still[0].rgb, np.where(still[0].sparse > 0, np.float32(9), np.float32(0)))
    assert not estimate_shift([flat] * 12).is_known
    assert not estimate_shift([View(flat.rgb, np.zeros_like(flat.sparse))]).is_known


def test_a_bag_is_described_with_an_overlay(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=12)
    text = invoke('check', bag, '--out', tmp_path / 'out')
    assert 'would complete /camera/image_rect, /camera/camera_info, /lidar/points' in text
    assert '/lidar/points: 12 messages, 10.00 Hz' in text
    assert '12 of 12 images find a sweep' in text
    assert 'looks along (1.00, 0.00, 0.00)' in text
    # A flat wall tells nothing.
    assert 'not enough motion' in text and 'inconclusive' in text
    assert read_rgb(tmp_path / 'out/overlay.png').shape == (48, 40, 3)
    report = json.loads((tmp_path / 'out/report.json').read_text())
    np.testing.assert_allclose(report['T_camera_lidar'], T_CAMERA_LIDAR, atol=1e-9)
    assert report['pairing']['sets'] == 12


def test_what_is_wrong_with_a_bag_is_told(tmp_path):
    late = write_bag(tmp_path / 'late', frames=12, lag_ns=10 * 10**9)
    text = invoke('check', late, '--out', tmp_path / 'out', exit_code=1)
    assert '[FAULT] 0 of 12 images find a sweep' in text
    assert '--lidar-clock-offset -10.000' in text
    np.savetxt(tmp_path / 'T.txt', np.diag([-1, 1, -1, 1.0]) @ T_CAMERA_LIDAR)
    bag, options = write_bag(tmp_path / 'bag'), ('--extrinsics', tmp_path / 'T.txt')
    text = invoke('check', bag, '--out', tmp_path / 'out', *options, exit_code=1)
    assert '[FAULT] 3 frames cannot be used: points: none falls' in text
    holes = write_bag(tmp_path / 'holes', frames=12, skip_clouds=frozenset({3, 4, 7}))
    text = invoke('check', holes, '--out', tmp_path / 'out')
    assert '[look ] /lidar/points: 9 messages, 10.00 Hz; 2 gaps, the longest 0.30 s' in text
    assert 'expected a bag' in invoke('check', tmp_path / 'T.txt', exit_code=1)


def test_a_real_drive_is_fit_until_its_extrinsics_are_wrong(kitti_drive, tmp_path):
    text = invoke('check', kitti_drive, '--out', tmp_path)
    assert 'FAULT' not in text and 'extrinsics: points are off by' in text
    assert read_rgb(tmp_path / 'overlay.png').shape[1] == 1242

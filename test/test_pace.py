"""The scale follows the time that frames take, and does not swing."""

import itertools

import pytest

from dmd3c_ros.node.pace import Pace


def drive(pace: Pace, frames: int, seconds_at_full: float, limit_s: float = 0.1) -> list[float]:
    """Scales of frames whose time goes with the area, a fifth of it fixed."""
    scales = []
    for _ in range(frames):
        scales.append(pace.limit)
        pace.finished(seconds_at_full * (0.2 + 0.8 * pace.limit**2), limit_s)
    return scales


def test_all_stays_as_it_is_while_frames_are_in_time() -> None:
    assert set(drive(Pace(), 200, 0.09)) == {1.0}
    assert set(drive(Pace(), 200, 5.0, limit_s=0.0)) == {1.0}


def test_a_slow_machine_gets_a_smaller_scale_soon_and_the_full_one_when_it_recovers() -> None:
    pace = Pace()
    scales = drive(pace, 30, 0.2)
    assert scales[0] == 1 and 0.4 < scales[-1] < 0.75
    assert 0.2 * (0.2 + 0.8 * scales[-1] ** 2) <= 0.1
    # No more than is needed: the next larger scale would be too slow.
    assert 0.2 * (0.2 + 0.8 * (scales[-1] * 2**0.5) ** 2) > 0.1
    assert drive(pace, 200, 0.04)[-1] == 1.0


def test_the_scale_does_not_go_to_and_fro() -> None:
    scales = drive(Pace(), 2000, 0.2)
    changes = sum(a != b for a, b in itertools.pairwise(scales))
    assert changes <= 3
    # Even where the time does not fall with the size as it should.
    pace, scales = Pace(), []
    for _ in range(2000):
        scales.append(pace.limit)
        pace.finished(0.11 if pace.limit == 1 else 0.03, 0.1)
    changes = sum(a != b for a, b in itertools.pairwise(scales))
    assert 4 <= changes <= 24


def test_a_larger_scale_waits_until_the_network_is_ready_for_it() -> None:
    asked: list[float] = []
    pace = Pace(lambda limit: asked.append(limit) or len(asked) > 50)
    low = drive(pace, 30, 0.2)[-1]
    assert not asked
    assert set(drive(pace, 60, 0.04)) == {low}
    assert asked == pytest.approx([low * 2**0.25] * len(asked))
    assert drive(pace, 30, 0.04)[-1] > low


def test_there_is_a_smallest_scale() -> None:
    assert drive(Pace(), 300, 50.0)[-1] == 0.25


def test_a_single_slow_frame_changes_nothing() -> None:
    pace = Pace()
    drive(pace, 20, 0.08)
    pace.finished(3.0, 0.1)
    assert set(drive(pace, 20, 0.08)) == {1.0}

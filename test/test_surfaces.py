"""Pixels that hang on an edge of depth, and those that only look so."""

import numpy as np
import pytest

from dmd3c_ros.core.surfaces import hangs_on_edge


def step(*between: float) -> np.ndarray:
    """Depth of a wall at 20 m beside one at 5 m, with these depths in the columns between."""
    depth = np.full((48, 80), 20.0, np.float32)
    depth[:, 40:] = 5.0
    depth[:, 40 : 40 + len(between)] = between
    return depth


def columns(depth: np.ndarray) -> list[int]:
    return np.unique(np.nonzero(hangs_on_edge(depth))[1]).tolist()


def test_what_hangs_between_two_walls_is_found_and_the_walls_are_not():
    assert columns(step()) == []
    assert columns(step(12.0)) == [40]
    assert columns(step(16.0, 12.0, 8.0)) == [40, 41, 42]


@pytest.mark.parametrize('tilt', [0.0, 0.3, 1.0])
def test_ground_at_a_grazing_angle_does_not_hang(tilt):
    rows, cols = np.arange(120)[:, None] - 30.0, np.arange(160)[None] - 80.0
    inverse = (rows + tilt * cols) / 90
    depth = np.where(inverse > 0.02, 1 / np.maximum(inverse, 0.02), 0).astype(np.float32)
    assert not hangs_on_edge(depth).any()


def test_a_gap_in_depth_is_no_edge():
    depth = np.full((30, 30), 4.0, np.float32)
    depth[10:15, 10:15] = 0
    assert not hangs_on_edge(depth).any()


def test_any_size_is_taken():
    for shape in ((1, 1), (2, 9), (4, 4), (7, 3)):
        assert not hangs_on_edge(np.full(shape, 3, np.float32)).any()

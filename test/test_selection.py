"""Which depth a preset lets through."""

import numpy as np
import pytest

from dmd3c_ros.core.completer import Completion
from dmd3c_ros.core.selection import PRESETS, DepthSelection
from dmd3c_ros.pipeline.arrays import selected_depth
from dmd3c_ros.pipeline.settings import NodeSettings


def completion() -> Completion:
    """A wall at 5 m beside one at 20 m with a smeared edge in column 30; rows 0 to 4 unsure."""
    depth = np.full((24, 60), 5.0, np.float32)
    depth[:, 30], depth[:, 31:] = 10.0, 20.0
    confidence = np.full(depth.shape, 0.8, np.float32)
    confidence[:5] = 0.1
    return Completion(depth, confidence)


def test_the_slam_preset_leaves_out_what_is_unsure_or_hangs_on_an_edge():
    depth = PRESETS['slam'].select(*completion())
    assert not depth[:5].any()
    assert not depth[:, 30].any()
    assert (depth[5:, :30] == 5).all() and (depth[5:, 31:] == 20).all()


def test_all_of_the_depth_is_passed_on_as_it_is():
    found = completion()
    assert PRESETS['all'].select(*found) is found.depth


def test_a_selected_map_stays_as_it_is():
    once = PRESETS['slam'].select(*completion())
    np.testing.assert_array_equal(PRESETS['slam'].select(once), once)


def test_a_confidence_that_only_marks_measurements_leaves_nothing_out():
    depth = np.full((24, 60), 5.0, np.float32)
    measured = np.zeros_like(depth)
    measured[::6, ::6] = 1
    np.testing.assert_array_equal(PRESETS['slam'].select(depth, measured), depth)


def test_what_is_farther_than_the_range_does_not_count():
    depth = DepthSelection(max_depth=8.0).select(completion().depth)
    assert (depth[:, :30] == 5).all() and not depth[:, 30:].any()


def test_a_threshold_beside_a_preset_leaves_out_more():
    kept = selected_depth(completion(), NodeSettings(preset='slam', min_confidence=0.9))
    assert not kept.any()
    kept = selected_depth(completion(), NodeSettings(min_confidence=0.5))
    assert not kept[:5].any() and (kept[5:, 30] == 10).all()


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="preset: expected one of all, slam; got 'mapping'"):
        NodeSettings(preset='mapping')

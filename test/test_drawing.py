"""Colour bars: round values between their ends."""

import cv2
import numpy as np
import pytest

from dmd3c_ros.evaluation.drawing import (
    BACKGROUND,
    CONFIDENCE,
    Page,
    Panel,
    Scale,
    caption_height,
    depth_scale,
)


@pytest.mark.parametrize(
    ('low', 'high', 'ticks'),
    [(3.3, 66, [5, 10, 20, 50]), (1, 8.7, [2, 5]), (0.1, 0.9, [0.2, 0.5]), (11, 18, [])],
)
def test_ticks_of_depth_are_round_and_lie_inside(low, high, ticks):
    scale = Scale(low, high, cv2.COLORMAP_TURBO, logarithmic=True)
    assert scale.ticks() == pytest.approx(ticks)


def test_ticks_of_a_linear_scale_are_evenly_spaced():
    assert CONFIDENCE.ticks() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert Scale(0.0, 2.0, cv2.COLORMAP_PLASMA).ticks() == pytest.approx([0.5, 1.0, 1.5])
    assert Scale(0.0, 30.0, cv2.COLORMAP_PLASMA).ticks() == pytest.approx([5, 10, 15, 20, 25])


def caption_row(scale: Scale, width: int = 800) -> np.ndarray:
    """Which columns of the line of tick marks below a bar are drawn on."""
    page = Page(width, 200)
    page.panel(0, 0, width, 100, Panel(np.zeros((10, 80, 3), np.uint8), 'depth', scale))
    above = np.asarray(page.image)[: caption_height(width)]
    drawn = (above != BACKGROUND).any(axis=2)
    # Between the bar and the labels there is nothing but the marks.
    rows = drawn[:, width // 2 :].sum(axis=1)
    bar = int(np.argmax(rows))
    below = bar + int(np.argmax(rows[bar:] < rows[bar]))
    return np.flatnonzero(drawn[below + 1])


def test_a_bar_has_a_mark_at_every_labelled_value():
    depth = np.geomspace(3, 70, 1000, dtype=np.float32).reshape(20, 50)
    scale = depth_scale(depth)
    columns = caption_row(scale)
    columns = columns[columns > 300]
    left, right = columns[0], columns[-1]
    wanted = [left + (right - left) * scale.fraction(value) for value in scale.ticks()]
    # 50 has no room beside the 68 m at the end.
    np.testing.assert_allclose(columns[1:-1], wanted[:-1], atol=1.5)

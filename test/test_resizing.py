"""How far measurements lie apart, and the size at which a network gets them."""

import numpy as np
import pytest

from dmd3c_ros.core.resizing import mean_distance, suitable_scale


def rings(shape: tuple[int, int] = (480, 960), apart: int = 12) -> np.ndarray:
    """Sparse depth of a LiDAR that sees the lower part of the image, and noise in its rings."""
    rng, (height, width) = np.random.default_rng(3), shape
    sparse = np.zeros(shape, np.float32)
    v, u = np.meshgrid(np.arange(height // 3, height, apart), np.arange(0, width, 3))
    kept = rng.random(v.shape) < 0.8
    sparse[(v + rng.integers(-1, 2, v.shape)).clip(0, height - 1)[kept], u[kept]] = 10.0
    return sparse


def random_pixels(count: int, shape: tuple[int, int] = (480, 640)) -> np.ndarray:
    """Sparse depth at pixels drawn at random."""
    sparse = np.zeros(shape, np.float32)
    sparse.flat[np.random.default_rng(4).choice(sparse.size, count, replace=False)] = 5.0
    return sparse


@pytest.mark.parametrize('apart', [4, 8, 32])
def test_distance_of_points_on_a_grid_is_what_it_is(apart):
    sparse = np.zeros((512, 768), np.float32)
    sparse[apart // 2 :: apart, apart // 2 :: apart] = 3.0
    # A square's pixels are 0.3826 of its edge from its centre on average.
    assert mean_distance(sparse) == pytest.approx(0.3826 * apart, rel=0.05)
    assert mean_distance(random_pixels(2000)) == pytest.approx(
        0.5 * (480 * 640 / 2000) ** 0.5, rel=0.1
    )


def test_the_empty_sky_does_not_count():
    whole, sky = rings(), rings()
    sky[:320] = 0
    assert mean_distance(sky) == pytest.approx(mean_distance(whole), rel=0.15)
    assert mean_distance(rings(apart=24)) > 1.7 * mean_distance(whole)


@pytest.mark.parametrize(
    'sparse', [rings(), random_pixels(500), random_pixels(100)], ids=['rings', '500', '100']
)
@pytest.mark.parametrize('crop', [(8, 0), (5, 3), (24, 40), (0, 33)])
def test_a_crop_hardly_changes_the_distance(sparse, crop):
    rows, columns = crop
    whole, part = mean_distance(sparse), mean_distance(sparse[rows:, columns:])
    assert part == pytest.approx(whole, rel=0.04)


def test_one_measurement_and_a_tiny_image_have_a_distance():
    for shape in ((480, 640), (5, 3), (1, 1)):
        sparse = np.zeros(shape, np.float32)
        sparse[0, 0] = 1.0
        assert 0 <= mean_distance(sparse) <= np.hypot(*shape) + 8
        assert 0 < suitable_scale(shape, mean_distance(sparse), 12.0) <= 1

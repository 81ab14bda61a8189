"""Classical filling and the outlier filter, piece by piece and as a whole."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dmd3c_ros.core.ops import ip_basic as module
from dmd3c_ros.core.ops.ip_basic import dilate, ip_basic, median_5x5, remove_outliers


def _sparse(height: int = 64, width: int = 96, share: float = 0.1, top: float = 0.3):
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(height).view(-1, 1) / height
    depth = 4 + 40 * (1 - rows) ** 2 + torch.rand(1, 1, height, width, generator=generator)
    known = torch.rand(1, 1, height, width, generator=generator) < share
    return depth * (known & (rows > top))


@pytest.mark.parametrize('size', [3, 5, 7, 13, 31])
def test_dilation_is_the_maximum_of_the_window(size: int) -> None:
    image = torch.randn(2, 1, 20, 33, dtype=torch.float64)
    expected = [
        ndimage.grey_dilation(x[0].numpy(), (size, size), mode='constant', cval=-np.inf)
        for x in image
    ]
    torch.testing.assert_close(dilate(image, size)[:, 0], torch.from_numpy(np.stack(expected)))


def test_the_median_network_finds_the_median_of_every_window() -> None:
    # Few values give ties in every window.
    image = torch.randint(0, 9, (2, 1, 15, 22)).double()
    expected = [ndimage.median_filter(x[0].numpy(), 5, mode='nearest') for x in image]
    assert torch.equal(median_5x5(image)[:, 0], torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize('share', [0.35, 0.6, 0.75])
def test_holes_are_the_4_connected_regions_in_raster_order(share: float) -> None:
    mask = torch.rand(29, 41, generator=torch.Generator().manual_seed(3)) < share
    top, left, labels = module._label_regions(mask)
    expected, count = ndimage.label(mask.numpy())
    cut = expected[top : top + labels.shape[0], left : left + labels.shape[1]]
    assert (cut > 0).sum() == (expected > 0).sum()
    numbers = labels[labels >= 0].unique()
    assert len(numbers) == count
    for number, label in enumerate(numbers, start=1):
        assert np.array_equal(labels.numpy() == int(label), cut == number)


def test_the_filled_map_is_dense_and_stays_within_the_measurements() -> None:
    sparse = _sparse()
    filled = ip_basic(sparse)
    known = sparse[sparse > 0]
    assert filled.dtype == torch.float32
    assert bool((filled >= known.min() - 1e-3).all())
    assert bool((filled <= known.max() + 1e-3).all())


def test_nearer_surfaces_win() -> None:
    sparse = torch.zeros(1, 1, 64, 64)
    sparse[..., ::4, ::4] = 30.0
    sparse[..., 33, 33] = 5.0
    assert float(ip_basic(sparse)[0, 0, 33, 33]) < 30.0
    assert float(ip_basic(sparse)[0, 0, 5, 5]) == pytest.approx(30.0)


def test_a_hole_takes_the_mean_of_its_surroundings() -> None:
    sparse = torch.full((1, 1, 80, 160), 20.0)
    sparse[..., 10:, 40:120] = 0.0  # wider than the largest window reaches
    sparse[..., :10, :] = 0.0
    filled = ip_basic(sparse)
    assert bool((filled == 20.0).all())


def test_each_image_of_a_batch_is_filled_by_itself() -> None:
    first, second = _sparse(share=0.1), _sparse(share=0.002)
    both = ip_basic(torch.cat((first, second)))
    assert torch.equal(both[:1], ip_basic(first))
    assert torch.equal(both[1:], ip_basic(second))


def test_a_map_without_measurements_stays_empty() -> None:
    empty = torch.zeros(1, 1, 32, 48)
    assert torch.equal(ip_basic(empty), empty)
    assert torch.equal(remove_outliers(empty), empty)


def test_points_seen_past_a_nearer_surface_are_dropped_and_no_others() -> None:
    sparse = torch.zeros(1, 1, 40, 60)
    sparse[..., ::2, ::2] = 8.0
    for row, col in ((20, 31), (0, 1), (39, 59)):
        sparse[..., row, col] = 25.0
    cleared = remove_outliers(sparse)
    assert bool((cleared[sparse == 25.0] == 0).all())
    assert torch.equal(cleared[sparse == 8.0], sparse[sparse == 8.0])


def test_the_outlier_filter_equals_its_definition() -> None:
    sparse = _sparse(24, 30, share=0.3, top=0.0) + 3 * _sparse(24, 30, share=0.05, top=0.0)
    image = sparse[0, 0].double().numpy()
    padded = np.pad(image, 6, mode='reflect')
    outlier = np.zeros(image.shape, bool)
    for i, j in np.argwhere(image > 0):
        for radius in module.OUTLIER_RADII:
            values = np.array(
                [
                    padded[i + 6 + di, j + 6 + dj]
                    for di in range(-radius, radius + 1)
                    for dj in range(-radius, radius + 1)
                    if abs(di) + abs(dj) <= radius
                ]
            )
            mean = values.sum() / (np.count_nonzero(values > 0.1) + 1e-5)
            outlier[i, j] |= image[i, j] - mean > module.OUTLIER_THRESHOLD
    assert 0 < outlier.sum() < (image > 0).sum() / 2
    expected = torch.where(torch.from_numpy(outlier), 0.0, sparse[0, 0])
    assert torch.equal(remove_outliers(sparse)[0, 0], expected)


def test_too_small_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match='more than 6 pixels a side'):
        remove_outliers(torch.zeros(1, 1, 6, 40))

"""What a network is shown of the camera image."""

import cv2
import numpy as np
import pytest

from dmd3c_ros.core.appearance import local_contrast, shown_image, without_details
from dmd3c_ros.core.networks.base import Convention

WINDOWS = (4.0, 12.0, 36.0)


def grey(image: np.ndarray) -> np.ndarray:
    """Brightness of an image, (H, W) float32 in 0..1."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / np.float32(255)


def picture(height: int = 240, width: int = 320) -> np.ndarray:
    """An image (height, width, 3) uint8 of patches, gradients and noise, far from its limits."""
    rng = np.random.default_rng(8)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 12, 40):
        coarse = rng.uniform(0, 1, (cells, cells, 3)).astype(np.float32)
        kind = cv2.INTER_NEAREST if cells == 12 else cv2.INTER_LINEAR
        image += cv2.resize(coarse, (width, height), interpolation=kind)
    return (40 + 50 * image + rng.normal(0, 1, image.shape)).clip(0, 255).astype(np.uint8)


def test_an_image_is_blurred_the_more_the_denser_its_measurements_are():
    image = np.random.default_rng(6).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    assert without_details(image, 7.0, below=7.0) is image
    assert without_details(image, np.inf, below=7.0) is without_details(image, 1.0, 0.0) is image
    spread = [without_details(image, d, below=7.0).std() for d in (6.8, 6.0, 5.0, 4.4, 4.0, 1.0)]
    assert spread[0] < image.std() and spread[-2] == spread[-1]
    assert sorted(spread, reverse=True) == spread and len(set(spread)) == 5
    precise = without_details(image.astype(np.float32), 4.0, below=7.0)
    assert np.abs(precise - without_details(image, 4.0, below=7.0)).max() < 2
    # Of random values a Gaussian keeps 1 / (2 sqrt(pi) sigma) of the spread, and a little more
    # without its tails: sigma is 4 pixels.
    assert spread[-1] / image.std() == pytest.approx(1 / (2 * np.pi**0.5 * 4), rel=0.15)


def test_brightness_is_relative_to_the_surroundings():
    image = grey(picture())
    exact = image.astype(np.float64)
    result = local_contrast(image, WINDOWS)
    assert result.shape == (*image.shape, 3) and result.dtype == np.float32
    for channel, sigma in enumerate(WINDOWS):
        mean = cv2.GaussianBlur(exact, (0, 0), sigma)
        spread = np.sqrt(cv2.GaussianBlur(exact**2, (0, 0), sigma) - mean**2 + 0.04**2)
        expected = 0.5 + 0.2 * (exact - mean) / spread
        # Means are taken on a smaller image, which widens their window a little.
        error = np.abs(result[..., channel] - expected.clip(0, 1))[40:-40, 40:-40]
        assert error.mean() < 0.006
        assert (local_contrast(image, (sigma,) * 3) == result[..., channel, None]).all()


def test_exposure_and_shadows_hardly_change_the_contrast():
    image = grey(picture())
    expected = local_contrast(image, WINDOWS)
    change = np.abs(local_contrast(image / 2, WINDOWS) - expected).mean()
    assert change < 0.2 * np.abs(image / 2).mean()
    # A shadow over half of the image is seen at its edge alone.
    shadow = image.copy()
    shadow[:, 160:] /= 2
    assert np.abs(local_contrast(shadow, WINDOWS) - expected)[:, :60].max() < 0.08


def test_what_is_flat_but_for_noise_stays_flat():
    flat = np.full((60, 80), 0.8, np.float32)
    assert np.abs(local_contrast(flat, WINDOWS) - 0.5).max() < 1e-3
    noisy = flat + np.random.default_rng(9).normal(0, 0.006, flat.shape).astype(np.float32)
    assert local_contrast(noisy, WINDOWS).std() < 0.04


@pytest.mark.parametrize('rows', [8, 5])
def test_rows_that_are_cut_off_change_nothing_below(rows: int):
    image = grey(picture())
    whole = local_contrast(image, (6.0, 6.0, 6.0))
    part = local_contrast(image[rows:], (6.0, 6.0, 6.0))
    assert np.abs(part[32:] - whole[rows + 32 :]).mean() < 0.004


@pytest.mark.parametrize('shape', [(1, 1), (3, 50), (33, 2)])
def test_tiny_images_have_a_contrast(shape: tuple[int, int]):
    image = np.random.default_rng(2).uniform(0, 1, shape).astype(np.float32)
    result = local_contrast(image, WINDOWS)
    assert result.shape == (*shape, 3) and 0 <= result.min() <= result.max() <= 1


def test_an_image_is_shown_in_bytes_and_in_fractions():
    image = picture()
    assert shown_image(image, 1.0, 0.0, ()) is image
    for distance in (3.0, 9.0):
        fractions = shown_image(image.astype(np.float32) / 255, distance, 7.0, WINDOWS)
        expected = local_contrast(without_details(grey(image), distance, 7.0), WINDOWS)
        assert np.abs(fractions - expected).max() < 0.02  # as grey is rounded
        shown = shown_image(image, distance, 7.0, WINDOWS)
        assert shown.dtype == np.uint8 and np.abs(shown - 255 * expected).max() < 1


@pytest.mark.parametrize('windows', [(6.0,), (6.0, 6.0), (6.0, 0.0, 6.0)])
def test_windows_are_one_for_each_channel(windows: tuple[float, ...]):
    with pytest.raises(ValueError, match='contrast: expected 3 windows above 0'):
        Convention(contrast=windows)

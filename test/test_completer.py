"""DepthCompleter: any size, any precision, clear errors, no state."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from light_weights import save_light

from dmd3c_ros.core import networks
from dmd3c_ros.core.baselines import BASELINES
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.projection import remove_hidden_points
from dmd3c_ros.core.resizing import enlarge_depth, shrink, shrink_sparse
from dmd3c_ros.core.weights.checkpoint import CheckpointError

K = np.array([[90.0, 0, 50], [0, 90.0, 30], [0, 0, 1]])


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_light(tmp_path_factory.mktemp('weights') / 'light.pth', 2)


def scene(height: int = 61, width: int = 103) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (height, width, 3), np.uint8)
    sparse = np.where(rng.random((height, width)) < 0.05, rng.uniform(3, 40, (height, width)), 0)
    return rgb, sparse.astype(np.float32)


@pytest.mark.parametrize('size', [(61, 103), (64, 96), (33, 200)])
def test_any_size_comes_back_as_it_went_in(weights: Path, size: tuple[int, int]) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    depth, confidence = completer.complete(*scene(*size), K)
    assert depth.shape == confidence.shape == size
    assert depth.dtype == confidence.dtype == np.float32
    assert (depth > 0).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()


@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_lower_precision_stays_close(weights: Path, precision: str) -> None:
    rgb, sparse = scene()
    full, low = (
        DepthCompleter(CompleterConfig(weights=str(weights), device='cpu', precision=p))
        for p in ('float32', precision)
    )
    assert low.precision == precision
    np.testing.assert_allclose(
        low.complete(rgb, sparse, K).depth, full.complete(rgb, sparse, K).depth, rtol=0.05
    )


def test_calls_do_not_touch_each_other_or_their_input(weights: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    rgb, sparse = scene()
    kept = rgb.copy(), sparse.copy()
    first = completer.complete(rgb, sparse, K)
    completer.complete(255 - rgb, sparse * 3, K)
    again = completer.complete(rgb, sparse, K)
    np.testing.assert_array_equal(first.depth, again.depth)
    np.testing.assert_array_equal(rgb, kept[0])
    np.testing.assert_array_equal(sparse, kept[1])


def test_nothing_known_gives_nothing(weights: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    rgb, sparse = scene()
    depth, confidence = completer.complete(rgb, np.zeros_like(sparse), K)
    assert not depth.any()
    assert not confidence.any()


def test_unknown_markers_of_ros_count_as_unknown(weights: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    rgb, sparse = scene()
    marked = np.where(sparse > 0, sparse, np.float32(np.nan))
    np.testing.assert_array_equal(
        completer.complete(rgb, marked, K).depth, completer.complete(rgb, sparse, K).depth
    )


def test_depth_is_cut_at_the_limit() -> None:
    rgb, sparse = scene()
    completer = DepthCompleter(CompleterConfig(model='nearest', max_depth=20.0))
    assert completer.complete(rgb, sparse, K).depth.max() == 20


@pytest.mark.parametrize('model', ['nearest', 'interpolation'])
def test_baselines_keep_measurements_and_fill_the_rest(model: str) -> None:
    rgb, sparse = scene()
    depth = DepthCompleter(CompleterConfig(model=model)).complete(rgb, sparse, K).depth
    np.testing.assert_allclose(depth[sparse > 0], sparse[sparse > 0], rtol=1e-5)
    assert (depth > 0).all()
    assert depth.max() <= sparse.max() * 1.0001


@pytest.mark.parametrize(
    ('model', 'filtering', 'dropped'),
    [
        ('nearest', 'auto', True),
        ('light', 'auto', False),
        ('light', 'always', True),
        ('nearest', 'never', False),
    ],
)
def test_hidden_points_are_dropped_for_the_baselines_unless_told_otherwise(
    weights: Path, model: str, filtering: str, dropped: bool
) -> None:
    options = {'weights': str(weights)} if model == 'light' else {}
    completer = DepthCompleter(CompleterConfig(model=model, device='cpu', **options))
    sparse = np.zeros((40, 40), np.float32)
    sparse[20, 20], sparse[22, 22], sparse[35, 35] = 5.0, 30.0, 30.0
    seen = completer.filter_hidden(sparse, filtering)
    assert (seen[22, 22] == 0) == dropped
    assert seen[20, 20] == 5.0 and seen[35, 35] == 30.0


@pytest.mark.parametrize('size', [(61, 103), (64, 96)])
@pytest.mark.parametrize('scale', [0.37, 0.5])
def test_a_smaller_scale_runs_on_a_smaller_image_and_gives_the_full_size(
    weights: Path, size: tuple[int, int], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CompleterConfig(weights=str(weights), device='cpu', inference_scale=scale)
    completer = DepthCompleter(settings)
    seen = []
    run = completer._run
    monkeypatch.setattr(completer, '_run', lambda *inputs: seen.append(inputs) or run(*inputs))
    depth, confidence = completer.complete(*scene(*size), K)
    assert depth.shape == confidence.shape == size
    assert depth.dtype == confidence.dtype == np.float32
    assert (depth > 0).all()
    ((rgb, sparse, _),) = seen
    assert rgb.shape[:2] == sparse.shape == tuple(round(n * scale) for n in size)


@pytest.mark.parametrize('scale', [0.3, 0.5, 0.77])
def test_a_plane_stays_where_it_is_at_every_scale(scale: float) -> None:
    # Depth of a slanted plane is linear in neither u nor v; its inverse is.
    camera = Camera.from_K(K, 120, 80)
    u, v = np.meshgrid(np.arange(120), np.arange(80))
    plane = (1 / (0.05 + 2e-4 * u + 3e-4 * v)).astype(np.float32)
    rgb = np.repeat(np.arange(120, dtype=np.uint8)[None, :, None], 80, 0).repeat(3, 2)
    small, sparse, small_K = shrink(rgb, plane, K, scale)
    assert small.shape[:2] == sparse.shape
    np.testing.assert_allclose(small_K, camera.scaled(*sparse.shape[::-1]).K)
    # Of the pixels that meet in one, the nearest: at most a pixel's slant less.
    again = enlarge_depth(sparse, plane.shape)
    np.testing.assert_allclose(again, plane, rtol=0.01 / scale)
    grey = np.rint(np.interp(np.arange(small.shape[1]), *_columns(small.shape[1])))
    assert np.abs(small[40 * small.shape[0] // 80, 2:-2, 0] - grey[2:-2]).max() <= 1


def _columns(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Column in the small image and grey value of each column of the large one."""
    return (np.arange(120) + 0.5) * width / 120 - 0.5, np.arange(120)


@pytest.mark.parametrize(('large', 'small'), [((9, 33), (4, 18)), ((6, 8), (6, 8))])
def test_a_measurement_stays_in_the_pixel_that_holds_its_centre(large, small) -> None:
    for row, column in np.ndindex(*large):
        sparse = torch.zeros(large)
        sparse[row, column] = 7
        centre = [Fraction(2 * i + 1, 2) for i in (row, column)]
        expected = [int(c * n / m) for c, n, m in zip(centre, small, large, strict=True)]
        assert shrink_sparse(sparse, small).nonzero().tolist() == [expected]
    crowded = torch.arange(1.0, 1 + large[0] * large[1]).reshape(large)
    assert shrink_sparse(crowded, small)[0, 0] == 1


def test_no_depth_between_two_surfaces_is_made_up_when_it_is_enlarged() -> None:
    step = np.full((20, 30), 5, np.float32)
    step[:, 15:] = 50
    step[:4] = 0
    depth = enlarge_depth(step, (47, 71))
    assert {0, 5, 50} <= set(np.unique(depth))
    surfaces = (depth == 0) | (np.abs(depth / 5 - 1) < 0.05) | (np.abs(depth / 50 - 1) < 0.05)
    assert surfaces.all()


@pytest.mark.parametrize('scale', [1.0, 0.5])
def test_measured_depth_is_kept_exactly_on_demand(weights: Path, scale: float) -> None:
    rgb, sparse = scene()
    settings = CompleterConfig(
        weights=str(weights),
        device='cpu',
        inference_scale=scale,
        preserve_lidar=True,
        max_depth=30.0,
    )
    depth, confidence = DepthCompleter(settings).complete(rgb, sparse, K)
    hidden = (sparse > 0) & (remove_hidden_points(sparse) == 0)
    kept = (sparse > 0) & (sparse <= 30) & ~hidden
    assert kept.sum() > 30 and hidden.sum() > 30
    np.testing.assert_array_equal(depth[kept], sparse[kept])
    assert (confidence[kept] == 1).all()
    assert depth.max() <= 30
    free = replace(settings, preserve_lidar=False)
    corrected = DepthCompleter(free).complete(rgb, sparse, K).depth
    np.testing.assert_array_equal(depth[~kept], corrected[~kept])
    assert (depth[kept] != corrected[kept]).mean() > 0.5


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'model': 'lihgt'}, 'model: expected one of auto, light'),
        ({'precision': 'int8'}, 'precision: expected one of auto'),
        ({'backend': 'tpu'}, 'backend: expected one of auto, eager, compile, onnx'),
        ({'threads': -1}, 'threads: expected 0 to 1024, got -1'),
        ({'max_depth': 0}, 'max_depth'),
        ({'inference_scale': 0.05}, r'inference_scale: expected 0\.1 to 1\.0, got 0\.05'),
    ],
)
def test_bad_settings_name_the_good_ones(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompleterConfig(**changed)


def test_devices_that_are_not_there_are_refused(weights: Path) -> None:
    for device in ('tpu', 'cuda:7', 'meta'):
        with pytest.raises(ValueError, match='device'):
            DepthCompleter(CompleterConfig(weights=str(weights), device=device))


def test_a_baseline_is_not_given_a_device_or_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='device'):
        DepthCompleter(CompleterConfig(model='nearest', device='cuda:7'))
    gone = str(tmp_path / 'gone.pth')
    with pytest.raises(FileNotFoundError, match=r'weights: no file .*gone\.pth'):
        DepthCompleter(CompleterConfig(model='nearest', weights=gone))


def test_weights_may_be_named_from_the_home_folder(weights: Path, monkeypatch) -> None:
    monkeypatch.setenv('HOME', str(weights.parent))
    assert DepthCompleter(CompleterConfig(weights=f'~/{weights.name}')).name == 'light'


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({'net': {'conv.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    for model, message in (
        ('light', 'does not fit LightNet'),
        ('auto', 'those of no known network'),
    ):
        with pytest.raises(CheckpointError, match=message):
            DepthCompleter(CompleterConfig(model=model, weights=str(tmp_path / 'other.pth')))


def stated(weights: Path, path: Path, **convention: object) -> DepthCompleter:
    """A completer of the same weights whose file states another convention."""
    state = torch.load(weights, weights_only=True)['net']
    torch.save({'net': state, 'convention': {'size_multiple': 32, **convention}}, path)
    return DepthCompleter(CompleterConfig(weights=str(path), device='cpu'))


def test_depth_is_scaled_for_the_network_and_back(weights: Path, tmp_path: Path) -> None:
    rgb, sparse = scene()
    plain = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    expected = plain.complete(rgb, sparse, K).depth
    # The light network answers in the unit that it is given.
    scaled = stated(weights, tmp_path / 'a.pth', depth_scale=10.0).complete(rgb, sparse, K).depth
    np.testing.assert_allclose(scaled, expected, rtol=1e-3)
    dark = stated(weights, tmp_path / 'b.pth', mean=(9.0, 9.0, 9.0)).complete(rgb, sparse, K)
    assert np.abs(dark.depth - expected).max() > 0.1


@pytest.mark.parametrize(('empty', 'cut'), [(30, 24), (12, 12), (0, 0)])
def test_rows_without_measurement_that_training_left_out_stay_unknown(
    weights: Path, tmp_path: Path, empty: int, cut: int
) -> None:
    rgb, sparse = scene(60, 100)
    sparse[:empty] = 0
    sparse[empty, 50] = 9.0
    # A blur would mix what is cut with what stays.
    sharp = {'blurred_below': 0.0, 'drops_enclosed': False, 'contrast': ()}
    cutting = stated(weights, tmp_path / 'a.pth', cut_above=0.4, **sharp)
    whole = cutting.complete(rgb, sparse, K)
    assert not whole.depth[:cut].any()
    assert not whole.confidence[:cut].any()
    shifted = K - np.array([[0, 0, 0], [0, 0, cut], [0, 0, 0]])
    plain = stated(weights, tmp_path / 'b.pth', **sharp)
    part = plain.complete(rgb[cut:], sparse[cut:], shifted)
    np.testing.assert_allclose(whole.depth[cut:], part.depth, rtol=1e-6)
    np.testing.assert_allclose(whole.confidence[cut:], part.confidence, rtol=1e-6)


def test_among_dense_measurements_the_finest_details_of_the_image_do_not_count(
    weights: Path, tmp_path: Path
) -> None:
    sharp = stated(weights, tmp_path / 'a.pth', blurred_below=0.0)
    blurring = stated(weights, tmp_path / 'b.pth', blurred_below=7.0)
    rng = np.random.default_rng(5)
    rgb = np.full((96, 128, 3), 128, np.uint8)
    other = (rgb + rng.choice([-40, 40], (96, 128, 1))).astype(np.uint8)

    def change(completer: DepthCompleter, sparse: np.ndarray) -> float:
        a, b = (completer.complete(image, sparse, K).depth for image in (rgb, other))
        return float(np.abs(a - b).mean())

    dense, thin = np.zeros((2, 96, 128), np.float32)
    dense[::4, ::4] = rng.uniform(3, 60, (24, 32))
    thin[::32, ::32] = rng.uniform(3, 60, (3, 4))
    assert change(blurring, dense) < 0.5 * change(sharp, dense)
    assert change(blurring, thin) == change(sharp, thin) > 0


def test_weights_alone_say_which_network_they_are_of(tmp_path: Path) -> None:
    torch.save({'net': networks.build('lrru_mini').state_dict()}, tmp_path / 'any.pth')
    completer = DepthCompleter(CompleterConfig(weights=str(tmp_path / 'any.pth'), device='cpu'))
    assert completer.name == 'lrru_mini'
    rgb, sparse = scene()
    sparse[:40] = 0
    depth = completer.complete(rgb, sparse, K).depth
    assert depth[40:].any()
    assert not depth[: round(61 * 96 / 352)].any()


def test_wrong_arrays_are_named(weights: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    rgb, sparse = scene()
    for arguments, message in [
        ((rgb.astype(np.float32), sparse, K), 'rgb: expected'),
        ((rgb, sparse[:-1], K), 'sparse: expected'),
        ((rgb, (sparse * 256).astype(np.uint16), K), 'sparse: expected'),
        ((rgb, sparse, np.eye(4)), 'K: expected'),
    ]:
        with pytest.raises(ValueError, match=message):
            completer.complete(*arguments)


def test_a_closed_completer_says_so(weights: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    completer.close()
    with pytest.raises(RuntimeError, match='closed'):
        completer.complete(*scene(), K)


def test_few_measurements_are_warned_of_once(weights: Path, caplog) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    rgb, sparse = scene()
    completer.complete(rgb, sparse, K)
    assert not [m for m in caplog.messages if 'measurements in an image' in m]
    few = np.zeros_like(sparse)
    few[::30, ::40] = 5.0
    for _ in range(2):
        completer.complete(rgb, few, K)
    told = [m for m in caplog.messages if 'measurements in an image' in m]
    assert len(told) == 1 and told[0].startswith(f'{np.count_nonzero(few)} measurements')


def test_too_few_measurements_lower_the_confidence(weights: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    rgb, sparse = scene()
    few = np.zeros_like(sparse)
    rows, columns = np.nonzero(sparse)
    chosen = np.linspace(0, len(rows) - 1, 20).astype(int)
    few[rows[chosen], columns[chosen]] = 5.0
    enough = completer.complete(rgb, few, K).confidence
    few[rows[chosen[10:]], columns[chosen[10:]]] = 0
    assert np.count_nonzero(few) == 10
    # Barely trained heads are everywhere about as sure.
    np.testing.assert_allclose(enough, 0.5, atol=0.05)
    np.testing.assert_allclose(completer.complete(rgb, few, K).confidence, 0.25, atol=0.05)


def test_points_far_apart_make_the_image_smaller(weights: Path) -> None:
    rng = np.random.default_rng(0)

    def scale_at(step: int, **settings) -> float:
        config = CompleterConfig(weights=str(weights), device='cpu', **settings)
        sparse = np.zeros((480, 640), np.float32)
        sparse[::step, ::step] = rng.uniform(2, 9, sparse[::step, ::step].shape)
        completer = DepthCompleter(config)
        depth = completer.complete(np.zeros((480, 640, 3), np.uint8), sparse, K).depth
        assert depth.shape == (480, 640) and (depth > 0).all()
        return completer.scale(sparse)

    sizes = [scale_at(step) for step in (4, 48, 64)]
    assert sizes[0] == 1 and sizes[0] > sizes[1] > sizes[2] >= 112 / 480
    assert scale_at(64, adapt_scale=False) == 1
    assert scale_at(4, inference_scale=0.5) == 0.5
    assert scale_at(64, inference_scale=0.9) == sizes[2]


def test_the_scale_of_one_image_may_be_limited() -> None:
    seen = []

    def complete(sparse: np.ndarray) -> np.ndarray:
        seen.append(sparse.shape)
        return np.where(sparse > 0, sparse, np.float32(3))

    completer = DepthCompleter(CompleterConfig(model='nearest', inference_scale=0.8))
    rgb, sparse = scene()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BASELINES, 'nearest', complete)
        for limit in (1.0, 0.5):
            depth = completer.complete(rgb, sparse, K, limit).depth
            assert depth.shape == sparse.shape
    heights = [shape[0] / sparse.shape[0] for shape in seen]
    np.testing.assert_allclose(heights, [0.8, 0.5], atol=0.01)

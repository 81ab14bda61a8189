"""Monocular teachers and their cache; random cameras and scales of depth."""

import numpy as np
import pytest
from training_data import save_teacher

from training.generation.random_camera import CameraDistribution, DepthDistribution
from training.generation.sources import Prediction, SourceImage
from training.generation.teacher import (
    CachedTeacher,
    ExactTeacher,
    FileTeacher,
    HubTeacher,
    TeacherConfig,
    TwoTeachers,
    open_teacher,
)


@pytest.fixture(scope='module', params=['relative', 'metric'])
def model(request, tmp_path_factory):
    """A tiny Depth Anything V2 with random weights, saved to disk: (folder, kind)."""
    kind = request.param
    metric = {'depth_estimation_type': kind, 'max_depth': 80 if kind == 'metric' else 1}
    return save_teacher(tmp_path_factory.mktemp('model'), **metric), kind


def settings(model, **changes) -> TeacherConfig:
    return TeacherConfig(model=str(model[0]), **{'size': 56, 'device': 'cpu', **changes})


def make_image(seed: int, height: int = 60, width: int = 90) -> SourceImage:
    rng = np.random.default_rng(seed)
    return SourceImage(f'made/{seed}', rng.integers(0, 255, (height, width, 3), np.uint8))


def test_a_model_from_disk_gives_depth_of_every_image_whatever_its_size(model):
    teacher = HubTeacher(settings(model))
    images = [make_image(0), make_image(1, 120, 60), make_image(2)]
    predictions = teacher.predict(images)
    # The shorter side as configured, both sides in patches of 14.
    assert [p.values.shape for p in predictions] == [(56, 84), (112, 56), (56, 84)]
    for prediction in predictions:
        assert prediction.metric == (model[1] == 'metric')
        assert np.isfinite(prediction.values).all() and prediction.values.min() >= 0


def test_a_batch_says_what_single_images_say(model):
    teacher = HubTeacher(settings(model))
    images = [make_image(0), make_image(1, 120, 60), make_image(2)]
    together = teacher.predict(images)
    for one, expected in zip(images, together, strict=True):
        np.testing.assert_allclose(
            teacher.predict([one])[0].values, expected.values, rtol=1e-4, atol=1e-5
        )


def test_colours_and_sides_reach_the_model_as_it_expects_them(model, monkeypatch):
    import torch

    teacher = HubTeacher(settings(model))
    seen = []

    def watch(pixel_values):
        seen.append(pixel_values)
        return original(pixel_values=pixel_values)

    original = teacher._model
    monkeypatch.setattr(teacher, '_model', watch)
    rgb = np.zeros((56, 84, 3), np.uint8)
    rgb[..., 0] = 255
    teacher.predict([SourceImage('red', rgb)])
    expected = (torch.tensor([1.0, 0, 0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(seen[0][0, :, 20, 30], expected)


class Counting(ExactTeacher):
    """Counts what it is asked."""

    def __init__(self, identity: str = 'counting') -> None:
        self.identity, self.asked = identity, []

    def predict(self, images):
        self.asked += [p.name for p in images]
        return [Prediction(p.rgb[..., 0] / np.float32(7) - 3, False) for p in images]


def test_the_cache_is_asked_by_content_and_says_the_same_before_and_after(tmp_path):
    teacher = Counting()
    cached = CachedTeacher(teacher, tmp_path)
    first = cached.predict([make_image(0), make_image(1)])
    again = CachedTeacher(teacher, tmp_path).predict(
        [make_image(1), SourceImage('renamed', make_image(0).rgb), make_image(2)]
    )
    assert teacher.asked == ['made/0', 'made/1', 'made/2']
    np.testing.assert_array_equal(first[0].values, again[1].values)
    np.testing.assert_array_equal(first[1].values, again[0].values)
    exact = teacher.predict([make_image(0)])[0].values
    span = exact.max() - exact.min()
    assert np.abs(first[0].values - exact).max() <= span / 131068 + 1e-5


def test_another_teacher_has_a_cache_of_its_own_in_the_same_folder(tmp_path):
    for identity in ('one', 'two'):
        teacher = Counting(identity)
        CachedTeacher(teacher, tmp_path).predict([make_image(0)])
        assert teacher.asked == ['made/0']


@pytest.mark.parametrize('damage', [b'', b'PK\x03\x04 cut', None])
def test_a_damaged_cache_file_is_made_anew(damage, tmp_path):
    teacher = Counting()
    cached = CachedTeacher(teacher, tmp_path)
    expected = cached.predict([make_image(0)])[0].values
    file = next(tmp_path.rglob('*.npz'))
    file.write_bytes(file.read_bytes()[:100] if damage is None else damage)
    np.testing.assert_array_equal(cached.predict([make_image(0)])[0].values, expected)
    assert teacher.asked == ['made/0', 'made/0']
    np.testing.assert_array_equal(cached.predict([make_image(0)])[0].values, expected)
    assert len(teacher.asked) == 2


def test_unknown_pixels_survive_the_cache(tmp_path):
    class Holes(Counting):
        def predict(self, images):
            values = np.full((4, 5), np.nan, np.float32)
            values[1] = 2.5
            return [Prediction(values, True)]

    for _ in range(2):
        prediction = CachedTeacher(Holes(), tmp_path).predict([make_image(0)])[0]
        assert prediction.metric
        np.testing.assert_allclose(prediction.values[1], 2.5)
        assert np.isnan(prediction.values[[0, 2, 3]]).all()


def test_the_identity_follows_the_weights_and_the_settings(model, tmp_path):
    import torch
    from transformers import DepthAnythingForDepthEstimation

    same = {HubTeacher(settings(model)).identity for _ in range(2)}
    assert len(same) == 1
    assert HubTeacher(settings(model, size=70)).identity not in same
    changed = DepthAnythingForDepthEstimation.from_pretrained(model[0])
    with torch.no_grad():
        next(changed.parameters()).add_(1e-3)
    changed.save_pretrained(tmp_path)
    assert HubTeacher(settings((tmp_path, ''))).identity not in same


def test_the_exact_teacher_passes_on_simulated_depth_and_refuses_photographs():
    depth = np.full((60, 90), 4, np.float32)
    simulated = SourceImage('simulated', make_image(0).rgb, depth, np.eye(3))
    teacher = open_teacher(TeacherConfig(model='exact'))
    prediction = teacher.predict([simulated])[0]
    assert prediction.metric and (prediction.values == 4).all()
    with pytest.raises(ValueError, match='made/0: expected a simulated image'):
        teacher.predict([make_image(0)])


@pytest.mark.parametrize('changes', [{'size': 3}, {'std': (1.0, 0.0, 1.0)}, {'mean': (0.5,)}])
def test_settings_of_the_teacher_without_sense_are_refused(changes):
    with pytest.raises(ValueError, match='expected'):
        TeacherConfig(**changes)


def test_random_cameras_have_the_stated_distribution():
    distribution = CameraDistribution(fov_min_deg=50, fov_max_deg=90, aspect=0.01, centre=0.02)
    rng = np.random.default_rng(0)
    cameras = [distribution.draw(rng, 640, 480) for _ in range(500)]
    fov = np.degrees(2 * np.arctan(320 / np.array([c.fx for c in cameras])))
    assert fov.min() >= 50 and fov.max() <= 90
    assert np.mean(fov) == pytest.approx(70, abs=2) and np.std(fov) == pytest.approx(11.5, abs=1)
    assert np.std([c.fy / c.fx for c in cameras]) == pytest.approx(0.01, rel=0.15)
    assert np.std([c.cx for c in cameras]) == pytest.approx(0.02 * 640, rel=0.15)
    assert np.mean([c.cy for c in cameras]) == pytest.approx(239.5, abs=1.5)


def test_without_spread_the_camera_looks_through_the_centre_with_square_pixels():
    camera = CameraDistribution(aspect=0, centre=0).draw(np.random.default_rng(0), 640, 480)
    assert (camera.cx, camera.cy) == (319.5, 239.5) and camera.fx == camera.fy


def test_relative_inverse_depth_becomes_depth_by_a_positive_scale_and_a_shift():
    distribution = DepthDistribution()
    disparity = np.random.default_rng(0).uniform(50, 900, (30, 40)).astype(np.float32)
    for seed in range(20):
        depth = distribution.from_disparity(disparity, np.random.default_rng(seed))
        slope, shift = np.polyfit(disparity.ravel(), 1 / depth.ravel(), 1)
        np.testing.assert_allclose(slope * disparity + shift, 1 / depth, rtol=1e-3, atol=1e-5)
        assert slope > 0
        assert 1 <= depth.min() <= 6 and 20 <= depth.max() <= 150
        other = distribution.from_disparity(3 * disparity + 100, np.random.default_rng(seed))
        np.testing.assert_allclose(depth, other, rtol=1e-3)


def test_the_sky_of_a_relative_teacher_is_a_hole():
    disparity = np.linspace(0, 10, 200, dtype=np.float32).reshape(10, 20)
    disparity[0] = 0
    disparity[1, 0] = np.nan
    depth = DepthDistribution(sky=0.01).from_disparity(disparity, np.random.default_rng(0))
    assert not depth[0].any() and depth[1, 0] == 0
    assert (depth[1:].ravel()[2:] > 0).all()
    assert (np.diff(depth[1:].ravel()[2:]) < 0).all()


@pytest.mark.parametrize('value', [0.0, np.nan])
def test_an_image_of_sky_alone_has_no_depth(value):
    disparity = np.full((4, 5), value, np.float32)
    assert not DepthDistribution().from_disparity(disparity, np.random.default_rng(0)).any()


def test_a_flat_disparity_is_one_depth():
    depth = DepthDistribution().from_disparity(np.full((4, 5), 2.0), np.random.default_rng(0))
    assert depth.min() > 0 and depth.min() == depth.max()


def test_metric_depth_keeps_its_scale_and_loses_what_is_too_deep():
    depth = np.array([[0, 5, 250, np.nan, 199]], np.float32)
    np.testing.assert_array_equal(DepthDistribution().from_depth(depth), [[0, 5, 0, 0, 199]])


@pytest.mark.parametrize(
    'settings',
    [{'near_min': 0}, {'near_max': 30, 'far_min': 20}, {'far_max': 300}, {'sky': 1.0}],
)
def test_depth_limits_out_of_order_are_refused(settings):
    with pytest.raises(ValueError, match='expected'):
        DepthDistribution(**settings)


@pytest.mark.parametrize('settings', [{'fov_min_deg': 0}, {'fov_max_deg': 20}, {'aspect': -0.1}])
def test_cameras_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match='expected'):
        CameraDistribution(**settings)


# Students and second teachers


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """File of a light student with random weights."""
    import torch

    from dmd3c_ros.core.networks import mono

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp('student') / 'weights.pth'
    torch.save({'net': mono.build('topformer_tiny').state_dict()}, path)
    return path


def test_a_students_file_teaches_like_any_model(student):
    teacher = open_teacher(TeacherConfig(model=str(student), size=64, device='cpu'))
    assert isinstance(teacher, FileTeacher)
    images = [make_image(0), make_image(1, 120, 60)]
    first, second = teacher.predict(images)
    assert first.values.shape == (64, 96) and second.values.shape == (128, 64)
    # Whatever its shift, the farthest pixel counts as infinitely far.
    assert first.values.min() == 0 and first.values.max() > 0 and not first.metric


def test_two_teachers_share_the_images_by_what_is_in_them(model, student):
    first, second = Counting('one'), Counting('two')
    both = TwoTeachers(first, second, 0.3)
    images = [make_image(seed) for seed in range(60)]
    said = both.predict(images)
    assert 8 <= len(second.asked) <= 30 and len(first.asked) == 60 - len(second.asked)
    assert not set(first.asked) & set(second.asked)
    for one, prediction in zip(images, said, strict=True):
        np.testing.assert_array_equal(prediction.values, first.predict([one])[0].values)
    # The same ones again, in whatever company.
    again = TwoTeachers(Counting('one'), Counting('two'), 0.3)
    again.predict(images[::-1][:30])
    assert set(again._teachers[1].asked) <= set(second.asked)
    assert both.identity == again.identity != TwoTeachers(first, second, 0.4).identity


def test_a_configuration_names_an_assistant(model, student, tmp_path):
    config = settings(
        model,
        assistant=str(student),
        assistant_size=64,
        assistant_share=0.5,
        cache=str(tmp_path),
    )
    shapes = {
        p.values.shape for p in open_teacher(config).predict([make_image(i) for i in range(8)])
    }
    assert shapes == {(56, 84), (64, 96)}
    with pytest.raises(ValueError, match='assistant_share: expected 0 to 1'):
        settings(model, assistant_share=1.5)

"""Losses of monocular distillation: against their definitions, written out in NumPy; gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from training.mono.losses import (
    channel_wise,
    feature,
    geometric,
    gradient,
    local_global,
    overlapping_windows,
    position_maps,
    shared_context,
    squared,
)
from training.mono.normalization import NormalizationConfig, distance, normalized
from training.mono.pointnet import PointNet

K = torch.tensor([[[7.0, 0, 4.0], [0, 6.0, 3.0], [0, 0, 1]]], dtype=torch.float64).expand(2, 3, 3)
KINDS = ('global', 'hybrid', 'local', 'none')


def maps(seed=0, height=6, width=8, share=0.8):
    """Student, teacher and mask: two images in float64, values where nothing counts absurd."""
    rng = np.random.default_rng(seed)
    student = rng.random((2, 1, height, width)) * 3 + 0.2
    teacher = student**1.3 + rng.random((2, 1, height, width))
    mask = rng.random((2, 1, height, width)) < share
    teacher[~mask] = 1e6
    return torch.tensor(student), torch.tensor(teacher), torch.tensor(mask)


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


def by_median(values):
    values = values - lower_median(values)
    return values / np.abs(values).mean()


def each(student, teacher, mask):
    """Marked values of both, image by image."""
    for s, t, m in zip(student.numpy(), teacher.numpy(), mask.numpy(), strict=True):
        yield s[m], t[m]


# Channel-wise


@pytest.mark.parametrize('temperature', [0.5, 1.0, 4.0])
def test_channel_wise_is_the_divergence_of_two_distributions_over_the_pixels(temperature):
    student, teacher, mask = maps()
    expected = []
    for s, t in each(student, teacher, mask):
        p, q = (np.exp(by_median(x) / temperature) for x in (t, s))
        p, q = p / p.sum(), q / q.sum()
        expected.append(temperature**2 * np.sum(p * np.log(p / q)))
    found = channel_wise(student, teacher, mask, temperature)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-12)


def test_channel_wise_is_zero_for_the_teacher_itself_at_any_scale_and_shift():
    _, teacher, mask = maps()
    assert channel_wise(3 * teacher - 7, teacher, mask).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match='temperature: expected above 0'):
        channel_wise(teacher, teacher, mask, 0.0)


def test_squared_is_the_plain_loss_of_normalized_maps():
    student, teacher, mask = maps()
    expected = [
        np.mean((by_median(s) - by_median(t)) ** 2) for s, t in each(student, teacher, mask)
    ]
    assert squared(student, teacher, mask).item() == pytest.approx(np.mean(expected), rel=1e-12)


# Normalization


def by_definition(s, t, kind, levels=(1, 2, 4), groups='range'):
    """Mean absolute difference of the flat marked values of one image."""
    if kind == 'none':
        return np.abs(s - t).mean()
    if kind == 'global':
        return np.abs(by_median(s) - by_median(t)).mean()
    total = np.zeros(len(t))
    for level in levels:
        if groups == 'range':
            share = (t - t.min()) / (t.max() - t.min())
        else:
            share = np.argsort(np.argsort(t)) / len(t)
        number = np.minimum((share * level).astype(int), level - 1)
        for group in range(level):
            inside = number == group
            if inside.sum() > 1:
                total[inside] += np.abs(by_median(s[inside]) - by_median(t[inside]))
    return (total / len(levels)).mean()


@pytest.mark.parametrize('kind', ['global', 'none'])
def test_distance_by_the_whole_map_or_by_nothing(kind):
    student, teacher, mask = maps()
    expected = np.mean([by_definition(s, t, kind) for s, t in each(student, teacher, mask)])
    found = distance(student, teacher, mask, NormalizationConfig(kind))
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('groups', ['range', 'share'])
@pytest.mark.parametrize('levels', [(1, 2, 4), (4,), (3,)])
def test_distance_by_hierarchical_groups_of_the_teachers_depth(groups, levels):
    student, teacher, mask = maps(3, 12, 15)
    expected = np.mean(
        [by_definition(s, t, 'hybrid', levels, groups) for s, t in each(student, teacher, mask)]
    )
    found = distance(student, teacher, mask, NormalizationConfig('hybrid', levels, groups))
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('size', [(6, 8), (7, 9)])
def test_distance_by_crops_takes_each_crop_by_itself(size):
    student, teacher, mask = maps(1, *size)
    expected = []
    for s, t, m in zip(student.numpy(), teacher.numpy(), mask.numpy(), strict=True):
        total = 0.0
        h, w = -(-size[0] // 2), -(-size[1] // 2)
        for top in (0, h):
            for left in (0, w):
                tile = np.s_[0, top : top + h, left : left + w]
                inside = m[tile]
                total += np.abs(by_median(s[tile][inside]) - by_median(t[tile][inside])).sum()
        expected.append(total / m.sum())
    found = distance(student, teacher, mask, NormalizationConfig('local'))
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize('kind', KINDS[:3])
def test_normalized_distances_know_neither_scale_nor_shift(kind):
    student, teacher, mask = maps()
    config = NormalizationConfig(kind)
    moved = distance(5 * student + 2, 0.1 * teacher - 3, mask, config)
    assert moved.item() == pytest.approx(distance(student, teacher, mask, config).item(), rel=1e-9)


def test_a_global_scale_hides_what_local_crops_show():
    # Figure 2 of Distill Any Depth: one outlier sets the scale of everything.
    _, teacher, _ = maps(0, 8, 8, 1.0)
    mask = torch.ones_like(teacher, dtype=torch.bool)
    student = teacher.clone()
    student[..., :4, :4] += 0.3 * torch.rand(2, 1, 4, 4, dtype=torch.float64)
    for image in (student, teacher):
        image[..., -1, -1] = 1e4
    by_all = distance(student, teacher, mask, NormalizationConfig('global'))
    by_crop = distance(student, teacher, mask, NormalizationConfig('local'))
    assert by_crop > 10 * by_all > 0


def test_constant_and_empty_maps_have_no_scale_and_no_gradient():
    values = torch.full((2, 5), 3.3, dtype=torch.float64).requires_grad_()
    mask = torch.tensor([[True] * 5, [False] * 5])
    result = normalized(values, mask)
    result.sum().backward()
    assert not result.any() and not values.grad.any()


@pytest.mark.parametrize(
    'settings', [{'kind': 'both'}, {'groups': 'number'}, {'levels': ()}, {'tiles': 0}]
)
def test_wrong_normalizations_are_refused(settings):
    with pytest.raises(ValueError, match='normalization: expected'):
        NormalizationConfig(**settings)


# Geometric


def test_position_maps_are_the_pixels_in_space():
    student, teacher, mask = maps(share=1.0)
    points = position_maps(student, teacher, mask, K, 48, 0.5)
    t = teacher.numpy()[:, 0]
    for b in range(2):
        d = (t[b] - t[b].min()) / (t[b].max() - t[b].min())
        z = 1 / (d + 0.5)
        v, u = np.indices(d.shape)
        expected = np.stack([z * (u - 4) / 7, z * (v - 3) / 6, z]).reshape(3, -1)
        np.testing.assert_allclose(points.teacher[b].numpy(), expected, rtol=1e-12)
        # The student by least squares onto the teacher.
        x = student[b, 0].numpy().ravel()
        line = np.polyfit(x, d.ravel(), 1)
        z = 1 / np.maximum(np.polyval(line, x) + 0.5, 0.25)
        np.testing.assert_allclose(points.student[b, 2].numpy(), z, rtol=1e-9)


def test_position_maps_keep_to_so_many_points_and_to_what_counts():
    student, teacher, mask = maps(height=40, width=60)
    points = position_maps(student, teacher, mask, K, 150, 0.5)
    assert 50 <= points.mask.shape[1] <= 150
    for cloud in (points.student, points.teacher):
        assert cloud.isfinite().all()
        assert not cloud.masked_select(~points.mask[:, None]).any()


@pytest.mark.parametrize('compared', ['whole', 'points', 'both'])
def test_geometric_is_the_squared_difference_of_pointnets_features(compared):
    torch.manual_seed(0)
    net = PointNet(8, 16).double()
    points = position_maps(*maps(), K, 48, 0.5)
    with torch.no_grad():
        a, b = net(points.student), net(points.teacher)
    expected = 0.0
    if compared != 'points':
        expected += float(((a.whole - b.whole) ** 2).mean())
    if compared != 'whole':
        errors = ((a.points - b.points) ** 2).mean(1)
        expected += np.mean([float(e[m].mean()) for e, m in zip(errors, points.mask, strict=True)])
    assert geometric(points, net, compared).item() == pytest.approx(expected, rel=1e-12)


def test_geometric_is_zero_for_the_teacher_itself_and_sees_more_than_the_order_of_depths():
    torch.manual_seed(0)
    net = PointNet(8, 16).double()
    _, teacher, mask = maps()
    same = geometric(position_maps(4 * teacher + 1, teacher, mask, K, 48, 0.5), net)
    bent = geometric(position_maps(teacher**2, teacher, mask, K, 48, 0.5), net)
    assert same.item() < 1e-20 < bent.item()


def test_pointnet_does_not_mind_the_order_of_points_and_its_transforms_begin_as_the_identity():
    torch.manual_seed(0)
    net, points = PointNet(8, 16), torch.randn(2, 3, 30)
    order = torch.randperm(30)
    torch.testing.assert_close(net(points[..., order]).whole, net(points).whole)
    plain = PointNet(8, 16, transforms=False)
    plain.load_state_dict(net.state_dict(), strict=False)
    torch.testing.assert_close(plain(points).whole, net(points).whole)


# Contexts


@pytest.mark.parametrize(
    ('size', 'grid', 'overlap'),
    [((40, 60), (2, 2), 0.5), ((41, 63), (3, 2), 0.25), ((9, 9), (1, 1), 0)],
)
def test_windows_cover_the_image_and_share_what_was_asked_for(size, grid, overlap):
    windows = overlapping_windows(*size, *grid, overlap)
    seen = np.zeros(size, int)
    for window in windows:
        part = seen[window.slices]
        assert part.shape == (window.height, window.width)
        part += 1
    assert len(windows) == grid[0] * grid[1] and seen.min() >= 1
    if grid == (2, 2):
        shared = windows[0].top + windows[0].height - windows[2].top
        assert shared / windows[0].height == pytest.approx(overlap, abs=0.05)


@pytest.mark.parametrize('kind', KINDS)
def test_local_global_compares_the_students_windows_with_the_teachers_patches(kind):
    student, _, mask = maps(0, 12, 16)
    windows = overlapping_windows(12, 16, 2, 2, 0.5)
    rng = np.random.default_rng(5)
    patches = [torch.tensor(rng.random((2, 1, w.height, w.width))) for w in windows]
    config = NormalizationConfig(kind)
    expected = np.mean(
        [
            distance(student[(..., *w.slices)], p, mask[(..., *w.slices)], config).item()
            for w, p in zip(windows, patches, strict=True)
        ]
    )
    found = local_global(student, patches, windows, mask, config)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_local_global_takes_patches_of_any_size_and_one_for_each_window():
    student, _, mask = maps(0, 12, 16)
    windows = overlapping_windows(12, 16, 1, 2, 0.5)
    smooth = [torch.linspace(0, 1, n, dtype=torch.float64).expand(2, 1, 5, n) for n in (30, 7)]
    assert local_global(student, smooth, windows, mask, NormalizationConfig()).isfinite()
    with pytest.raises(ValueError, match='a patch a window, got 1 and 2'):
        local_global(student, smooth[:1], windows, mask, NormalizationConfig())


@pytest.mark.parametrize('kind', ['global', 'none'])
def test_shared_context_is_the_distance_of_what_both_saw(kind):
    student, teacher, mask = maps()
    config = NormalizationConfig(kind)
    expected = np.mean([by_definition(s, t, kind) for s, t in each(student, teacher, mask)])
    assert shared_context(student, teacher, mask, config).item() == pytest.approx(expected)


# Features and gradients


def test_feature_loss_compares_the_projected_features_at_the_students_size():
    rng = np.random.default_rng(0)
    student, teacher = (
        torch.tensor(rng.random((2, 3, 4, 5))),
        torch.tensor(rng.random((2, 6, 4, 5))),
    )
    project = nn.Conv2d(3, 6, 1).double()
    mixed = np.einsum('oi,bihw->bohw', project.weight.detach().numpy()[..., 0, 0], student.numpy())
    mixed = mixed + project.bias.detach().numpy()[:, None, None]
    wanted = teacher.numpy()
    expected = ((mixed - wanted) ** 2).mean()
    assert feature(student, teacher, project).item() == pytest.approx(expected, rel=1e-12)
    length = np.linalg.norm(mixed, axis=1) * np.linalg.norm(wanted, axis=1)
    cosine = (mixed * wanted).sum(1) / length
    found = feature(student, teacher, project, 'cosine')
    assert found.item() == pytest.approx(1 - cosine.mean(), rel=1e-9)


def test_gradient_loss_sums_differences_of_neighbours_at_all_sizes():
    student, teacher, mask = maps(share=1.0)
    expected = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        rest = (by_median(s.ravel()) - by_median(t.ravel())).reshape(6, 8)
        total = 0.0
        for step in (1, 2):
            small = rest[::step, ::step]
            total += np.abs(np.diff(small, axis=0)).sum() + np.abs(np.diff(small, axis=1)).sum()
        expected.append(total / rest.size)
    found = gradient(student, teacher, mask, NormalizationConfig(), scales=2)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-12)


# Gradients of all of them


def terms():
    torch.manual_seed(0)
    net = PointNet(6, 8).double()
    windows = overlapping_windows(6, 8, 2, 2, 0.5)

    def patches(teacher):
        return [teacher[(..., *w.slices)] for w in windows]

    configs = {kind: NormalizationConfig(kind, (1, 2)) for kind in KINDS}
    return {
        'channel_wise': lambda s, t, m: channel_wise(s, t, m, 2.0),
        'squared': squared,
        'geometric': lambda s, t, m: geometric(position_maps(s, t, m, K, 48, 0.5), net, 'both'),
        **{
            f'shared_{kind}': lambda s, t, m, c=c: shared_context(s, t, m, c)
            for kind, c in configs.items()
        },
        'local_global': lambda s, t, m: local_global(s, patches(t), windows, m, configs['global']),
        'gradient': lambda s, t, m: gradient(s, t, m, configs['global']),
    }


@pytest.mark.parametrize('name', terms())
def test_gradients_are_those_of_finite_differences(name):
    student, teacher, mask = maps(7)
    term = terms()[name]
    assert torch.autograd.gradcheck(
        lambda s: term(s, teacher, mask), student.requires_grad_(), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize('name', terms())
def test_what_does_not_count_changes_nothing_and_nothing_at_all_is_zero(name):
    student, teacher, mask = maps(7)
    term = terms()[name]
    other = torch.where(mask, student, torch.full_like(student, torch.nan))
    torch.testing.assert_close(term(other, teacher, mask), term(student, teacher, mask))
    assert not term(student, teacher, torch.zeros_like(mask)).any()

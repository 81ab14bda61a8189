"""Training losses: hand-computed cases, minima against a numerical optimizer, gradients."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from dmd3c_ros.core.networks.base import NetworkOutput
from training.losses import (
    RECIPES,
    DepthLoss,
    LossConfig,
    align,
    fit_least_absolute,
    fit_least_squares,
    fit_median,
    gradient_matching,
    in_domain,
    masked_l1,
    multi_scale_mse,
    random_patch_loss,
    scale_shift_invariant_loss,
)

ALIGNMENTS = ('least_absolute', 'least_squares', 'median')


def images(*rows, dtype=torch.float64):
    return torch.tensor(rows, dtype=dtype)[:, None]


def random_pair(seed, shape=(2, 1, 5, 6), share=0.7):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(shape, generator=generator, dtype=torch.float64) * 20 + 1
    teacher = torch.rand(shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(shape, generator=generator) < share
    return prediction, teacher, mask


# L_sup, Eq. 2


def test_masked_l1_averages_each_image_then_the_batch():
    prediction = images([[1.0, 2.0]], [[5.0, 9.0]])
    target = images([[2.0, 5.0]], [[4.0, 0.0]])
    assert masked_l1(prediction, target, target > 0).item() == pytest.approx((2.0 + 1.0) / 2)


def test_masked_l1_ignores_images_and_values_outside_the_mask():
    prediction = images([[1.0, 2.0]], [[5.0, 9.0]]).requires_grad_()
    target = images([[3.0, float('nan')]], [[float('nan'), float('inf')]])
    loss = masked_l1(prediction, target, images([[1, 0]], [[0, 0]]).bool())
    loss.backward()
    assert loss.item() == pytest.approx(2.0)
    np.testing.assert_array_equal(prediction.grad.flatten(), [-1, 0, 0, 0])


# L_SSI, Eq. 7


def numerical_minimum(p, t, power):
    """Smallest mean |p - s t - b|^power, found without any code under test."""
    if power == 1:
        # Linear program: minimize the sum of e >= |p - s t - b|.
        n = len(p)
        lines = np.stack([t, np.ones(n)], 1)
        upper = np.block([[-lines, -np.eye(n)], [lines, -np.eye(n)]])
        result = linprog(
            np.r_[0, 0, np.ones(n) / n],
            A_ub=upper,
            b_ub=np.r_[-p, p],
            bounds=[(None, None)] * 2 + [(0, None)] * n,
        )
    else:
        result = minimize(
            lambda line: np.mean((p - line[0] * t - line[1]) ** 2), [0.0, 0.0], tol=1e-14
        )
    return result.fun


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize(('alignment', 'power'), [('least_absolute', 1), ('least_squares', 2)])
def test_ssi_loss_is_the_minimum_over_scale_and_shift(alignment, power, seed):
    prediction, teacher, mask = random_pair(seed)
    if seed % 2:  # a teacher of few grey levels puts many points on one line
        prediction, teacher = prediction.round(), (teacher * 4).round() / 4
    expected = [
        numerical_minimum(p[m].numpy(), t[m].numpy(), power)
        for p, t, m in zip(prediction, teacher, mask, strict=True)
    ]
    loss = scale_shift_invariant_loss(prediction, teacher, mask, alignment)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize('seed', range(20))
def test_least_absolute_fit_beats_every_line_through_two_points(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 9).astype(float), rng.integers(0, 6, 9).astype(float)
    best = min(
        np.abs(y - (y[i] + (y[j] - y[i]) / (x[j] - x[i]) * (x - x[i]))).sum()
        for i, j in itertools.permutations(range(9), 2)
        if x[i] != x[j]
    )
    scale, shift = fit_least_absolute(
        torch.tensor(x)[None], torch.tensor(y)[None], torch.ones(1, 9, dtype=torch.bool)
    )
    assert np.abs(y - scale.item() * x - shift.item()).sum() == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize('grey_levels', [0, 5, 256])
def test_least_absolute_fit_of_many_points_is_the_minimum(grey_levels):
    rng = np.random.default_rng(grey_levels)
    x = rng.random((2, 9000))
    y = 3 * x + rng.standard_t(2, x.shape) + 50 * (x > 0.8)
    if grey_levels:
        x, y = np.round(x * grey_levels) / grey_levels, np.round(y)
    mask = rng.random(x.shape) < 0.8
    fit = fit_least_absolute(torch.tensor(x), torch.tensor(y), torch.tensor(mask))
    for i, (scale, shift) in enumerate(zip(*(v.tolist() for v in fit), strict=True)):
        xi, yi = x[i, mask[i]], y[i, mask[i]]

        def cost(line, xi=xi, yi=yi):
            return np.abs(yi - line[0] * xi - line[1]).sum()

        best = minimize(cost, [3.0, 0.0], method='Nelder-Mead', options={'xatol': 1e-10}).fun
        near = [cost((scale + ds, shift + db)) for ds in (-1e-5, 1e-5) for db in (-1e-5, 0, 1e-5)]
        assert cost((scale, shift)) <= min(best, *near) + 1e-7


def test_least_absolute_fit_ignores_outliers_that_bend_least_squares():
    x = torch.arange(10.0)[None]
    y = 3 * x + 2
    y[0, 9] = 1000.0
    mask = torch.ones_like(x, dtype=torch.bool)
    scale, shift = fit_least_absolute(x, y, mask)
    assert (scale.item(), shift.item()) == (pytest.approx(3.0), pytest.approx(2.0))
    assert fit_least_squares(x, y, mask)[0].item() > 10


def test_median_fit_by_hand():
    x = torch.tensor([[0.0, 1.0, 2.0, 4.0, 9.0]])  # median 2, deviations 2 1 0 2 7: median 2
    y = torch.tensor([[10.0, 16.0, 20.0, 21.0, 99.0]])  # median 20, deviations 10 4 0 1 79: 4
    scale, shift = fit_median(x, y, torch.ones_like(x, dtype=torch.bool))
    assert (scale.item(), shift.item()) == (2.0, 16.0)


@pytest.mark.parametrize('alignment', ALIGNMENTS)
def test_ssi_loss_does_not_see_scale_and_shift_of_the_teacher(alignment):
    prediction, teacher, mask = random_pair(3)
    loss = scale_shift_invariant_loss(prediction, teacher, mask, alignment)
    moved = scale_shift_invariant_loss(prediction, 7 * teacher - 3, mask, alignment)
    exact = scale_shift_invariant_loss(2.5 * teacher + 4, teacher, mask, alignment)
    assert loss.item() > 0.1
    assert moved.item() == pytest.approx(loss.item())
    assert exact.item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize('alignment', ALIGNMENTS)
def test_each_image_has_its_own_scale_and_shift(alignment):
    _, teacher, mask = random_pair(1)
    prediction = torch.stack([2 * teacher[0] + 1, 9 * teacher[1] + 30])
    aligned = align(teacher, prediction, mask, alignment)
    torch.testing.assert_close(aligned, prediction)


@pytest.mark.parametrize('direction', ['teacher', 'prediction'])
@pytest.mark.parametrize('alignment', ALIGNMENTS)
def test_ssi_gradient_matches_finite_differences(alignment, direction):
    prediction, teacher, mask = random_pair(5, (2, 1, 4, 5))

    def loss(p):
        return scale_shift_invariant_loss(p, teacher, mask, alignment, direction)

    assert torch.autograd.gradcheck(loss, prediction.requires_grad_(), atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('direction', ['teacher', 'prediction'])
@pytest.mark.parametrize('alignment', ALIGNMENTS)
@pytest.mark.parametrize('constant', ['prediction', 'teacher', 'both'])
def test_constant_images_give_finite_losses_and_gradients(alignment, direction, dtype, constant):
    prediction, teacher, mask = random_pair(2)
    if constant != 'teacher':
        prediction = torch.full_like(prediction, 13.7)
    if constant != 'prediction':
        teacher = torch.full_like(teacher, 0.31)
    prediction = prediction.to(dtype).requires_grad_()
    loss = scale_shift_invariant_loss(prediction, teacher.to(dtype), mask, alignment, direction)
    loss.backward()
    assert loss.isfinite() and prediction.grad.isfinite().all()
    moved_is_constant = constant in (direction, 'both')
    target_varies = constant != 'both'
    assert (loss.item() > 1e-3) == (moved_is_constant and target_varies)


@pytest.mark.parametrize('alignment', ALIGNMENTS)
def test_masks_keep_nan_out_of_loss_and_gradient(alignment):
    prediction, teacher, mask = random_pair(4)
    mask[1] = False
    expected = scale_shift_invariant_loss(prediction[:1], teacher[:1], mask[:1], alignment)
    teacher = teacher.where(mask, torch.tensor(float('nan'), dtype=torch.float64))
    prediction.requires_grad_()
    loss = scale_shift_invariant_loss(prediction, teacher, mask, alignment)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item())
    assert prediction.grad.isfinite().all()
    assert not prediction.grad[~mask].any()


@pytest.mark.parametrize('alignment', ALIGNMENTS)
def test_empty_mask_gives_zero(alignment):
    prediction, teacher, mask = random_pair(4)
    prediction.requires_grad_()
    loss = scale_shift_invariant_loss(prediction, teacher, mask & False, alignment)
    loss.backward()
    assert loss.item() == 0.0
    assert not prediction.grad.any()


def test_paper_direction_allows_a_constant_and_the_other_one_does_not():
    teacher = images([[0.1, 0.5, 0.9, 0.3]])
    constant, mask = torch.full_like(teacher, 5.0), torch.ones_like(teacher, dtype=torch.bool)
    assert scale_shift_invariant_loss(constant, teacher, mask).item() == 0.0
    back = scale_shift_invariant_loss(constant, teacher, mask, direction='prediction')
    assert back.item() == pytest.approx((0.2 + 0.2 + 0.6) / 4)


def test_domains_compare_depth_or_inverse_depth():
    depth, disparity = images([[2.0, 4.0]]), images([[1.0, 0.0]])
    p, t = in_domain(depth, disparity, 'depth')
    np.testing.assert_allclose(t.flatten(), [1 / 1.5, 2.0])
    assert p is depth
    p, t = in_domain(depth, disparity, 'inverse')
    np.testing.assert_allclose(p.flatten(), [0.5, 0.25])
    assert t is disparity


# L_reg, Eq. 8


def test_gradient_matching_by_hand_over_two_scales():
    residual = images([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    mask = torch.ones_like(residual, dtype=torch.bool)
    # Full size: 1 + 2 along rows, (0 1 3) + (5 5 5) along columns.
    # Half size, [[0, 3], [5, 5]]: 3 along rows, 5 + 2 along columns.
    assert gradient_matching(residual, mask, 1).item() == pytest.approx((3 + 19) / 9)
    assert gradient_matching(residual, mask, 2).item() == pytest.approx((3 + 19 + 3 + 7) / 9)


def test_gradient_matching_needs_both_neighbours_marked():
    residual = images([[0.0, float('nan'), 3.0, 4.0]]).requires_grad_()
    loss = gradient_matching(residual, images([[1, 0, 1, 1]]).bool(), 2)
    loss.backward()
    # Full size: only |4 - 3|; half size, [0, 3]: |3 - 0|; three marked pixels.
    assert loss.item() == pytest.approx((1 + 3) / 3)
    assert residual.grad.isfinite().all()


@pytest.mark.parametrize('alignment', ALIGNMENTS)
def test_eq7_by_the_letter_falls_with_the_contrast_of_the_prediction(alignment):
    """Its minimum is any constant; the default neither gains nor loses by contrast."""
    depth, teacher, mask = random_pair(11)
    middle = depth.mean()

    def ssi(contrast, direction):
        flattened = middle + contrast * (depth - middle)
        return scale_shift_invariant_loss(flattened, teacher, mask, alignment, direction).item()

    squared = 2 if alignment == 'least_squares' else 1
    for contrast in (0.5, 0.1, 0.01):
        letter = contrast**squared * ssi(1, 'teacher')
        assert ssi(contrast, 'teacher') == pytest.approx(letter, rel=1e-6)
        assert ssi(contrast, 'prediction') == pytest.approx(ssi(1, 'prediction'), rel=1e-6)
    assert ssi(0, 'teacher') == 0
    if alignment != 'median':  # which minimizes nothing
        assert ssi(0, 'prediction') >= ssi(1, 'prediction') > 0


def test_gradient_matching_ignores_a_constant_and_small_images():
    flat = torch.full((2, 1, 3, 3), 7.0)
    assert gradient_matching(flat, flat > 0, 4).item() == 0.0
    assert gradient_matching(flat, flat < 0, 4).item() == 0.0


def test_gradient_matching_gradient_matches_finite_differences():
    residual, _, mask = random_pair(6, (2, 1, 9, 11))
    check = torch.autograd.gradcheck(
        lambda r: gradient_matching(r, mask), residual.requires_grad_(), atol=1e-6
    )
    assert check


# Released code


def test_multi_scale_mse_weights_levels_and_divides_by_all_pixels():
    target = images([[0.0, 2.0], [4.0, 0.0]])
    fine, coarse = target + 1, target + 2
    # Two of four pixels are measured: fine 2 * 1 / 4, coarse 2 * 4 / 4 with weight 1/4.
    assert multi_scale_mse([fine], target).item() == pytest.approx(0.5)
    assert multi_scale_mse([coarse, fine], target).item() == pytest.approx(0.5 + 0.25 * 2.0)


def test_pyramid_levels_are_compared_at_full_size():
    target = torch.arange(1.0, 5.0).expand(1, 1, 4, 4).contiguous()
    small = torch.tensor([1.0, 4.0]).expand(1, 1, 2, 2)
    assert multi_scale_mse([small], target).item() == pytest.approx(0.0, abs=1e-10)


def test_random_patches_do_not_see_scale_and_shift_of_a_window():
    generator = torch.Generator().manual_seed(0)
    _, teacher, _ = random_pair(0, (1, 1, 40, 48))
    same = random_patch_loss([3 * teacher + 2], teacher, generator=generator)
    other = random_patch_loss([teacher.flip(-1)], teacher, generator=generator)
    assert same.item() < 1e-3 < 0.5 < other.item()


def test_a_single_whole_window_is_the_normalized_difference():
    prediction, teacher = images([[1.0, 2.0, 3.0, 6.0, 9.0]]), images([[0.0, 1.0, 2.0, 3.0, 4.0]])
    # Medians 3 and 2, median deviations 2 and 1: [-1 -.5 0 1.5 3] against [-2 -1 0 1 2].
    loss = random_patch_loss([prediction], teacher, patches=1, ratios=(1.0, 1.0))
    assert loss.item() == pytest.approx((1 + 0.5 + 0 + 0.5 + 1) / 5, rel=1e-5)


def test_masked_pixels_stay_out_of_a_window():
    prediction = images([[1.0, 2.0, 3.0, 6.0, 9.0, 500.0]])
    teacher = images([[0.0, 1.0, 2.0, 3.0, 4.0, float('nan')]])
    loss = random_patch_loss([prediction], teacher, 1, (1.0, 1.0), mask=teacher.isfinite())
    assert loss.item() == pytest.approx((1 + 0.5 + 0 + 0.5 + 1) / 5, rel=1e-5)


def test_random_patches_weigh_levels_and_repeat_with_their_generator():
    prediction, teacher, _ = random_pair(7, (1, 1, 20, 30))

    def loss(pyramid, **settings):
        generator = torch.Generator().manual_seed(5)
        return random_patch_loss(pyramid, teacher, generator=generator, **settings).item()

    whole = {'ratios': (1.0, 1.0), 'patches': 2}
    assert loss([prediction]) == loss([prediction])
    assert loss([prediction, prediction], **whole) == pytest.approx(
        1.25 * loss([prediction], **whole)
    )


def test_windows_together_are_what_each_is_alone():
    """Against the definition, window by window, with values and gradients."""
    from training.losses.distillation import _normalized, _window

    prediction, teacher, mask = random_pair(3, (3, 1, 40, 60))
    mask[1] = False
    prediction.requires_grad_()
    generator = torch.Generator().manual_seed(4)
    loss = random_patch_loss([prediction], teacher, 19, (1 / 8, 1 / 2), generator, mask)
    [gradient] = torch.autograd.grad(loss, prediction)

    generator, expected = torch.Generator().manual_seed(4), 0
    for _ in range(19):
        window = (..., *_window((40, 60), (1 / 8, 1 / 2), generator))
        means = []
        for image in range(3):
            known = mask[image][window].flatten()[None]
            p, t = (
                _normalized(values[image][window].flatten()[None], known)
                for values in (prediction, teacher)
            )
            if known.any():
                means.append((p - t).abs()[known].mean())
        expected = expected + sum(means) / max(len(means), 1) / 19
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, prediction)[0])


def test_random_patch_windows_stay_inside_and_keep_the_shares(monkeypatch):
    from training.losses import distillation as module

    seen = []
    window = module._window
    monkeypatch.setattr(module, '_window', lambda *a: seen.append(window(*a)) or seen[-1])
    prediction, teacher, _ = random_pair(7, (1, 1, 32, 64))
    random_patch_loss([prediction], teacher, patches=200)
    heights = [rows.stop - rows.start for rows, _ in seen]
    assert all(rows.stop <= 32 and cols.stop <= 64 for rows, cols in seen)
    assert min(heights) >= 4 and max(heights) <= 16
    assert min(rows.start for rows, _ in seen) == 0
    assert max(rows.stop for rows, _ in seen) == 32


def test_random_patch_gradient_matches_finite_differences():
    prediction, teacher, _ = random_pair(8, (1, 1, 12, 12))

    def loss(p):
        generator = torch.Generator().manual_seed(1)
        return random_patch_loss([p], teacher, 4, (0.4, 0.6), generator)

    assert torch.autograd.gradcheck(loss, prediction.requires_grad_(), atol=1e-5)


# Recipes


@pytest.mark.parametrize(('recipe', 'moved'), [('ssi', 'prediction'), ('eq7', 'teacher')])
def test_recipes_of_the_paper_sum_their_weighted_terms(recipe, moved):
    depth, disparity, mask = random_pair(9)
    target = depth.where(mask, torch.zeros((), dtype=torch.float64)) * 1.1
    loss, terms = DepthLoss(RECIPES[recipe])(NetworkOutput(depth), target, disparity)
    everywhere = torch.ones_like(mask)
    assert set(terms) == {'supervised', 'ssi', 'gradient'}
    assert terms['supervised'] == masked_l1(depth, target, mask)
    teacher = 1 / (disparity + 0.5)
    assert terms['ssi'] == scale_shift_invariant_loss(depth, teacher, everywhere, direction=moved)
    assert loss.item() == pytest.approx(
        (terms['supervised'] + terms['ssi'] + 0.5 * terms['gradient']).item()
    )


def test_earlier_predictions_are_supervised_with_less_weight_a_step_back():
    target = images([[0.0, 2.0], [4.0, 0.0]])
    pyramid = (target + 3, target + 2, target + 1)
    output = NetworkOutput(pyramid[-1], None, pyramid)
    assert DepthLoss(LossConfig())(output, target).total.item() == pytest.approx(1)
    loss = DepthLoss(LossConfig(earlier=0.5))(output, target).total
    assert loss.item() == pytest.approx(1 + 0.5 * 2 + 0.25 * 3)


def test_recipes_of_the_networks_authors():
    """L1 and squared error of every update of LRRU; CompletionFormer's L1 clamped at 90 m."""
    target = images([[0.0, 2.0], [4.0, 0.0]])
    pyramid = (target + 3, target + 2, target + 1)
    output = NetworkOutput(pyramid[-1], None, pyramid)
    lrru, terms = DepthLoss(RECIPES['lrru'])(output, target)
    assert terms['supervised'].item() == pytest.approx(1 + 0.8 * 2 + 0.64 * 3)
    assert terms['squared'].item() == pytest.approx(1 + 0.8 * 4 + 0.64 * 9)
    assert lrru.item() == pytest.approx(sum(term.item() for term in terms.values()))
    far = images([[0.0, 80.0], [100.0, 0.0]])
    former = DepthLoss(RECIPES['completionformer'])
    assert former(NetworkOutput(far + 30), far).total.item() == pytest.approx((10 + 0) / 2)


def test_released_recipe_uses_every_level_of_the_pyramid():
    depth, disparity, _ = random_pair(9, (1, 1, 32, 32))
    pyramid = tuple(depth + 6 - level for level in range(1, 7))
    output = NetworkOutput(depth, None, pyramid)
    generator = torch.Generator().manual_seed(3)
    loss, terms = DepthLoss(RECIPES['released'], generator)(output, depth, disparity)
    # Level i is off by 6 - i and has weight 4^-(6-i).
    expected = sum((6 - i) ** 2 * 4.0 ** (i - 6) for i in range(1, 7))
    assert terms['multi_scale_mse'].item() == pytest.approx(expected)
    assert loss.item() == pytest.approx(sum(t.item() for t in terms.values()))


@pytest.mark.parametrize(
    'weights', [{'ssi': 1.0, 'gradient': 1.0}, {'random_patch': 1.0, 'patch_ratio_max': 1.0}]
)
def test_unknown_teacher_pixels_do_not_enter(weights):
    depth, disparity, mask = random_pair(9)
    config = LossConfig(supervised=0.0, **weights)
    holes = disparity.where(mask, torch.tensor(float('nan'), dtype=torch.float64))
    depth.requires_grad_()
    loss, _ = DepthLoss(config)(NetworkOutput(depth), depth.detach(), holes)
    loss.backward()
    assert depth.grad.isfinite().all()
    assert not depth.grad[~mask].any()


def test_only_inverse_depth_lets_the_truth_rest_where_the_teacher_is_right():
    """A teacher that is exact up to scale and shift of inverse depth, as Depth Anything means."""
    generator = torch.Generator().manual_seed(0)
    depth = 3 + 60 * torch.rand(2, 1, 24, 32, generator=generator, dtype=torch.float64)
    disparity = 0.1 + 2.5 / depth
    terms = {
        name: DepthLoss(RECIPES[name])(NetworkOutput(depth), depth, disparity).terms
        for name in ('eq7', 'inverse')
    }
    assert terms['inverse']['ssi'] < 1e-9 and terms['inverse']['gradient'] < 1e-9
    assert terms['eq7']['ssi'] > 1


def test_recipe_without_teacher_does_not_ask_for_one_and_others_do():
    depth = torch.ones(1, 1, 4, 4)
    assert DepthLoss(RECIPES['l1'])(NetworkOutput(depth), depth).total.item() == 0.0
    with pytest.raises(ValueError, match='needs monocular depth'):
        DepthLoss(RECIPES['ssi'])(NetworkOutput(depth), depth)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: LossConfig(alignment='mean'), "alignment: expected one of .* got 'mean'"),
        (lambda: LossConfig(domain='log'), "domain: expected one of .* got 'log'"),
        (lambda: LossConfig(direction='both'), "direction: expected one of .* got 'both'"),
        (lambda: LossConfig(supervised=0.0), 'one above 0'),
        (lambda: LossConfig(ssi=-1.0), '>= 0'),
        (lambda: LossConfig(earlier=-1.0), 'earlier: expected at least 0'),
        (lambda: multi_scale_mse([], torch.ones(1, 1, 2, 2)), 'at least one prediction'),
        (lambda: masked_l1(*[torch.ones(1, 1, 2, 2)] * 2, torch.ones(1, 2, 2)), 'one shape'),
        (lambda: gradient_matching(*[torch.ones(1, 1, 2, 2)] * 2, scales=0), 'at least 1'),
        (
            lambda: random_patch_loss(
                [torch.ones(1, 1, 2, 2)], torch.ones(1, 1, 2, 2), 1, (0.5, 0.2)
            ),
            'fraction',
        ),
    ],
)
def test_wrong_settings_name_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()

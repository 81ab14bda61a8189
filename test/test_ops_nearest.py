"""The nearest-valid search agrees with its definition, ties and scarcity included."""

import time

import numpy as np
import pytest
import torch

from dmd3c_ros.core.ops.nearest import nearest_valid


def by_definition(valid: np.ndarray, count: int) -> np.ndarray:
    """Sort all valid pixels of one (H, W) mask for each pixel: by distance, then later first."""
    height, width = valid.shape
    points = [(row, column) for row in range(height) for column in range(width)]
    known = [index for index, point in enumerate(points) if valid[point]]
    found = np.empty((count, height, width), np.int64)
    for index, (row, column) in enumerate(points):

        def rank(candidate: int, row: int = row, column: int = column) -> tuple[int, int]:
            r, c = divmod(candidate, width)
            return (r - row) ** 2 + (c - column) ** 2, -candidate

        best = sorted(known, key=rank)[:count] or [index]
        best += best[-1:] * (count - len(best))
        found[:, row, column] = best
    return found


def mask_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[cell == 'x' for cell in row] for row in rows])[None, None]


@pytest.mark.parametrize('density', [0.03, 0.3, 1.0])
@pytest.mark.parametrize('shape', [(9, 13), (1, 20), (20, 1)])
def test_agrees_with_the_definition(density: float, shape: tuple[int, int]) -> None:
    # Whole coordinates make ties the rule: at density 1 every pixel has four at distance 1.
    valid = np.random.default_rng(7).random(shape) < density
    found = nearest_valid(torch.from_numpy(valid)[None, None])
    np.testing.assert_array_equal(found[0].numpy(), by_definition(valid, 4))


@pytest.mark.parametrize('count', [1, 2, 5])
def test_any_number_of_neighbours_can_be_asked_for(count: int) -> None:
    valid = np.random.default_rng(8).random((6, 11)) < 0.4
    found = nearest_valid(torch.from_numpy(valid)[None, None], count)
    np.testing.assert_array_equal(found[0].numpy(), by_definition(valid, count))


def test_of_equally_near_pixels_the_later_in_raster_order_comes_first() -> None:
    valid = mask_of('.x.', 'x.x', '.x.')
    assert nearest_valid(valid)[0, :, 1, 1].tolist() == [7, 5, 3, 1]


def test_ties_are_settled_far_from_the_origin_of_a_large_image() -> None:
    # The tie-breaking coordinate must survive rounding beside large squared distances.
    valid = torch.zeros(1, 1, 352, 1216, dtype=torch.bool)
    valid[0, 0, :, ::1215] = True
    near = nearest_valid(valid, 2)[0, :, 100]
    left, right = 100 * 1216, 100 * 1216 + 1215
    assert near[0, 607] == left and near[0, 608] == right
    assert near[1, 300].tolist() == left + 1216  # rows 99 and 101 tie, the later wins


def test_with_fewer_valid_pixels_the_farthest_is_repeated() -> None:
    valid = mask_of('x....', '.....', '....x')
    near = nearest_valid(valid)
    assert near[0, :, 0, 1].tolist() == [0, 14, 14, 14]
    assert near[0, :, 2, 3].tolist() == [14, 0, 0, 0]


def test_without_valid_pixels_each_is_its_own_neighbour() -> None:
    near = nearest_valid(torch.zeros(1, 1, 3, 4, dtype=torch.bool))
    assert torch.equal(near, torch.arange(12).view(1, 1, 3, 4).expand(1, 4, 3, 4))


def test_images_of_a_batch_do_not_mix() -> None:
    valid = torch.rand(3, 1, 12, 17, generator=torch.Generator().manual_seed(0)) < 0.1
    valid[1] = False
    together = nearest_valid(valid)
    for image in range(3):
        assert torch.equal(together[image : image + 1], nearest_valid(valid[image : image + 1]))


@pytest.mark.parametrize(
    'valid',
    [torch.ones(1, 1, 4, 4), torch.ones(4, 4, dtype=torch.bool), torch.ones(1, 2, 4, 4) > 0],
)
def test_other_shapes_and_types_are_refused(valid: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r'expected a bool tensor of shape \(B, 1, H, W\)'):
        nearest_valid(valid)


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match='count: expected at least 1'):
        nearest_valid(torch.ones(1, 1, 4, 4, dtype=torch.bool), 0)


def test_is_one_operator_to_the_compiler() -> None:
    valid = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    torch.library.opcheck(
        torch.ops.dmd3c.nearest_valid.default,
        (valid, 4),
        test_utils=('test_schema', 'test_faketensor'),
    )


def test_a_kitti_frame_is_searched_at_sensor_rate() -> None:
    # 352 x 1216 with 20,000 points takes 0.15 s on two cores; the bound leaves room for a busy
    # machine and still rules out any search that is not by a tree (a brute one takes minutes).
    generator = np.random.default_rng(3)
    valid = torch.zeros(352 * 1216, dtype=torch.bool)
    valid[torch.from_numpy(generator.choice(valid.numel(), 20_000, replace=False))] = True
    valid = valid.view(1, 1, 352, 1216)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        near = nearest_valid(valid)
        seconds.append(time.process_time() - start)
    assert valid.flatten()[near.flatten()].all()
    assert min(seconds) < 2.0

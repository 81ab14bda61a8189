"""Matrices and quaternions, each against its definition rather than against its inverse."""

import math

import numpy as np
import pytest
import tf_transformations as tf

RNG = np.random.default_rng(7)


def turn(axis, angle):
    """3x3 rotation about a coordinate axis, written out."""
    c, s = math.cos(angle), math.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.identity(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def random_axis():
    return tf.unit_vector(RNG.normal(size=3))


def test_quaternions_are_ordered_x_y_z_w():
    half = math.sqrt(0.5)
    np.testing.assert_allclose(
        tf.quaternion_about_axis(math.pi / 2, (0, 0, 1)), (0, 0, half, half)
    )
    np.testing.assert_allclose(tf.quaternion_from_euler(math.pi / 2, 0, 0), (half, 0, 0, half))
    np.testing.assert_allclose(tf.euler_from_quaternion((0, half, 0, half)), (0, math.pi / 2, 0))


def test_euler_angles_turn_about_fixed_or_moving_axes():
    roll, pitch, yaw = 0.3, -0.5, 1.2
    fixed = turn(2, yaw) @ turn(1, pitch) @ turn(0, roll)
    np.testing.assert_allclose(tf.euler_matrix(roll, pitch, yaw)[:3, :3], fixed, atol=1e-12)
    moving = tf.euler_matrix(yaw, pitch, roll, 'rzyx')[:3, :3]
    np.testing.assert_allclose(moving, fixed, atol=1e-12)
    np.testing.assert_allclose(tf.euler_from_matrix(fixed), (roll, pitch, yaw))


@pytest.mark.parametrize('axes', sorted(tf._AXES2TUPLE))
def test_every_axis_sequence_survives_the_way_through_a_quaternion(axes):
    quaternion = tf.quaternion_from_euler(0.4, 0.7, -1.1, axes)
    np.testing.assert_allclose(
        tf.quaternion_matrix(quaternion), tf.euler_matrix(0.4, 0.7, -1.1, axes), atol=1e-12
    )
    # Several triplets of angles can name one rotation.
    again = tf.euler_matrix(*tf.euler_from_quaternion(quaternion, axes), axes)
    np.testing.assert_allclose(again, tf.quaternion_matrix(quaternion), atol=1e-12)


def test_quaternion_product_and_inverse_follow_the_matrices():
    a, b = tf.random_quaternion(), tf.random_quaternion()
    product = tf.quaternion_matrix(tf.quaternion_multiply(a, b))
    np.testing.assert_allclose(product, tf.quaternion_matrix(a) @ tf.quaternion_matrix(b))
    np.testing.assert_allclose(
        tf.quaternion_multiply(3.0 * a, tf.quaternion_inverse(3.0 * a)), (0, 0, 0, 1), atol=1e-12
    )
    np.testing.assert_allclose(
        tf.quaternion_matrix(tf.quaternion_conjugate(a)), tf.quaternion_matrix(a).T
    )


def test_quaternion_of_a_scaled_matrix_is_that_of_its_rotation():
    rotation = tf.rotation_matrix(0.8, (1, 2, 3))
    scaled = tf.concatenate_matrices(rotation, np.diag([2.0, 2.0, 2.0, 1.0]))
    np.testing.assert_allclose(
        tf.quaternion_from_matrix(scaled), tf.quaternion_about_axis(0.8, (1, 2, 3))
    )


@pytest.mark.parametrize('fraction', [0.0, 0.25, 0.5, 1.0])
def test_slerp_moves_at_constant_speed_along_the_shorter_arc(fraction):
    axis = random_axis()
    start, end = tf.quaternion_about_axis(0.1, axis), tf.quaternion_about_axis(1.3, axis)
    expected = np.array(tf.quaternion_about_axis(0.1 + fraction * 1.2, axis))
    np.testing.assert_allclose(tf.quaternion_slerp(start, end, fraction), expected)
    other_sign = tf.quaternion_slerp(start, -np.array(end), fraction)
    np.testing.assert_allclose(abs(np.dot(other_sign, expected)), 1.0)


def test_slerp_of_equal_quaternions_stays():
    quaternion = tf.random_quaternion()
    np.testing.assert_allclose(tf.quaternion_slerp(quaternion, quaternion, 0.3), quaternion)


def test_random_rotations_are_rotations_and_cover_the_sphere():
    matrices = np.array([tf.random_rotation_matrix(RNG.random(3)) for _ in range(500)])
    products = matrices @ matrices.transpose(0, 2, 1)
    np.testing.assert_allclose(products, [np.identity(4)] * 500, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0)
    assert np.abs(matrices[:, :3, 0].mean(axis=0)).max() < 0.1


def test_rotation_leaves_its_axis_in_place():
    point, axis = RNG.normal(size=3), random_axis()
    matrix = tf.rotation_matrix(0.9, axis, point)
    np.testing.assert_allclose(matrix @ [*(point + 2.0 * axis), 1.0], [*(point + 2.0 * axis), 1.0])
    angle, found, through = tf.rotation_from_matrix(matrix)
    assert tf.is_same_transform(tf.rotation_matrix(angle, found, through), matrix)


def test_reflection_turns_the_normal_and_keeps_the_plane():
    point, normal = RNG.normal(size=3), random_axis()
    matrix = tf.reflection_matrix(point, normal)
    np.testing.assert_allclose(matrix @ [*point, 1.0], [*point, 1.0])
    np.testing.assert_allclose(matrix @ [*(point + normal), 1.0], [*(point - normal), 1.0])
    assert tf.is_same_transform(tf.reflection_matrix(*tf.reflection_from_matrix(matrix)), matrix)


def test_scale_and_shear_come_back_from_their_matrices():
    origin, direction = RNG.normal(size=3), random_axis()
    scale = tf.scale_matrix(2.5, origin, direction)
    np.testing.assert_allclose(
        scale @ [*(origin + direction), 1.0], [*(origin + 2.5 * direction), 1.0]
    )
    assert tf.is_same_transform(tf.scale_matrix(*tf.scale_from_matrix(scale)), scale)
    normal = np.cross(direction, random_axis())
    shear = tf.shear_matrix(0.4, direction, origin, normal)
    assert tf.is_same_transform(tf.shear_matrix(*tf.shear_from_matrix(shear)), shear)


def test_a_transform_comes_apart_and_together():
    matrix = tf.compose_matrix((2, 3, 4), (0.1, 0.2, 0.3), (0.5, -0.4, 0.2), (1, 2, 3))
    scale, shear, angles, translation, perspective = tf.decompose_matrix(matrix)
    np.testing.assert_allclose(scale, (2, 3, 4))
    np.testing.assert_allclose(shear, (0.1, 0.2, 0.3))
    np.testing.assert_allclose(angles, (0.5, -0.4, 0.2))
    np.testing.assert_allclose(translation, (1, 2, 3))
    assert perspective is None
    np.testing.assert_allclose(tf.translation_from_matrix(matrix), (1, 2, 3))


@pytest.mark.parametrize('kind', ['orthogonal', 'oblique', 'central', 'pseudo'])
def test_projections_reach_the_plane_along_their_rays(kind):
    point, normal, third = RNG.normal(size=3), random_axis(), RNG.normal(size=3) + 5.0
    options = {
        'orthogonal': {},
        'oblique': {'direction': third},
        'central': {'perspective': third},
        'pseudo': {'perspective': third, 'pseudo': True},
    }[kind]
    matrix = tf.projection_matrix(point, normal, **options)
    x = RNG.normal(size=3)
    image = matrix @ [*x, 1.0]
    image = image[:3] / image[3]
    if kind == 'pseudo':
        image = (tf.projection_matrix(point, normal) @ [*image, 1.0])[:3]
    assert np.dot(image - point, normal) == pytest.approx(0.0, abs=1e-9)
    ray = {'orthogonal': normal, 'oblique': third}.get(kind, x - third)
    np.testing.assert_allclose(np.cross(image - x, ray), 0.0, atol=1e-9)
    again = tf.projection_matrix(*tf.projection_from_matrix(3.0 * matrix, kind == 'pseudo'))
    assert tf.is_same_transform(again, matrix)


def test_a_matrix_that_is_no_projection_is_refused():
    with pytest.raises(ValueError, match='not a projection'):
        tf.projection_from_matrix(np.diag([1.0, 2.0, 3.0, 1.0]))


@pytest.mark.parametrize('perspective', [False, True])
def test_clip_matrix_maps_the_near_corners_to_the_cube(perspective):
    matrix = tf.clip_matrix(-1, 3, -2, 1, 0.5, 9, perspective)
    for corner, expected in (((-1, -2, 0.5), (-1, -1, -1)), ((3, 1, 0.5), (1, 1, -1))):
        image = matrix @ [*corner, 1.0]
        np.testing.assert_allclose(image[:3] / image[3], expected)
    with pytest.raises(ValueError, match='invalid frustum'):
        tf.clip_matrix(1, -1, -2, 1, 0.5, 9, perspective)


def test_a_perspective_frustum_starts_before_the_eye():
    with pytest.raises(ValueError, match='near > 0'):
        tf.clip_matrix(-1, 1, -1, 1, 0.0, 9, perspective=True)


def test_cell_axes_have_the_given_lengths_and_angles():
    axes = tf.orthogonalization_matrix((9.8, 12.0, 15.5), (87.2, 80.7, 69.7))[:3, :3]
    np.testing.assert_allclose(np.linalg.norm(axes, axis=0), (9.8, 12.0, 15.5))
    for (i, j), angle in zip(((1, 2), (0, 2), (0, 1)), (87.2, 80.7, 69.7), strict=True):
        cosine = axes[:, i] @ axes[:, j] / np.prod(np.linalg.norm(axes[:, [i, j]], axis=0))
        assert math.degrees(math.acos(cosine)) == pytest.approx(angle)


@pytest.mark.parametrize('usesvd', [True, False])
def test_superimposition_finds_the_transform(usesvd):
    truth = tf.concatenate_matrices(
        tf.translation_matrix((1, -2, 3)), tf.random_rotation_matrix(), tf.scale_matrix(1.7)
    )
    v0 = np.vstack([RNG.normal(size=(3, 20)), np.ones(20)])
    found = tf.superimposition_matrix(v0, truth @ v0, scaling=True, usesvd=usesvd)
    np.testing.assert_allclose(found, truth, atol=1e-9)


def test_superimposition_of_mirrored_points_is_still_a_rotation():
    v0 = RNG.normal(size=(3, 10))
    matrix = tf.superimposition_matrix(v0, v0 * [[1], [1], [-1]])
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_vector_helpers_take_axis_and_out():
    data = RNG.normal(size=(5, 4, 3))
    lengths = np.empty((5, 3))
    assert tf.vector_norm(data, axis=1, out=lengths) is None
    np.testing.assert_allclose(lengths, np.linalg.norm(data, axis=1))
    units = np.empty_like(data)
    assert tf.unit_vector(data, axis=-1, out=units) is None
    np.testing.assert_allclose(np.linalg.norm(units, axis=-1), 1.0)
    assert tf.vector_norm([]) == 0.0 and list(tf.unit_vector([])) == []
    assert tf.random_vector(8).shape == (8,)


def test_arcball_turns_by_twice_the_drag_and_goes_on():
    ball = tf.Arcball()
    ball.place([0, 0], 100)
    ball.down([0, 0])
    ball.drag([100 * math.sin(0.2), 0])  # 0.2 rad to the right, about the window's up axis
    np.testing.assert_allclose(ball.matrix(), tf.rotation_matrix(0.4, (0, 1, 0)), atol=1e-12)
    ball.next()
    np.testing.assert_allclose(ball.matrix(), tf.rotation_matrix(0.8, (0, 1, 0)), atol=1e-12)


def test_arcball_keeps_to_the_nearest_axis_when_constrained():
    ball = tf.Arcball(initial=tf.identity_matrix())
    ball.place([0, 0], 100)
    ball.setaxes([1, 0, 0], [0, 1, 0])
    ball.setconstrain(True)
    assert ball.getconstrain()
    ball.down([30, 1])  # close to the great circle about y
    ball.drag([70, 55])
    _, axis, _ = tf.rotation_from_matrix(ball.matrix())
    np.testing.assert_allclose(np.abs(axis), (0, 1, 0), atol=1e-9)


def test_arcball_rim_is_as_far_as_it_goes():
    np.testing.assert_allclose(tf.arcball_map_to_sphere((500, 0), (0, 0), 100), (1, 0, 0))
    with pytest.raises(ValueError, match='quaternion or 4x4'):
        tf.Arcball(initial=[1, 2, 3])

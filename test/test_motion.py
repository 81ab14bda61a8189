"""Transforms over time, and sweeps moved by them."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from dmd3c_ros.core.deskew import deskew, move
from dmd3c_ros.core.motion import interpolate, invert
from dmd3c_ros.core.transform_buffer import TransformBuffer, TransformError
from dmd3c_ros.core.transforms import quaternion_from_rotation, rotation_from_euler, transform
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.point_times import point_times
from dmd3c_ros.messages.stamps import shift_stamp, stamp_ns_of
from dmd3c_ros.messages.types import Header, PointCloud2, PointField, Time
from dmd3c_ros.pipeline.settings import MotionSettings
from dmd3c_ros.pipeline.sweeps import SweepAligner

S = 10**9
STAMP_NS = 1_763_640_000 * S + 123_456_789


def pose_on_circle(angle: float, radius: float = 30.0) -> np.ndarray:
    """T_world_body of a vehicle on a circle, nose along it."""
    t = (radius * np.sin(angle), radius * (1 - np.cos(angle)), 0)
    return transform(rotation_from_euler(0, 0, angle), t)


def pose_numbers(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return T[:3, 3], quaternion_from_rotation(T[:3, :3])


def add(buffer, parent, child, stamp_ns, T, *, fixed=False):
    buffer.add(parent, child, stamp_ns, *pose_numbers(T), fixed=fixed)


# ---------------------------------------------------------------- interpolation


def stacked(T):
    translation, rotation = pose_numbers(T)
    return translation[None], rotation[None]


@pytest.mark.parametrize('step', [1e-9, 1e-5, 0.1, 1.0, 3.0])
def test_a_vehicle_on_a_circle_stays_on_it_between_two_poses(step):
    start, end = stacked(pose_on_circle(0.7)), stacked(pose_on_circle(0.7 + step))
    for share in (0.0, 0.25, 0.5, 1.0):
        T = interpolate(start, end, np.array([share]))[0]
        np.testing.assert_allclose(T, pose_on_circle(0.7 + share * step), atol=1e-6)


def test_quaternions_of_either_sign_are_the_same_pose():
    (t0, q0), (t1, q1) = stacked(pose_on_circle(0.0)), stacked(pose_on_circle(0.4))
    T = interpolate((t0, q0), (t1, -q1), np.array([0.5]))[0]
    np.testing.assert_allclose(T, pose_on_circle(0.2), atol=1e-9)


def test_the_motion_is_the_same_for_every_point_of_the_rig():
    T_body_lidar = transform(rotation_from_euler(0.1, 0.2, 1.0), (2.0, 0.3, 1.5))
    a, b = pose_on_circle(0.0), transform(rotation_from_euler(0.1, 0.3, 0.5), (3.0, 1.0, 0.2))
    of_body = interpolate(stacked(a), stacked(b), np.array([0.3]))[0] @ T_body_lidar
    of_lidar = interpolate(stacked(a @ T_body_lidar), stacked(b @ T_body_lidar), np.array([0.3]))[
        0
    ]
    np.testing.assert_allclose(of_lidar, of_body, atol=1e-9)


# ---------------------------------------------------------------- buffer


@pytest.fixture
def circling():
    """odom -> base on a circle at 1 rad/s, at 10 Hz for 2 s; sensors fixed to base."""
    buffer = TransformBuffer()
    for k in range(21):
        add(buffer, 'odom', 'base', k * S // 10, pose_on_circle(k / 10))
    add(buffer, 'base', 'lidar', 0, transform(np.eye(3), (1, 0, 2)), fixed=True)
    add(buffer, 'base', 'camera', 0, transform(np.eye(3), (2, 0, 1)), fixed=True)
    return buffer


def test_fixed_transforms_hold_at_all_times(circling):
    for stamp in (0, S, 10**6 * S):
        T = circling.lookup('camera', '/lidar', stamp)
        np.testing.assert_allclose(T, transform(np.eye(3), (-1, 0, 1)), atol=1e-12)


def test_one_lookup_answers_for_many_times(circling):
    times = np.array([0, 50_000_000, 1_234_567_890, 2 * S])
    T = circling.lookup('odom', 'lidar', times)
    for one, stamp in zip(T, times, strict=True):
        expected = pose_on_circle(stamp * 1e-9) @ transform(np.eye(3), (1, 0, 2))
        np.testing.assert_allclose(one, expected, atol=1e-6)
        np.testing.assert_allclose(one, circling.lookup('odom', 'lidar', int(stamp)), atol=1e-12)


def test_a_lookup_over_the_fixed_frame_keeps_what_stands_still(circling):
    world = np.array([50.0, 20.0, 1.0, 1.0])
    seen = invert(circling.lookup('odom', 'lidar', S // 2)) @ world
    T = circling.lookup_full('camera', S, 'lidar', S // 2, 'odom')
    np.testing.assert_allclose(T @ seen, invert(circling.lookup('odom', 'camera', S)) @ world)


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (('camera', 'radar', S), r"'radar' to 'camera': TF has no frame 'radar' .*base, camera"),
        (('odom', 'lidar', 3 * S), '1.000 s after the last transform from .base. to .odom.'),
        (('odom', 'lidar', -S), '1.000 s before the first transform from .base. to .odom.'),
        (('map', 'lidar', S), "'odom' and 'earth', the roots above them, are not connected"),
    ],
)
def test_what_is_not_known_is_named_with_the_reason(circling, arguments, text):
    add(circling, 'earth', 'map', 0, np.eye(4), fixed=True)
    with pytest.raises(TransformError, match=text):
        circling.lookup(*arguments)


def test_a_single_moving_transform_holds_at_its_stamp_alone():
    buffer = TransformBuffer()
    add(buffer, 'odom', 'base', S, np.eye(4))
    np.testing.assert_allclose(buffer.lookup('odom', 'base', S), np.eye(4))
    with pytest.raises(TransformError, match='after the last'):
        buffer.lookup('odom', 'base', S + 1)


def test_old_transforms_are_forgotten_and_late_ones_find_their_place():
    buffer = TransformBuffer(history_s=1.0)
    order = np.random.default_rng(0).permutation(40)
    for block in range(0, 1000, 40):
        for k in block + order:
            add(buffer, 'odom', 'base', int(k) * 10_000_000, transform(np.eye(3), (k, 0, 0)))
    times = np.linspace(9.0, 9.99, 77)
    x = buffer.lookup('odom', 'base', (times * S).astype(np.int64))[:, 0, 3]
    np.testing.assert_allclose(x, times * 100, atol=1e-5)
    with pytest.raises(TransformError, match='before the first'):
        buffer.lookup('odom', 'base', 8 * S)


def test_a_clock_that_is_set_back_starts_the_history_anew(circling):
    add(circling, 'odom', 'base', -100 * S, np.eye(4))
    np.testing.assert_allclose(circling.lookup('odom', 'base', -100 * S), np.eye(4))
    with pytest.raises(TransformError, match='after the last'):
        circling.lookup('odom', 'base', S)


def test_clearing_keeps_the_extrinsics(circling):
    circling.clear()
    circling.lookup('camera', 'lidar', S)
    with pytest.raises(TransformError):
        circling.lookup('odom', 'lidar', S)


@pytest.mark.parametrize(
    ('parent', 'child', 'rotation'),
    [('a', 'a', (0, 0, 0, 1)), ('a', '', (0, 0, 0, 1)), ('a', 'b', (0, 0, 0, 0))],
)
def test_a_transform_that_is_none_is_refused(parent, child, rotation):
    with pytest.raises(ValueError, match='expected'):
        TransformBuffer().add(parent, child, 0, (0, 0, 0), rotation)


def test_frames_in_a_circle_end_in_an_error_not_in_a_loop():
    buffer = TransformBuffer()
    for parent, child in (('a', 'b'), ('b', 'c'), ('c', 'a'), ('x', 'y')):
        add(buffer, parent, child, 0, np.eye(4), fixed=True)
    with pytest.raises(TransformError, match='not connected'):
        buffer.lookup('a', 'y', 0)


def test_a_lookup_waits_for_a_transform_that_comes_late(circling):
    def ask():
        return circling.lookup('odom', 'base', 2 * S + S // 20)

    with pytest.raises(TransformError, match=r'0\.050 s after'):
        circling.wait_for(ask, time.monotonic() + 0.01)
    late = threading.Timer(
        0.05, add, (circling, 'odom', 'base', 21 * S // 10, pose_on_circle(2.1))
    )
    late.start()
    T = circling.wait_for(ask, time.monotonic() + 20.0)
    np.testing.assert_allclose(T, pose_on_circle(2.05), atol=1e-6)
    late.join()


# ---------------------------------------------------------------- deskewing


def test_every_point_is_moved_from_its_own_time():
    rng = np.random.default_rng(1)
    times = rng.uniform(-0.1, 0.0, 5000).astype(np.float32)
    world = rng.uniform(-60, 60, (5000, 3))
    T = np.stack([pose_on_circle(t) for t in times])  # 1 rad/s, 30 m/s
    points = np.einsum('nij,nj->ni', invert(T)[:, :3, :3], world) + invert(T)[:, :3, 3]
    straight = deskew(
        points.astype(np.float32), times, lambda at: np.stack([pose_on_circle(t) for t in at])
    )
    # Half a step of 0.1 ms at 30 m/s, and at 1 rad/s and 100 m.
    assert np.abs(straight - world).max() < 0.5e-4 * (30 + 100)
    assert np.abs(move(points, pose_on_circle(-0.05)) - world).max() > 1.0


def test_a_sweep_of_one_instant_or_without_points_is_moved_as_a_whole():
    points = np.ones((3, 3), np.float32)
    moved = deskew(points, np.full(3, 0.5, np.float32), lambda at: np.eye(4)[None] * len(at))
    np.testing.assert_array_equal(moved, points)
    assert deskew(points[:0], np.zeros(0, np.float32), None).shape == (0, 3)


@pytest.mark.parametrize(('points', 'times'), [((4, 2), 4), ((4, 3), 3), ((4, 3), None)], ids=str)
def test_deskewing_names_what_it_cannot_take(points, times):
    stamps = np.array([0, 1, np.nan, 2]) if times is None else np.zeros(times)
    with pytest.raises(ValueError, match='deskew: expected'):
        deskew(np.zeros(points), stamps, lambda at: np.tile(np.eye(4), (len(at), 1, 1)))


# ---------------------------------------------------------------- times in messages

CODES = {'f4': 7, 'f8': 8, 'u4': 6, 'i4': 5}


def cloud(points, times=None, kind='f4', name='time', stamp_ns=STAMP_NS, frame='lidar'):
    """A cloud with x, y, z and one field of times."""
    dtype = [(axis, '<f4') for axis in 'xyz'] + ([] if times is None else [(name, f'<{kind}')])
    records = np.zeros(len(points), dtype)
    for axis, column in zip('xyz', np.asarray(points).T, strict=True):
        records[axis] = column
    if times is not None:
        records[name] = times
    fields = [
        PointField(name=field, offset=at, datatype=CODES[t.str[1:]], count=1)
        for field, (t, at) in records.dtype.fields.items()
    ]
    message = PointCloud2(header=header(stamp_ns, frame), height=1, width=len(points))
    message.fields, message.point_step = fields, records.itemsize
    message.row_step = records.nbytes
    message.data = type(message.data)('B', records.tobytes())
    return message


def header(stamp_ns, frame):
    sec, nanosec = divmod(stamp_ns, S)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame)


SWEEP_S = np.linspace(0, 0.0997, 50)
ABSOLUTE_S = STAMP_NS * 1e-9
DRIVERS = {
    'Ouster: ns from the start': ('t', 'u4', SWEEP_S * 1e9, SWEEP_S),
    'Velodyne, KITTI bag: s': ('time', 'f4', SWEEP_S, SWEEP_S),
    'Velodyne: s to the end': ('time', 'f4', SWEEP_S - 0.0997, SWEEP_S - 0.0997),
    'Hesai, Robosense: absolute s': ('timestamp', 'f8', ABSOLUTE_S + SWEEP_S, SWEEP_S),
    'Livox: absolute ns': ('timestamp', 'f8', float(STAMP_NS) + SWEEP_S * 1e9, SWEEP_S),
    'Livox converted: ns': ('offset_time', 'u4', SWEEP_S * 1e9, SWEEP_S),
    'Autoware: ns': ('time_stamp', 'u4', SWEEP_S * 1e9, SWEEP_S),
    'us': ('t', 'i4', SWEEP_S * 1e6, SWEEP_S),
    'absolute us': ('timestamp', 'f8', ABSOLUTE_S * 1e6 + SWEEP_S * 1e6, SWEEP_S),
    'ms': ('ts', 'f4', SWEEP_S * 1e3, SWEEP_S),
}


@pytest.mark.parametrize(('name', 'kind', 'values', 'expected'), DRIVERS.values(), ids=DRIVERS)
def test_times_are_read_as_the_drivers_write_them(name, kind, values, expected):
    message = cloud(np.ones((50, 3)), values, kind, name)
    times = point_times(message, np.ones(50, bool), STAMP_NS)
    assert times.dtype == np.float32
    np.testing.assert_allclose(times, expected, atol=2e-6)


def test_points_without_a_return_do_not_count_for_the_times():
    values = ABSOLUTE_S + SWEEP_S
    values[::3] = 0
    valid = values > 0
    message = cloud(np.ones((50, 3)), values, 'f8', 'timestamp')
    times = point_times(message, valid, STAMP_NS)
    np.testing.assert_allclose(times, SWEEP_S[valid], atol=2e-6)


def test_clouds_without_times_have_none():
    valid = np.ones(50, bool)
    assert point_times(cloud(np.ones((50, 3))), valid, STAMP_NS) is None
    assert point_times(cloud(np.ones((50, 3)), 0.0), valid, STAMP_NS) is None
    assert point_times(cloud(np.ones((50, 3)), SWEEP_S, name='when'), valid, STAMP_NS) is None


def test_field_and_unit_may_be_given():
    message = cloud(np.ones((50, 3)), SWEEP_S * 1e4, 'u4', 'when')
    times = point_times(message, np.ones(50, bool), STAMP_NS, 'when', 'us')
    np.testing.assert_allclose(times, SWEEP_S * 1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ('values', 'kind', 'options', 'text'),
    [
        (
            SWEEP_S,
            'f4',
            {'field': 'when'},
            'expected the field when with times, got x, y, z, time',
        ),
        (SWEEP_S * 1e9, 'u4', {'unit': 's'}, 'shorter than 1 s, got 9.97e'),
        (SWEEP_S * np.nan, 'f4', {}, 'shorter than 1 s, got nan'),
        (ABSOLUTE_S + 37 + SWEEP_S, 'f8', {}, '37.000 s from the stamp .* different clock'),
    ],
)
def test_times_that_make_no_sense_are_named(values, kind, options, text):
    with pytest.raises(MessageError, match=text):
        point_times(cloud(np.ones((50, 3)), values, kind), np.ones(50, bool), STAMP_NS, **options)


# ---------------------------------------------------------------- sweeps of a moving rig

T_BASE_LIDAR = transform(rotation_from_euler(0, 0.05, 0.3), (1.0, 0.2, 1.8))
T_BASE_CAMERA = transform(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), (1.5, 0.1, 1.4))
MOVING = MotionSettings(fixed_frame='odom', transform_timeout=0.0)


def base_at(stamp_ns: int) -> np.ndarray:
    """15 m/s on a circle of 30 m."""
    return pose_on_circle((stamp_ns - STAMP_NS) * 1e-9 * 0.5)


@pytest.fixture
def rig():
    buffer = TransformBuffer()
    for k in range(-50, 51):
        stamp_ns = STAMP_NS + k * S // 50
        # Far from the origin, as in a frame of UTM coordinates.
        far = transform(np.eye(3), (4e5, 5e6, 300.0))
        add(buffer, 'odom', 'base', stamp_ns, far @ base_at(stamp_ns))
    add(buffer, 'base', 'lidar', 0, T_BASE_LIDAR, fixed=True)
    add(buffer, 'base', 'camera', 0, T_BASE_CAMERA, fixed=True)
    return buffer


def measure(world, stamps_ns):
    """World points (N, 3) as the LiDAR sees them at times (N,)."""
    T = invert(np.stack([base_at(int(s)) @ T_BASE_LIDAR for s in stamps_ns]))
    return np.einsum('nij,nj->ni', T[:, :3, :3], world) + T[:, :3, 3]


def seen(world, stamp_ns):
    """World points as the camera sees them."""
    T = invert(base_at(stamp_ns) @ T_BASE_CAMERA)
    return world @ T[:3, :3].T + T[:3, 3]


WORLD = np.random.default_rng(2).uniform((10, -20, -2), (60, 20, 4), (200, 3))
TIMES_S = np.linspace(0, 0.1, 200)
IMAGE_NS = STAMP_NS + 130_000_000


def located(aligner, message, T_camera_lidar=None):
    points, T = aligner.locate(message, 'camera', IMAGE_NS, T_camera_lidar)
    return move(points, T)


def sweep(stamp_ns=STAMP_NS, own_shift_ns=0):
    """WORLD measured over a sweep from stamp_ns on; its clock shows own_shift_ns more."""
    at = stamp_ns + (TIMES_S * 1e9).astype(np.int64)
    return cloud(measure(WORLD, at), TIMES_S, stamp_ns=stamp_ns + own_shift_ns)


def test_points_of_a_moving_rig_fall_where_the_camera_sees_them(rig):
    truth = seen(WORLD, IMAGE_NS)
    assert np.abs(located(SweepAligner(MOVING, rig), sweep()) - truth).max() < 5e-3
    skewed = located(SweepAligner(replace(MOVING, deskew=False), rig), sweep())
    assert np.abs(skewed - truth).max() > 1.0
    uncorrected = located(SweepAligner(MotionSettings(), rig), sweep())
    assert np.abs(uncorrected - truth).max() > 2.0


def test_given_extrinsics_need_tf_for_the_motion_alone(rig):
    T_camera_lidar = invert(T_BASE_CAMERA) @ T_BASE_LIDAR
    add(rig, 'base', 'camera', 0, np.eye(4), fixed=True)
    points = located(SweepAligner(MOVING, rig), sweep(), T_camera_lidar)
    assert np.abs(points - seen(WORLD, IMAGE_NS)).max() < 5e-3


def test_the_offset_of_the_lidars_clock_counts_for_stamps_and_absolute_times(rig):
    settings = replace(MOVING, lidar_clock_offset=-3.5)
    truth = seen(WORLD, IMAGE_NS)
    message = sweep(own_shift_ns=3_500_000_000)
    shift_stamp(message, settings.lidar_offset_ns)
    assert stamp_ns_of(message) == STAMP_NS
    assert np.abs(located(SweepAligner(settings, rig), message) - truth).max() < 5e-3
    at = STAMP_NS + (TIMES_S * 1e9).astype(np.int64)
    absolute = cloud(
        measure(WORLD, at), at * 1e-9 + 3.5, 'f8', 'timestamp', STAMP_NS + 3_500_000_000
    )
    shift_stamp(absolute, settings.lidar_offset_ns)
    assert np.abs(located(SweepAligner(settings, rig), absolute) - truth).max() < 5e-3


def test_sweeps_accumulate_where_the_camera_is_now(rig):
    settings = replace(MOVING, accumulate_sweeps=3)
    aligner = SweepAligner(settings, rig)
    messages = [sweep(STAMP_NS + k * S // 10) for k in (-4, -3, -2, -1, 0)]
    for message in messages:
        aligner.remember(message, kept=10)
    for _ in range(2):
        points = located(aligner, messages[-1])
        assert len(points) == 600
        assert np.abs(points - np.tile(seen(WORLD, IMAGE_NS), (3, 1))).max() < 1e-2


def test_accumulation_leaves_out_later_sweeps_and_those_without_a_pose(rig):
    settings = replace(MOVING, accumulate_sweeps=5)
    aligner = SweepAligner(settings, rig)
    far_back = cloud(WORLD, stamp_ns=STAMP_NS - 5 * S)
    messages = [far_back, sweep(STAMP_NS - S // 10), sweep(), sweep(STAMP_NS + S // 10)]
    for message in messages:
        aligner.remember(message, kept=10)
    assert len(located(aligner, messages[2])) == 400


def test_a_sweep_whose_motion_is_unknown_is_refused_with_the_reason(rig):
    aligner = SweepAligner(MOVING, rig)
    late = sweep(STAMP_NS)
    late.header = header(STAMP_NS + 5 * S, 'lidar')
    with pytest.raises(TransformError, match=r'after the last transform from .base. to .odom.'):
        located(aligner, late)
    with pytest.raises(TransformError, match="TF has no frame 'map'"):
        located(SweepAligner(replace(MOVING, fixed_frame='map'), rig), sweep())


def test_without_a_fixed_frame_the_extrinsics_of_the_sweeps_time_count():
    buffer = TransformBuffer()
    for k in range(3):  # a LiDAR that nods
        add(buffer, 'camera', 'lidar', k * S, transform(np.eye(3), (0, 0, k)))
    message = cloud(np.ones((1, 3)), stamp_ns=3 * S // 2)
    points, T = SweepAligner(MotionSettings(), buffer).locate(message, 'camera', 2 * S, None)
    np.testing.assert_allclose(T[:3, 3], [0, 0, 1.5])
    np.testing.assert_array_equal(points, np.ones((1, 3), np.float32))


def test_without_tf_extrinsics_have_to_be_given():
    with pytest.raises(ValueError, match='fixed_frame: expected a source of transforms'):
        SweepAligner(MOVING, None)
    with pytest.raises(MessageError, match='T_camera_lidar was cleared'):
        SweepAligner(MotionSettings(), None).locate(sweep(), 'camera', IMAGE_NS, None)


def test_a_frame_waits_once_for_all_of_its_transforms(rig):
    aligner = SweepAligner(replace(MOVING, transform_timeout=1.0), rig)
    late = sweep(STAMP_NS + 2 * S)
    start = time.monotonic()
    add_later = threading.Timer(
        0.6, add, (rig, 'odom', 'base', IMAGE_NS + S, base_at(IMAGE_NS + S))
    )
    add_later.start()
    # The image's time is told of within the time; the sweep's never is.
    with pytest.raises(TransformError, match='after the last'):
        aligner.locate(late, 'camera', IMAGE_NS + S, None)
    assert 1.0 <= time.monotonic() - start < 1.5
    add_later.join()
    assert np.isfinite(located(aligner, sweep())).all()


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'point_time_unit': 'h'}, "point_time_unit: expected one of auto, .* got 'h'"),
        ({'accumulate_sweeps': 5}, 'accumulate_sweeps: expected 1 without fixed_frame, got 5'),
        ({'lidar_clock_offset': 1e5}, 'lidar_clock_offset: expected'),
    ],
)
def test_settings_of_motion_that_make_no_sense_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        MotionSettings(**settings)


def test_deskewing_a_sweep_of_64_lines_takes_milliseconds(rig):
    count = 114_000
    times = np.tile(np.linspace(0, 0.1, count // 64 + 1), 64)[:count]
    message = cloud(np.random.default_rng(3).uniform(-60, 60, (count, 3)), times)
    aligner, plain = SweepAligner(MOVING, rig), SweepAligner(MotionSettings(), rig)

    def quickest(one):
        durations = []
        for _ in range(10):
            start = time.thread_time()
            one.locate(message, 'camera', IMAGE_NS, None)
            durations.append(time.thread_time() - start)
        return min(durations)

    # 4 ms of computing on the machine of docs/RESULTS.md.
    assert quickest(aligner) - quickest(plain) < 0.02

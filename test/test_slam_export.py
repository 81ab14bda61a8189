"""Frames as SLAM systems take them: TUM folders and DROID-SLAM's arguments."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from bag_data import CAMERA, START_NS, make_image, wall, write_bag
from commands import invoke
from synthetic_drive import HEIGHT, WIDTH, make_drive

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.rgbd import RecordedFrames
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.transforms import quaternion_from_rotation, rotation_from_quaternion
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb
from dmd3c_ros.io.tum import TumWriter
from dmd3c_ros.slam.droid import DroidFeeder, DroidSettings, RgbdFrame, droid_inputs, image_stream

STAMP_NS = 1_317_042_272_300_000_000

pytestmark = pytest.mark.usefixtures('wide_terminal')


# ---------------------------------------------------------------------------- TUM


def associated(folder: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Frames as ORB-SLAM3's RGB-D example reads them: by the lines of associations.txt."""
    frames = []
    for line in (folder / 'associations.txt').read_text().splitlines():
        stamp, rgb, depth_stamp, depth = line.split()
        assert stamp == depth_stamp
        values = cv2.imread(str(folder / depth), cv2.IMREAD_UNCHANGED)
        assert values.dtype == np.uint16
        frames.append((stamp, read_rgb(folder / rgb), values))
    return frames


def test_a_sequence_is_read_as_the_benchmark_lays_it_out(tmp_path):
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    depth[3, 4], depth[5, 6] = 2.5, 20.0
    with TumWriter(tmp_path / 'seq') as writer:
        writer.add(STAMP_NS, make_image(1), depth, CAMERA, np.eye(4))
        writer.add(STAMP_NS + 100_000_000, make_image(2), depth, CAMERA, np.eye(4))
        assert not (tmp_path / 'seq').exists()
    frames = associated(tmp_path / 'seq')
    assert [stamp for stamp, _, _ in frames] == ['1317042272.300000000', '1317042272.400000000']
    _, rgb, values = frames[1]
    np.testing.assert_array_equal(rgb, make_image(2))
    # 20 m lies past what 16 bits hold at 5000 units a metre.
    assert (values[3, 4], values[5, 6], np.count_nonzero(values)) == (12500, 0, 1)
    assert writer.too_far == 2
    numbers = np.loadtxt(tmp_path / 'seq' / 'calibration.txt')
    np.testing.assert_allclose(numbers, [30, 30, 20, 12])
    settings = cv2.FileStorage(str(tmp_path / 'seq' / 'orbslam3.yaml'), cv2.FILE_STORAGE_READ)
    assert settings.getNode('RGBD.DepthMapFactor').real() == 5000
    assert settings.getNode('Camera1.fx').real() == 30
    assert settings.getNode('Camera.width').real() == WIDTH
    assert settings.getNode('Camera.fps').real() == 10
    assert (tmp_path / 'seq/groundtruth.txt').read_text().splitlines()[1].split()[1:] == [
        '0', '0', '0', '0', '0', '0', '1',
    ]  # fmt: skip
    assert (tmp_path / 'seq/rgb.txt').read_text().splitlines()[1].endswith('300000000.png')


def test_a_sequence_that_fails_leaves_nothing(tmp_path):
    depth = np.ones((HEIGHT, WIDTH), np.float32)
    other = Camera.from_K(CAMERA.K * [[2], [2], [1]], WIDTH, HEIGHT)
    with (
        pytest.raises(ValueError, match='expected the same camera'),
        TumWriter(tmp_path / 'seq') as writer,
    ):
        writer.add(STAMP_NS, make_image(1), depth, CAMERA)
        writer.add(STAMP_NS + 1, make_image(1), depth, other)
    with (
        pytest.raises(ValueError, match='stamps that grow'),
        TumWriter(tmp_path / 'seq') as writer,
    ):
        writer.add(STAMP_NS, make_image(1), depth, CAMERA)
        writer.add(STAMP_NS, make_image(1), depth, CAMERA)
    with pytest.raises(ValueError, match='no frame'), TumWriter(tmp_path / 'seq'):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / 'seq').mkdir()
    with pytest.raises(FileExistsError, match='seq'):
        TumWriter(tmp_path / 'seq')


def test_a_whole_sequence_whose_name_was_taken_is_kept(tmp_path):
    with (
        pytest.raises(OSError, match='the sequence is in') as error,
        TumWriter(tmp_path / 'seq') as writer,
    ):
        writer.add(STAMP_NS, make_image(1), np.ones((HEIGHT, WIDTH), np.float32), CAMERA)
        (tmp_path / 'seq').mkdir()
        (tmp_path / 'seq' / 'mine').touch()
    kept = Path(str(error.value).rpartition(' ')[2])
    assert len(list((kept / 'depth').iterdir())) == 1
    assert (kept / 'orbslam3.yaml').is_file()
    assert [path.name for path in (tmp_path / 'seq').iterdir()] == ['mine']


def test_a_bag_is_exported_completed_or_with_the_depth_it_has(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    options = ('--depth-scale', '256')
    invoke('export', 'tum', bag, tmp_path / 'one', '--model', 'nearest', *options)
    invoke('complete', 'bag', bag, tmp_path / 'dense', '--model', 'nearest')
    text = invoke('export', 'tum', tmp_path / 'dense', tmp_path / 'two', *options)
    assert '3 frames' in text and 'model' not in text
    first, second = associated(tmp_path / 'one'), associated(tmp_path / 'two')
    assert [stamp for stamp, _, _ in first] == [stamp for stamp, _, _ in second]
    assert first[0][0] == f'{START_NS // 10**9}.000000000'
    for number, (one, two) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(one[1], make_image(number))
        np.testing.assert_array_equal(one[2], two[2])
        assert np.median(one[2]) == 256 * (5 + number)
    depth = read_depth_png(tmp_path / 'one' / 'depth' / f'{first[0][0]}.png')
    assert depth.max() == 5.0
    assert 'already exists' in invoke('export', 'tum', bag, tmp_path / 'one', exit_code=1)


def test_depth_that_a_bag_has_is_masked_by_its_confidence_or_completed_anew(tmp_path):
    bag, dense, less = write_bag(tmp_path / 'bag'), tmp_path / 'dense', tmp_path / 'less'
    invoke('complete', 'bag', bag, dense, '--model', 'nearest')
    # The nearest neighbour is sure of what was measured, and of nothing else.
    options = ('--depth-scale', '256', '--min-confidence', '0.5')
    invoke('export', 'tum', dense, tmp_path / 'masked', *options)
    invoke('export', 'tum', bag, tmp_path / 'expected', '--model', 'nearest', *options)
    masked, expected = associated(tmp_path / 'masked'), associated(tmp_path / 'expected')
    for one, two in zip(masked, expected, strict=True):
        assert 0 < np.count_nonzero(one[2]) < one[2].size / 2
        np.testing.assert_array_equal(one[2], two[2])
    # Another model completes the bag's sweeps, whatever depth is there.
    invoke('export', 'tum', dense, tmp_path / 'anew', '--model', 'ip_basic', *options[:2])
    again = associated(tmp_path / 'anew')
    assert not np.array_equal(again[0][2], associated(tmp_path / 'expected')[0][2])
    with Bag(dense) as whole, BagWriter(less, 'mcap') as writer:
        for record in whole.records():
            if record.topic.name != '/confidence':
                writer.copy(record, whole.typestore)
    text = invoke('export', 'tum', less, tmp_path / 'none', *options, exit_code=1)
    assert 'there is no topic /confidence' in text
    # The preset that is the default does without what was not recorded.
    invoke('export', 'tum', less, tmp_path / 'whole', *options[:2])
    assert all(
        np.count_nonzero(depth) == depth.size for _, _, depth in associated(tmp_path / 'whole')
    )
    text = invoke(
        *('export', 'tum', dense, tmp_path / 'none', '--model', 'nearest'),
        *('--depth', '/depth_registered/image_rect'),
        exit_code=1,
    )
    assert '--depth uses the depth in the bag, so --model would have no effect' in text
    assert not (tmp_path / 'none').exists()


def test_a_drive_is_exported(tmp_path):
    drive = make_drive(tmp_path)
    for path in (drive / 'velodyne_points' / 'data').iterdir():
        wall(6).tofile(path)
    (drive.parent / 'calib_velo_to_cam.txt').write_text('R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n')
    (drive.parent / 'calib_cam_to_cam.txt').write_text(
        f'S_rect_02: {WIDTH} {HEIGHT}\nR_rect_00: 1 0 0 0 1 0 0 0 1\n'
        'P_rect_02: 30 0 20 0 0 30 12 0 0 0 1 0\n'
    )
    invoke('export', 'tum', drive, tmp_path / 'seq', '--model', 'nearest')
    frames = associated(tmp_path / 'seq')
    assert len(frames) == 3
    assert frames[2][1][0, 0, 0] == 2
    assert np.median(frames[0][2]) == 30000
    for option in (('--fixed-frame', 'odom'), ('--depth', '/depth'), ('--rectify',)):
        refused = invoke('export', 'tum', drive, tmp_path / 'other', *option, exit_code=1)
        assert 'a KITTI drive takes completion options only' in refused
        assert not (tmp_path / 'other').exists()


# ---------------------------------------------------------------------------- DROID-SLAM


class StandInDroid:
    """Takes what DROID-SLAM's Droid.track takes and does with it what its motion filter and
    its video do before their networks, so that a wrong layout fails as it would there.
    """

    def __init__(self, height: int, width: int) -> None:
        self.images = torch.zeros(8, 3, height, width, dtype=torch.uint8)
        self.disparities = torch.zeros(8, height // 8, width // 8)
        self.intrinsics = torch.zeros(8, 4)
        self.stamps = torch.zeros(8)
        self.seen: list[torch.Tensor] = []

    def track(self, tstamp, image, depth=None, intrinsics=None) -> None:
        count = len(self.seen)
        self.stamps[count] = tstamp
        self.images[count] = image[0]
        self.intrinsics[count] = intrinsics / 8.0
        sampled = depth[3::8, 3::8]
        self.disparities[count] = torch.where(sampled > 0, 1.0 / sampled, sampled)
        self.seen.append(image[None, :, [2, 1, 0]] / 255.0)

    def terminate(self, stream=None) -> np.ndarray:
        return np.array([[number, 0, 0, 0, 0, 0, 1] for number, _, _ in stream], np.float32)


def frame(height: int = 375, width: int = 1242, number: int = 0) -> RgbdFrame:
    """Red above, green below; depth 10 m left, 20 m right, with holes of every kind."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, :, 0] = 255
    rgb[height // 2 :, :, 1] = 255
    depth = np.full((height, width), 10, np.float32)
    depth[:, width // 2 :] = 20
    depth[::7], depth[1::7], depth[2::7], depth[3::7] = 0, np.nan, np.inf, 500
    K = np.array([[720, 0, width / 2 - 0.5], [0, 710, height / 2 - 0.5], [0, 0, 1.0]])
    stamp = STAMP_NS + number * 100_000_000
    return RgbdFrame(stamp, rgb, depth, Camera.from_K(K, width, height))


def test_frames_have_the_layout_that_droid_slam_takes():
    inputs = droid_inputs(frame())
    _, channels, height, width = inputs.image.shape
    assert inputs.image.shape[0] == 1
    assert (channels, height % 8, width % 8) == (3, 0, 0)
    assert inputs.image.dtype == torch.uint8
    assert 0.85 < height * width / (384 * 512) <= 1
    assert (inputs.depth.shape, inputs.depth.dtype) == ((height, width), torch.float32)
    assert (inputs.intrinsics.shape, inputs.intrinsics.dtype) == ((4,), torch.float32)


def test_the_network_of_droid_slam_sees_red_first():
    inputs = droid_inputs(frame())
    droid = StandInDroid(*inputs.image.shape[-2:])
    feeder = DroidFeeder(droid)
    feeder.add(frame())
    seen = droid.seen[0]
    assert seen.shape[:3] == (1, 1, 3)
    torch.testing.assert_close(seen[0, 0, :, 0, 0], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(seen[0, 0, :, -1, 0], torch.tensor([0, 1.0, 0]))
    as_rgb = droid_inputs(frame(), DroidSettings(channels='rgb')).image
    torch.testing.assert_close(as_rgb, inputs.image[:, [2, 1, 0]])


def test_depth_stays_metric_without_mixed_values_and_without_nan():
    depth = droid_inputs(frame()).depth
    assert set(depth.unique().tolist()) == {0.0, 10.0, 20.0}
    inputs = droid_inputs(frame())
    droid = StandInDroid(*inputs.image.shape[-2:])
    DroidFeeder(droid, DroidSettings(unit=1)).add(frame())
    assert torch.isfinite(droid.disparities).all()
    expected = torch.tensor([0, 0.05, 0.1])
    torch.testing.assert_close(droid.disparities[0].unique(), expected)


def test_the_unit_of_length_is_that_of_droid_slams_training_and_the_trajectory_is_metric():
    droid = StandInDroid(*droid_inputs(frame()).image.shape[-2:])
    feeder = DroidFeeder(droid, keep=True)
    blind = frame()._replace(depth=np.zeros((375, 1242), np.float32))
    feeder.add_all([blind, frame(number=1), frame(number=2)])
    assert droid.disparities[0].abs().max() == 0
    known = droid_inputs(frame()).depth
    known = 1 / known[known > 0]
    assert feeder.unit_m == pytest.approx(1 / float(known.mean()), rel=1e-5)
    stored = droid.disparities[1][droid.disparities[1] > 0]
    # The mean over all pixels is 1, and that of those sampled is close to it.
    assert float(stored.mean()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(droid.disparities[2], droid.disparities[1])
    poses = feeder.finish()
    np.testing.assert_allclose(poses[:, 0], np.arange(3) * feeder.unit_m, rtol=1e-6)
    np.testing.assert_array_equal(poses[:, 6], 1)
    with pytest.raises(ValueError, match='unit: expected a length in m or 0, got -1'):
        DroidSettings(unit=-1)


def test_intrinsics_follow_the_image():
    source = frame()
    fx, fy, cx, cy = droid_inputs(source).intrinsics.tolist()
    height, width = source.depth.shape
    scale = np.sqrt(384 * 512 / (height * width))
    assert fx == pytest.approx(720 * scale, rel=3e-3)
    assert fy == pytest.approx(710 * scale, rel=3e-3)
    # The principal point was the centre, and cutting takes from the right and the bottom only.
    assert cx == pytest.approx(round(width * scale) / 2 - 0.5, abs=1e-3)
    assert cy == pytest.approx(round(height * scale) / 2 - 0.5, abs=1e-3)
    small = frame(height=131, width=254)
    inputs = droid_inputs(small)
    assert inputs.depth.shape == (128, 248)
    torch.testing.assert_close(inputs.intrinsics[:2], torch.tensor([720.0, 710.0]))
    np.testing.assert_array_equal(inputs.image[0, 1].numpy(), small.rgb[:128, :248, 1])


@pytest.mark.parametrize(
    ('size', 'pixels', 'expected'),
    [
        ((120, 160), 384 * 512, (128, 168)),
        ((352, 1216), 128 * 128, (128, 440)),
        ((60, 1200), 384 * 512, (128, 2560)),
    ],
)
def test_no_side_is_shorter_than_droid_slams_correlation_pyramid_needs(size, pixels, expected):
    source = frame(*size)
    inputs = droid_inputs(source, DroidSettings(pixels=pixels))
    assert inputs.image.shape[-2:] == inputs.depth.shape == expected
    # An eighth of the size, halved once for each of its four levels, has a pixel left.
    assert min(expected) // 8 // 2**4 >= 1
    assert set(inputs.depth.unique().tolist()) == {0.0, 10.0, 20.0}
    scale = 128 / size[0]
    torch.testing.assert_close(inputs.intrinsics[1].item(), 710 * scale)
    np.testing.assert_allclose(inputs.intrinsics[3], ((size[0] * scale) - 1) / 2, rtol=1e-5)


def test_the_feeder_numbers_frames_and_keeps_their_stamps():
    frames = [frame(number=number) for number in range(3)]
    droid = StandInDroid(*droid_inputs(frames[0]).image.shape[-2:])
    feeder = DroidFeeder(droid)
    feeder.add_all(frames)
    assert droid.stamps[:3].tolist() == [0, 1, 2]
    assert feeder.stamps_ns == [f.stamp_ns for f in frames]
    for number, image, intrinsics in image_stream(frames):
        torch.testing.assert_close(image[0], droid.images[number])
        torch.testing.assert_close(intrinsics / 8, droid.intrinsics[number])


def test_a_completed_bag_feeds_droid_slam(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    invoke('complete', 'bag', bag, tmp_path / 'dense', '--model', 'nearest')
    feeder = DroidFeeder(lambda height, width: StandInDroid(height, width))
    with Bag(tmp_path / 'dense') as recording:
        feeder.add_all(RecordedFrames(recording))
    droid = feeder.droid
    assert feeder.stamps_ns == [START_NS + k * 100_000_000 for k in range(3)]
    torch.testing.assert_close(droid.disparities[2], torch.full((16, 26), 5 / 7))
    assert droid.images[1, :, 0, 0].tolist() == [200, 100, 1]


def test_settings_and_frames_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="channels: expected bgr or rgb, got 'hsv'"):
        DroidSettings(channels='hsv')
    with pytest.raises(ValueError, match='pixels'):
        DroidSettings(pixels=3)
    source = frame()
    with pytest.raises(ValueError, match='as the depth'):
        droid_inputs(source._replace(rgb=source.rgb[:-1]))


def test_quaternions_and_rotations_are_inverse_at_every_angle():
    rng = np.random.default_rng(0)
    quaternions = [
        *rng.normal(size=(50, 4)),
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]
    for quaternion in quaternions:
        R = rotation_from_quaternion(quaternion)
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        again = rotation_from_quaternion(quaternion_from_rotation(R))
        np.testing.assert_allclose(again, R, atol=1e-12)
    with pytest.raises(ValueError, match='other than zero'):
        rotation_from_quaternion([0, 0, 0, 0])

"""The demonstration: its parts on synthetic frames, and itself over real topics."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_drive import make_drive

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.evaluation.cloud_view import render_cloud, spacing, surface, view_from_beside

K = np.array([[60, 0, 39.5], [0, 60, 23.5], [0, 0, 1.0]])
CAMERA = Camera.from_K(K, 80, 48)


# --- cloud from another view -----------------------------------------------------------------


def slanted_ground() -> np.ndarray:
    """Depth of a floor 1.5 m below the camera, unknown above the horizon."""
    rows = np.arange(CAMERA.height)[:, None] - CAMERA.cy
    depth = np.where(rows > 4, 1.5 * CAMERA.fy / np.maximum(rows, 1), 0)
    return np.broadcast_to(depth, (CAMERA.height, CAMERA.width)).astype(np.float32)


def test_surface_keeps_a_slanted_plane_whole():
    depth = slanted_ground()
    inside = np.s_[30:-1, 1:-1]
    assert surface(depth, depth)[inside].all()
    assert not surface(depth, depth)[:25].any()


def test_surface_drops_edges_and_what_no_laser_reached():
    depth = np.full((48, 80), 20.0, np.float32)
    depth[:, 40:] = 5.0
    depth[:, 40] = 8.0
    sparse = np.where(np.arange(80) < 70, depth, 0).astype(np.float32)
    sparse[:, 50:] = 0
    shown = surface(depth, sparse, reach=10)
    assert shown[:, 5:35].all()
    assert not shown[:, 40].any()
    assert not shown[:, 65:].any()


def test_spacing_follows_the_slant_but_stops_at_edges():
    points = CAMERA.backproject(slanted_ground())
    step = np.linalg.norm(points[36, 40] - points[35, 40])
    assert spacing(points)[35, 40] == pytest.approx(step, rel=1e-4)
    wall = np.full((48, 80), 2.0, np.float32)
    wall[:, 40:] = 40.0
    at_edge = spacing(CAMERA.backproject(wall), limit=6)[20, 39]
    assert at_edge == pytest.approx(6 * 2 / 60, rel=1e-3)


def test_nearest_point_wins_and_the_rest_is_background():
    points = np.array([[0, 0, 4.0], [0, 0, 2.0], [0, 0, -3.0]])
    colors = np.array([[0, 255, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    image = render_cloud(points, colors, np.full(3, 0.2), CAMERA, np.eye(4), (9, 9, 9))
    assert tuple(image[23, 39]) == (255, 0, 0)
    assert tuple(image[0, 0]) == (9, 9, 9)
    assert image.shape == (48, 80, 3)


def test_the_scene_lies_in_the_view_from_beside():
    for scale in (1.0, 4.0):
        depth = slanted_ground() * scale
        view, T_view_camera = view_from_beside(depth, 400, 160)
        point = T_view_camera @ [0, 0, 1.5 * np.median(depth[depth > 0]), 1]
        uv, z = view.project(point[None, :3])
        assert z[0] > 0
        assert (uv > 0).all()
        assert (uv < [400, 160]).all()


# --- recording and numbers -------------------------------------------------------------------

rclpy = pytest.importorskip('rclpy')

from std_msgs.msg import Header  # noqa: E402

from dmd3c_ros.demo import DemoConfig, DemoError, graph  # noqa: E402
from dmd3c_ros.demo.processes import Child  # noqa: E402
from dmd3c_ros.demo.recorder import Recording, Times  # noqa: E402
from dmd3c_ros.demo.report_images import Animation, write_report  # noqa: E402
from dmd3c_ros.demo.scoring import (  # noqa: E402
    Frames,
    Latency,
    Scene,
    Score,
    Summary,
    held_out_truth,
    mean_scores,
    simulator_truth,
)
from dmd3c_ros.demo.sources import source_of  # noqa: E402
from dmd3c_ros.messages.cameras import camera_to_info  # noqa: E402
from dmd3c_ros.messages.clouds import depth_to_cloud, points_to_cloud  # noqa: E402
from dmd3c_ros.messages.images import depth_to_image, float_to_image, rgb_to_image  # noqa: E402
from dmd3c_ros.messages.stamps import stamp_ns_in  # noqa: E402

MS = 1_000_000


def make_recording(n_frames: int = 3, hidden: tuple[int, ...] = ()) -> Recording:
    """A wall at 4 m with the LiDAR in the camera; the node says 4.5 m, half a metre too far.

    hidden: points, by number, that lie 20 m behind the wall.
    """
    from rclpy.serialization import serialize_message

    recording = Recording()
    for topic in ('image', 'camera_info', 'points', 'truth', 'depth', 'cloud', 'confidence'):
        recording.times[topic], recording.bodies[topic] = {}, {}
    rgb, wall = np.full((48, 80, 3), 70, np.uint8), np.full((48, 80), 4.0, np.float32)
    points = CAMERA.backproject(wall)[::6, ::6].reshape(-1, 3)
    points[list(hidden)] *= 6
    for index in range(n_frames):
        stamp = 10**9 + index * 100 * MS
        header = Header(frame_id='camera')
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
        late = Header(frame_id='lidar')
        late.stamp.sec, late.stamp.nanosec = divmod(stamp + 3 * MS, 10**9)
        messages = {
            'image': rgb_to_image(rgb, header),
            'camera_info': camera_to_info(CAMERA, header),
            'points': points_to_cloud(points, late),
            'truth': depth_to_image(wall, header),
            'depth': depth_to_image(wall + np.float32(0.5), header),
            'cloud': depth_to_cloud(wall, rgb, CAMERA, header),
            'confidence': float_to_image(wall / 8, header),
        }
        # Sent 10 ms after the inputs arrived, the cloud 2 ms after the depth.
        times = {'image': stamp, 'points': stamp + 5 * MS, 'depth': stamp + 15 * MS}
        times['cloud'] = stamp + 17 * MS
        for topic, message in messages.items():
            key = stamp_ns_in(serialize_message(message))
            at = times.get(topic, stamp)
            recording.times[topic][key] = Times(sent=at, received=at)
            recording.bodies[topic][key] = serialize_message(message)
    return recording


@pytest.mark.parametrize('order', ['<', '>'])
def test_stamp_is_read_from_serialized_headers_of_both_byte_orders(order):
    body = bytes([0, order == '<', 0, 0]) + struct.pack(f'{order}iI', 1_700_000_000, 123_456_789)
    assert stamp_ns_in(body) == 1_700_000_000_123_456_789


def test_frames_hold_what_was_recorded():
    recording = make_recording()
    frames = Frames(recording, np.eye(4), simulator_truth(recording))
    scene = frames[frames.stamps[0]]
    assert len(frames) == 3
    np.testing.assert_allclose(scene.depth, 4.5)
    # The last points are at row 42 and column 78.
    np.testing.assert_allclose(scene.truth[:43, :79], 4.0)
    assert not scene.truth[43:].any()
    assert not scene.truth[:, 79:].any()
    np.testing.assert_allclose(scene.sparse[::6, ::6], 4.0)
    np.testing.assert_allclose(frames.confidence(frames.stamps[0]), 0.5)


@pytest.mark.parametrize(('model', 'given'), [('light', 24.0), ('nearest', 0.0)])
def test_sparse_depth_is_what_the_model_was_given(model, given):
    # The point of row 18 and column 42, amid the others.
    recording = make_recording(1, hidden=(3 * 14 + 7,))
    frames = Frames(recording, np.eye(4), simulator_truth(recording), model)
    scene = frames[frames.stamps[0]]
    assert scene.sparse[18, 42] == pytest.approx(given)
    assert scene.sparse[18, 36] == scene.visible[18, 36] == 4
    # The baseline of the report is a classical one.
    assert scene.visible[18, 42] == 0
    assert Score.of(scene).baseline.rmse_mm == pytest.approx(0, abs=1e-3)


def test_latency_runs_from_the_later_input_to_the_later_output():
    recording = make_recording()
    frames = Frames(recording, np.eye(4), simulator_truth(recording))
    assert frames.latency() == Latency(p50=12.0, p99=12.0, start_up=12.0)


def test_latency_is_that_of_a_running_node():
    recording = make_recording(14)
    first, *_, last = sorted(recording.times['cloud'])
    for stamp, slower in ((first, 150 * MS), (last, 8 * MS)):
        recording.times['cloud'][stamp] = Times(
            *(t + slower for t in recording.times['cloud'][stamp])
        )
    latency = Frames(recording, np.eye(4), simulator_truth(recording)).latency()
    assert latency.p50 == 12.0 and 12.0 < latency.p99 <= 20.0
    assert latency.start_up == 162.0


def test_frame_without_output_is_not_scored():
    recording = make_recording()
    lost = max(recording.times['depth'])
    del recording.times['depth'][lost], recording.bodies['depth'][lost]
    frames = Frames(recording, np.eye(4), simulator_truth(recording))
    assert len(frames) == 2
    assert lost not in frames.stamps


def test_errors_are_means_over_frames():
    recording = make_recording()
    frames = Frames(recording, np.eye(4), simulator_truth(recording))
    node, baseline = mean_scores([Score.of(scene) for scene in frames])
    assert node.rmse_mm == pytest.approx(500)
    assert node.mae_mm == pytest.approx(500)
    assert baseline.rmse_mm == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match='no frame has ground truth'):
        mean_scores([])


def test_held_out_rings_are_apart_from_the_played_ones(kitti_drive):
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices

    drive = KittiDrive(kitti_drive)
    truth = held_out_truth(drive)(drive.stamp_ns(3), np.zeros((375, 1242), np.float32))
    points = drive[3].points
    played = project_points(
        points[ring_indices(points) % 2 == 0], drive.T_camera_lidar, drive.camera
    )
    assert truth.shape == (375, 1242)
    assert not ((truth > 0) & (played > 0)).any()
    assert 0.5 < (truth > 0).sum() / (played > 0).sum() < 1.1


def test_source_of_a_drive_keeps_its_rings_and_rate(tmp_path):
    path = make_drive(tmp_path, 3)
    source = source_of(DemoConfig(kitti=path, rate_hz=10.0))
    assert source.n_frames == 3
    assert source.parameters['rings'] == 'even'
    # The drive has a frame a second.
    assert source.parameters['rate'] == pytest.approx(10)
    cut = source_of(DemoConfig(kitti=path, n_frames=2))
    assert cut.n_frames == cut.parameters['frames'] == 2
    with pytest.raises(DemoError, match='nowhere'):
        source_of(DemoConfig(kitti=tmp_path / 'nowhere'))


@pytest.mark.parametrize(
    ('option', 'reason'),
    [({'scene': 'moon'}, 'scene: expected one of street, indoor'), ({'lidar': 'x'}, 'lidar: exp')],
)
def test_a_scene_that_does_not_exist_is_named_before_anything_starts(option, reason):
    pytest.importorskip('trimesh')
    with pytest.raises(DemoError, match=reason):
        source_of(DemoConfig(**option))


def test_settings_out_of_range_are_refused():
    with pytest.raises(DemoError, match='frames: expected 1 to 300, got 301'):
        DemoConfig(n_frames=301)
    with pytest.raises(DemoError, match='rate'):
        DemoConfig(rate_hz=0)
    with pytest.raises(DemoError, match='unknown options colour'):
        DemoConfig(completion={'colour': 'red'})


def test_a_file_in_the_place_of_the_results_is_told(tmp_path):
    from typer.testing import CliRunner

    from dmd3c_ros.cli.app import app

    out = tmp_path / 'out'
    out.write_text('a file')
    result = CliRunner().invoke(app, ['demo', '--out', str(out), '--frames', '1'])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert 'error:' in result.output


# --- images ----------------------------------------------------------------------------------


def make_scene(seed: int = 0) -> Scene:
    depth = np.where(slanted_ground() > 0, slanted_ground(), 30).astype(np.float32)
    sparse = np.zeros_like(depth)
    sparse[::5, ::3] = depth[::5, ::3]
    rgb = np.random.default_rng(seed).integers(0, 255, (48, 80, 3), np.uint8)
    return Scene(rgb, sparse, sparse, depth, depth * 1.01)


def test_report_shows_every_panel_at_its_own_aspect(tmp_path):
    summary = Summary(
        60, 60, 0, Latency(31, 44, 60), 1834, 401, 2601, 'light', 'cpu', 'a street', 'exact'
    )
    scene = make_scene()
    write_report(tmp_path / 'report.png', scene, scene.depth / 40, CAMERA, summary)
    page = np.asarray(Image.open(tmp_path / 'report.png'))
    assert page.shape[1] == 2 * 800 + 3 * 16
    # Two panels side by side, three rows of them, and the wide one.
    assert page.shape[0] > 3 * 480 + 600
    assert page.std() > 20


def test_animation_has_an_image_for_each_frame(tmp_path):
    animation = Animation(width=120)
    for seed in range(3):
        animation.add(make_scene(seed))
    animation.write(tmp_path / 'drive.webp', rate_hz=10)
    with Image.open(tmp_path / 'drive.webp') as image:
        assert image.n_frames == 3
        assert image.width == 2 * 120 + 3 * 6


# --- processes -------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that children can run; gives its name."""

    def write(code: str) -> str:
        (tmp_path / 'child_code.py').write_text(code)
        monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
        return 'child_code'

    return write


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited too long'
        time.sleep(0.05)


def test_child_that_fails_is_reported_with_the_end_of_its_log(module, tmp_path):
    name = module('print("the cause")\nraise SystemExit(3)\n')
    with Child(name, [], tmp_path / 'logs/child.log') as child:
        wait_for(lambda: child.exit_code is not None)
        with pytest.raises(DemoError, match=r'exited with code 3.*\n.*the cause'):
            child.check()


@pytest.mark.parametrize(
    ('handler', 'exit_code'),
    [('lambda *_: sys.exit(0)', 0), ('signal.SIG_IGN', -signal.SIGTERM)],
)
def test_leaving_the_block_ends_the_child(module, tmp_path, handler, exit_code, monkeypatch):
    monkeypatch.setattr('dmd3c_ros.demo.processes._PATIENCE_S', {
        signal.SIGINT: 1.0 if exit_code else 30.0, signal.SIGTERM: 10.0, signal.SIGKILL: 10.0,
    })  # fmt: skip
    name = module(
        f'import signal, sys, time\nsignal.signal(signal.SIGINT, {handler})\n'
        'print("ready")\ntime.sleep(100)\n'
    )
    log = tmp_path / 'child.log'
    with pytest.raises(RuntimeError), Child(name, [], log) as child:
        wait_for(lambda: 'ready' in log.read_text())
        raise RuntimeError
    assert child.exit_code == exit_code


def test_domain_with_a_participant_is_passed_over():
    free = graph.free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(('', 7400 + 250 * free + 10))
        assert graph.free_domain() != free


# --- the whole -------------------------------------------------------------------------------


def start_demo(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, '-m', 'dmd3c_ros.cli', 'demo', '--model', 'nearest']
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'COLUMNS': '200', 'TERM': 'dumb'},
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for status in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = status.read_text().rpartition(')')[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def test_demo_completes_a_simulated_drive_over_real_topics(tmp_path):
    out = tmp_path / 'out'
    demo = start_demo('--out', out, '--frames', 3, '--rate', 2)
    output, _ = demo.communicate(timeout=170)
    assert demo.returncode == 0, output
    summary = json.loads((out / 'summary.json').read_text())
    # A machine busy with other things may drop a frame; then it has to be counted.
    assert summary['frames_in'] == 3
    assert summary['frames_out'] == 3 - summary['dropped'] > 0
    assert (summary['model'], summary['device']) == ('nearest', 'cpu')
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p99']
    # The node's own nearest-neighbour filling is the baseline.
    assert summary['rmse_mm'] == pytest.approx(summary['sparse_rmse_mm'], rel=1e-3)
    assert 0 < summary['mae_mm'] < summary['rmse_mm']
    names = {path.name for path in out.iterdir()}
    assert names == {'cloud.ply', 'depth', 'drive.webp', 'logs', 'report.png', 'summary.json'}
    assert len(list((out / 'depth').iterdir())) == summary['frames_out']


def test_interrupted_demo_leaves_no_process_behind(tmp_path):
    out = tmp_path / 'out'
    # The node needs the most time to start, and the drive is long enough to be interrupted.
    demo = start_demo('--out', out, '--frames', 200)
    log = out / 'logs/completion_node.log'
    wait_for(lambda: log.is_file() and 'active' in log.read_text(), 120)
    wait_for(lambda: len(children_of(demo.pid)) == 2, 60)
    children = children_of(demo.pid)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=120)
    assert demo.returncode == 130
    assert not [pid for pid in children if Path(f'/proc/{pid}').exists()]


def test_node_that_cannot_start_is_reported_with_its_reason(tmp_path):
    demo = start_demo('--out', tmp_path / 'out', '--model', 'no_such_model')
    output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert 'no_such_model' in output

"""What `dmd3c view` records: entities and times, read back from the .rrd file."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import browser
import commands
import numpy as np
import pytest
from bag_data import CAMERA, PERIOD_NS, START_NS, make_image, wall, write_bag, write_packed_bag
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from synthetic_drive import make_drive

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.selection import CLOUD as CLOUD_TYPE
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.io.depth_png import write_depth_png
from dmd3c_ros.io.images import write_rgb
from dmd3c_ros.io.ply import write_ply
from dmd3c_ros.viewing.frames import ViewFrame
from dmd3c_ros.viewing.rerun_log import (
    CLOUD,
    CONFIDENCE,
    DENSE,
    IMAGE,
    SPARSE,
    TRAJECTORY,
    RerunLog,
)


@pytest.fixture(autouse=True)
def can_read_recordings() -> None:
    # Not at the top: every process of a run imports every test file, and Rerun's and Arrow's
    # threads have no place in those that fork. Versions of Rerun for Python 3.10 cannot read.
    pytest.importorskip('rerun.chunk')


def invoke(*arguments: object, exit_code: int = 0) -> str:
    return ' '.join(commands.invoke(*arguments, exit_code=exit_code).split())


def chunks(path: Path) -> Iterator:
    """What a recording consists of."""
    from rerun.chunk import RrdReader

    return RrdReader(path).stream()


def recorded(path: Path) -> dict[str, set[int]]:
    """Times (ns) of each entity of a recording; none for what holds at all times."""
    found: dict[str, set[int]] = {}
    for chunk in chunks(path):
        times = found.setdefault(chunk.entity_path.lstrip('/'), set())
        if 'time' in chunk.timeline_names:
            column = chunk.to_record_batch().column('time')
            times.update(int(t) for t in column.to_numpy(zero_copy_only=False).astype(np.int64))
    return found


def times_of(count: int) -> set[int]:
    return {START_NS + number * PERIOD_NS for number in range(count)}


def test_every_kind_of_image_is_on_one_time_line(tmp_path):
    depth = np.full((CAMERA.height, CAMERA.width), 5, np.float32)
    with RerunLog('a drive', tmp_path / 'drive.rrd') as log:
        for number in range(3):
            pose = np.eye(4)
            pose[2, 3] = number
            stamp = START_NS + number * PERIOD_NS
            log.add(ViewFrame(stamp, make_image(number), depth, depth, depth / 9, CAMERA, pose))
    times = recorded(tmp_path / 'drive.rrd')
    for path in (IMAGE, SPARSE, DENSE, CONFIDENCE, CLOUD, TRAJECTORY, 'world/camera'):
        assert times[path] == times_of(3), path


def test_a_long_way_is_whole_and_takes_no_more_a_frame(tmp_path):
    with RerunLog('a way', tmp_path / 'way.rrd') as log:
        for number in range(450):
            pose = np.eye(4)
            pose[2, 3] = number
            log.add(ViewFrame(START_NS + number * PERIOD_NS, camera=CAMERA, T_world_camera=pose))
    logged, last = 0, {}
    for chunk in chunks(tmp_path / 'way.rrd'):
        if chunk.entity_path.startswith(f'/{TRAJECTORY}'):
            for (strip,) in chunk.to_record_batch().column('LineStrips3D:strips').to_pylist():
                logged, last[chunk.entity_path] = logged + len(strip), strip
    assert logged < 450 * 110
    # What is seen at the end: every strip begins where another one ends.
    points = sorted({point[2] for strip in last.values() for point in strip})
    assert points == list(range(450))
    assert sum(len(strip) - 1 for strip in last.values()) == 449


def test_the_cloud_stands_where_the_camera_saw_it(tmp_path):
    depth = np.zeros((CAMERA.height, CAMERA.width), np.float32)
    depth[12, 21], depth[12, 24] = 5, 7
    confidence = np.where(depth == 5, 1, 0.2).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    frame = ViewFrame(START_NS, make_image(1), None, depth, confidence, CAMERA, pose)
    with RerunLog('a point', tmp_path / 'point.rrd', min_confidence=0.5) as log:
        log.add(frame)
    (cloud,) = [c for c in chunks(tmp_path / 'point.rrd') if c.entity_path == f'/{CLOUD}']
    positions = cloud.to_record_batch().column('Points3D:positions')[0].as_py()
    # Pixel (21, 12) is 1 pixel right of the optical axis: 5 m / 30 pixels.
    np.testing.assert_allclose(positions, [[1 + 5 / 30, 2, 8]], rtol=1e-5)


def test_a_bag_with_depth_is_shown_without_a_model(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    outputs = ('confidence', 'sparse/image_rect', 'depth_registered/image_rect')
    chosen = [word for name in outputs for word in ('--output', name)]
    invoke('complete', 'bag', bag, tmp_path / 'dense', '--model', 'nearest', *chosen)
    text = invoke('view', tmp_path / 'dense', '--save', tmp_path / 'a.rrd')
    assert '3 frames' in text and 'model' not in text
    # A model that is named completes anew.
    absent = ('--weights', 'absent.pth')
    text = invoke('view', tmp_path / 'dense', '--save', tmp_path / 'd.rrd', *absent, exit_code=1)
    assert 'absent.pth' in text
    times = recorded(tmp_path / 'a.rrd')
    for path in (IMAGE, SPARSE, DENSE, CONFIDENCE, CLOUD, TRAJECTORY):
        assert times[path] == times_of(3), path
    # One without depth is completed on the way.
    text = invoke('view', bag, '--save', tmp_path / 'b.rrd', '--model', 'nearest', '--frames', '2')
    assert recorded(tmp_path / 'b.rrd')[DENSE] == times_of(2)
    with Bag(bag) as whole:
        form = StoragePlugin.SQLITE3, CompressionMode.FILE
        packed = write_packed_bag(tmp_path / 'packed', whole, *form)
    invoke('view', packed, '--save', tmp_path / 'c.rrd', '--model', 'nearest')
    assert recorded(tmp_path / 'c.rrd')[DENSE] == times_of(3)


def test_a_bag_without_sweeps_is_shown_without_a_trajectory(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    invoke('complete', 'bag', bag, tmp_path / 'dense', '--model', 'nearest')
    with Bag(tmp_path / 'dense') as whole, BagWriter(tmp_path / 'less', 'mcap') as writer:
        for record in whole.records():
            if record.topic.type != CLOUD_TYPE:
                message = whole.decode(record)
                writer.write(record.topic.name, record.topic.type, record.time_ns, message)
    text = invoke('view', tmp_path / 'less', '--save', tmp_path / 'a.rrd')
    assert 'no trajectory' in text
    times = recorded(tmp_path / 'a.rrd')
    assert times[DENSE] == times_of(3) and TRAJECTORY not in times


def test_a_drive_and_what_completed_it_are_shown(tmp_path):
    drive = make_drive(tmp_path)
    for path in (drive / 'velodyne_points' / 'data').iterdir():
        wall(6).tofile(path)
    (drive.parent / 'calib_velo_to_cam.txt').write_text('R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n')
    (drive.parent / 'calib_cam_to_cam.txt').write_text(
        'S_rect_02: 40 24\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 30 0 20 0 0 30 12 0 0 0 1 0\n'
    )
    invoke('view', drive, '--save', tmp_path / 'drive.rrd', '--model', 'nearest')
    times = recorded(tmp_path / 'drive.rrd')
    assert {len(times[path]) for path in (IMAGE, SPARSE, DENSE, CLOUD, TRAJECTORY)} == {3}
    invoke('complete', 'kitti', drive, '--out', tmp_path / 'run', '--model', 'nearest')
    options = ('--drive', drive, '--save', tmp_path / 'run.rrd')
    assert '3 frames' in invoke('view', tmp_path / 'run', *options)
    again = recorded(tmp_path / 'run.rrd')
    assert {path: again[path] for path in (IMAGE, SPARSE, DENSE)} == {
        path: times[path] for path in (IMAGE, SPARSE, DENSE)
    }


def test_what_a_demonstration_left_is_shown(tmp_path):
    for number in range(2):
        write_depth_png(tmp_path / f'out/depth/{number:06d}.png', np.full((9, 12), 4, np.float32))
    write_rgb(tmp_path / 'out/report.png', np.zeros((9, 12, 3), np.uint8))
    write_ply(tmp_path / 'out/cloud.ply', np.ones((5, 3)), np.ones((5, 3), np.uint8))
    invoke('view', tmp_path / 'out', '--save', tmp_path / 'out.rrd')
    times = recorded(tmp_path / 'out.rrd')
    assert times[DENSE] == {0, PERIOD_NS}
    assert times['report'] == times[f'{CLOUD}/file'] == set()


def test_what_cannot_be_shown_is_refused(tmp_path):
    text = invoke('view', tmp_path, '--save', tmp_path / 'a.rrd', exit_code=1)
    assert 'expected a drive, a bag, or depth images' in text
    assert 'found nothing' in invoke('view', tmp_path / 'absent.mcap', exit_code=1)
    # As the last frame of a bag whose clouds never come near its images.
    bag = write_bag(tmp_path / 'bag', lag_ns=10**10)
    text = invoke('view', bag, '--save', tmp_path / 'a.rrd', '--model', 'nearest', exit_code=1)
    assert 'no frame could be shown' in text
    assert not list(tmp_path.glob('*.rrd')) and not list(tmp_path.glob('.*.tmp'))


def view(*arguments: object, **environment: str) -> subprocess.Popen:
    """The command in a process of its own."""
    words = ('-m', 'dmd3c_ros.cli', 'view', *map(str, arguments), '--model', 'nearest')
    return subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {'COLUMNS': '400', 'TERM': 'dumb', **environment},
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_without_a_display_it_says_what_does_without(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    process = view(bag, DISPLAY='', WAYLAND_DISPLAY='')
    text = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert 'no display' in text and '--save' in text and '--web' in text
    assert 'Traceback' not in text


def test_the_viewer_beside_the_interpreter_is_started(tmp_path, monkeypatch):
    bin_folder, told = tmp_path / 'bin', tmp_path / 'told'
    bin_folder.mkdir()
    (bin_folder / 'rerun').write_text(f'#!/bin/sh\necho started > {told}\nsleep 5\n')
    (bin_folder / 'rerun').chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(bin_folder / 'python'))
    monkeypatch.setenv('PATH', '/usr/bin:/bin')
    monkeypatch.setenv('DISPLAY', ':99')
    # To a viewer that only says that it was started.
    monkeypatch.setattr('rerun.RecordingStream.connect_grpc', lambda *_, **__: None)
    RerunLog('a drive')
    deadline = time.monotonic() + 30
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told.exists()
    (bin_folder / 'rerun').unlink()
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(OSError, match='no viewer: expected the program rerun in'):
        RerunLog('a drive')


def test_a_recording_that_does_not_fit_on_the_disk_is_no_half_a_file(tmp_path, monkeypatch):
    bag, usage, looks = write_bag(tmp_path / 'bag'), shutil.disk_usage(tmp_path), []

    def filling(path):
        looks.append(path)
        return usage if len(looks) < 3 else usage._replace(free=10**6)

    monkeypatch.setattr(shutil, 'disk_usage', filling)
    save = ('--save', tmp_path / 'out/a.rrd', '--model', 'nearest')
    text = invoke('view', bag, *save, exit_code=1)
    assert 'a.rrd: no space left' in text
    assert set(looks) == {tmp_path / 'out'} and not list((tmp_path / 'out').iterdir())
    monkeypatch.undo()
    (tmp_path / 'file').touch()
    text = invoke('view', bag, '--save', tmp_path / 'file/a.rrd', exit_code=1)
    assert 'file: expected a folder' in text
    text = invoke('view', bag, '--save', tmp_path / 'a.txt', exit_code=1)
    assert 'NAME.rrd' in text


def free_port() -> int:
    """A port that nobody listens at, nor at the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(('', 0))
            port = first.getsockname()[1]
            try:
                second.bind(('', port + 1))
            except OSError:
                continue
            return port


def test_a_browser_shows_what_is_served_to_it(tmp_path):
    browser.program()
    bag, port = write_bag(tmp_path / 'bag'), free_port()
    process = view(bag, '--web', '--port', port, DISPLAY='', WAYLAND_DISPLAY='')
    try:
        url = next(m[0] for line in process.stderr if (m := re.search(r'http://127\S+', line)))
        with browser.Browser(url) as page:
            # The image's own colour, which nothing of the viewer has.
            color, deadline = make_image(2)[0, 0].astype(int), time.monotonic() + 120
            seen = 0
            while seen < 1000 and time.monotonic() < deadline:
                time.sleep(0.5)
                seen = (abs(page.screenshot() - color).max(axis=-1) < 8).sum()
        assert seen >= 1000
        text = invoke('view', bag, '--web', '--port', port, '--model', 'nearest', exit_code=1)
        assert f'port {port} cannot be used' in text
    finally:
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=60)[1]
    assert process.returncode == 0, text
    assert 'Traceback' not in text

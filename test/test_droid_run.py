"""DROID-SLAM's Python path on a CPU, in a repository that is laid out as its own."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import invoke

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.io.tum import TumWriter
from dmd3c_ros.slam.droid import DroidSettings
from dmd3c_ros.slam.droid_checkout import DroidCheckout
from dmd3c_ros.slam.droid_flow import OpticalFlow
from dmd3c_ros.slam.droid_run import ARRIVAL, DroidError, DroidOnCpu, read_sequence

HEIGHT, WIDTH = 150, 330
# The names, shapes and dtypes that the feeder meets in princeton-vl/DROID-SLAM as of 2dfd39f0:
# Droid(args) with net, video, track and terminate; DepthVideo.append(t, image, pose, disparity,
# depth, intrinsics / 8, ...), which samples depth[3::8, 3::8]; droid_backends.ba.
DROID_NET = """
import torch

class UpdateModule(torch.nn.Module):
    def forward(self, net, inp, corr, flow=None, ii=None, jj=None):
        raise AssertionError('the network has random weights')

class DroidNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fnet = torch.nn.Conv2d(3, 1, 1)
        self.update = UpdateModule()
"""
DROID = """
from types import SimpleNamespace
import droid_backends
import torch
from droid_net import DroidNet
from lietorch import SE3

class Video:
    def __init__(self, size, count):
        height, width = size[0] // 8, size[1] // 8
        self.counter = SimpleNamespace(value=0)
        self.tstamp = torch.zeros(count, device='cuda:0')
        self.images = torch.zeros(count, 3, *size, device='cuda:0', dtype=torch.uint8)
        self.poses = SE3.Identity(count).data
        self.disps = torch.ones(count, height, width, device='cuda:0')
        self.disps_sens = torch.zeros(count, height, width, device='cuda:0')
        self.intrinsics = torch.zeros(count, 4, device='cuda:0')

    def append(self, tstamp, image, pose, disp, depth, intrinsics):
        n = self.counter.value
        self.tstamp[n], self.images[n], self.intrinsics[n] = tstamp, image, intrinsics
        depth = depth[FIRST::8, FIRST::8].cuda()
        self.disps_sens[n] = torch.where(depth > 0, 1.0 / depth, depth)
        self.counter.value += 1

class Droid:
    def __init__(self, args):
        self.net = DroidNet()
        self.net.load_state_dict(torch.load(args.weights))
        self.net.to('cuda:0').eval()
        self.video = Video(args.image_size, args.buffer)

    def track(self, tstamp, image, depth=None, intrinsics=None):
        mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        seen = image[None, :, [2, 1, 0]] / 255.0
        seen = (seen[0] - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        with torch.no_grad():
            self.net.fnet.forward = lambda x: x
            self.net.fnet(seen[None])
            if self.video.counter.value:
                net, delta, weight = self.net.update(None, None, None)
                assert delta.shape == weight.shape == (1, 1, *self.video.disps.shape[1:], 2)
                if delta.norm(dim=-1).mean() < 0.1:
                    return
            self.video.append(tstamp, image[0], None, None, depth, intrinsics / 8.0)

    def terminate(self, stream=None):
        count = self.video.counter.value
        ii, jj = torch.tensor([0, 1]), torch.tensor([1, 0])
        ht, wd = self.video.disps.shape[1:]
        grid = torch.stack(torch.meshgrid(torch.arange(float(ht)), torch.arange(float(wd)),
                                          indexing='ij')[::-1])
        flow = torch.zeros(1, 2, 4, ht, wd)
        _, delta, weight, eta, upmask = self.net.update(None, None, None, flow, ii, jj)
        target = (grid + delta[0].permute(0, 3, 1, 2)).contiguous()
        weight = weight[0].permute(0, 3, 1, 2).contiguous()
        assert upmask.shape == (1, 2, 576, ht, wd)
        for _ in range(20):
            droid_backends.ba(self.video.poses, self.video.disps, self.video.intrinsics[0],
                self.video.disps_sens, target, weight, eta[0], ii, jj, 1, 2, 2, 1e-4, 0.1, False)
        poses = [self.video.poses[min(int(t), count - 1)] for t, image, K in stream]
        return SE3(torch.stack(poses)).inv().data.cpu().numpy()
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    def make(first: int = 3):
        path = tmp_path / f'DROID-SLAM{first}'
        (path / 'droid_slam').mkdir(parents=True)
        (path / 'droid_slam/droid.py').write_text(
            DROID.replace('FIRST', str(first)).replace('ADJUSTMENTS', '20')
        )
        (path / 'droid_slam/droid_net.py').write_text(DROID_NET)
        for name in ('droid', 'droid_net'):
            sys.modules.pop(name, None)
        return path

    monkeypatch.setattr(sys, 'path', list(sys.path))
    yield make
    for name in ('droid', 'droid_net'):
        sys.modules.pop(name, None)


def texture() -> np.ndarray:
    generator = np.random.default_rng(4)
    return np.kron(generator.integers(0, 256, (40, 90, 3)), np.ones((4, 4, 1))).astype(np.uint8)


def write_sequence(folder, frames: int = 3):
    """A camera that moves 20 cm to the right a frame, along a wavy wall with holes."""
    K = np.array([[200.0, 0, 164.5], [0, 200, 74.5], [0, 0, 1]])
    with TumWriter(folder, 500) as writer:
        for number in range(frames):
            shift = 4 * number
            rgb = texture()[:HEIGHT, shift : shift + WIDTH]
            depth = np.full((HEIGHT, WIDTH), 10, np.float32)
            depth[3::8] += np.sin(np.arange(WIDTH))
            depth[:40] = 0
            writer.add(number * 10**8, rgb, depth, Camera.from_K(K, WIDTH, HEIGHT))
    return folder


def test_what_arrives_of_a_sequence_is_compared_with_its_frames(repository, tmp_path):
    sequence = write_sequence(tmp_path / 'sequence')
    droid = DroidOnCpu(DroidCheckout(str(repository()), droid_options='{buffer: 8}'))
    track = droid.track(sequence)
    assert track.frames == (0, 1, 2)
    arrival = json.loads((sequence / ARRIVAL).read_text())
    assert (arrival['frames'], arrival['size']) == (3, [144, 328])
    assert (arrival['keyframes'], arrival['kept']) == (3, 3)
    assert arrival['invented'] == arrival['not_finite'] == 0
    assert arrival['disparity_error'] < 1e-6
    # Rows 3, 11, 19, 27 and 35 of 18 are unknown.
    assert arrival['known'] == pytest.approx(13 / 18)
    assert arrival['held'] == pytest.approx(13 / 18)
    assert (arrival['adjustments'], arrival['edges']) == (20, 2)
    assert arrival['colour_error'] < 0.02
    # 4 of 200 pixels at 10 m. In metres, the pixels without depth would start at a disparity so
    # large that they hold the camera where it is.
    assert track.poses[1][0, 3] == pytest.approx(0.2, abs=0.03)
    assert arrival['unit_m'] == pytest.approx(10, abs=0.5)
    droid = replace(droid, settings=DroidSettings(unit=1))
    assert abs(droid.track(sequence).poses[1][0, 3]) < 0.05


def test_a_repository_that_samples_other_pixels_is_told(repository, tmp_path):
    sequence = write_sequence(tmp_path / 'sequence')
    checkout = DroidCheckout(str(repository(first=4)), droid_options='{buffer: 8}')
    DroidOnCpu(checkout).track(sequence)
    assert json.loads((sequence / ARRIVAL).read_text())['disparity_error'] > 1e-4
    DroidOnCpu(checkout, DroidSettings(channels='rgb')).track(sequence)
    assert json.loads((sequence / ARRIVAL).read_text())['colour_error'] < 0.02


def test_colours_that_arrive_reversed_are_told(repository, tmp_path):
    folder = tmp_path / 'sequence'
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0] = texture()[:HEIGHT, :WIDTH, 0]
    K = np.array([[200.0, 0, 164.5], [0, 200, 74.5], [0, 0, 1]])
    with TumWriter(folder, 500) as writer:
        for number in range(2):
            depth = np.full((HEIGHT, WIDTH), 10, np.float32)
            image = np.roll(red, 4 * number, axis=1)
            writer.add(number, image, depth, Camera.from_K(K, WIDTH, HEIGHT))
    checkout = DroidCheckout(str(repository()), droid_options='{buffer: 8}')
    for channels, low, high in (('bgr', 0, 0.02), ('rgb', 0.3, 1)):
        DroidOnCpu(checkout, DroidSettings(channels=channels)).track(folder)
        error = json.loads((folder / ARRIVAL).read_text())['colour_error']
        assert low <= error <= high


def test_a_sequence_comes_back_as_it_was_written(tmp_path):
    frames = list(read_sequence(write_sequence(tmp_path / 'sequence')))
    assert [frame.stamp_ns for frame in frames] == [0, 10**8, 2 * 10**8]
    np.testing.assert_array_equal(frames[1].rgb, texture()[:HEIGHT, 4 : WIDTH + 4])
    assert frames[0].depth[0, 0] == 0
    assert frames[0].depth[60, 100] == pytest.approx(10)
    camera = frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (200, 200, 164.5, 74.5)


def test_droid_slam_that_gives_up_is_an_error_that_names_the_sequence(repository, tmp_path):
    sequence = write_sequence(tmp_path / 'sequence')
    droid = DroidOnCpu(DroidCheckout(str(repository()), droid_options='{buffer: 2}'))
    with pytest.raises(DroidError, match=r'sequence: IndexError: index 2 is out of bounds'):
        droid.track(sequence)
    with pytest.raises(ValueError, match="flow: expected opencv or network, got 'raft'"):
        DroidOnCpu(DroidCheckout('here'), flow='raft')
    absent = tmp_path / 'absent'
    text = invoke('bench', 'droid', tmp_path / 'out', '--repository', absent, exit_code=1)
    assert f"expected DROID-SLAM's checkout, found no {absent}" in text.replace('\n', ' ')


def test_a_kind_without_depth_is_refused(repository, tmp_path):
    options = ['--repository', repository(), '--depth', 'monocular']
    text = invoke('bench', 'droid', tmp_path / 'out', *options, exit_code=1)
    assert 'expected kinds with depth, got monocular' in text


def test_flow_is_measured_where_depth_is_sampled():
    flow = OpticalFlow()
    images = [
        torch.from_numpy(texture()[:144, x : x + 328].transpose(2, 0, 1).copy()) for x in (0, 6)
    ]
    flow.video = type('Video', (), {'images': torch.stack(images), 'tstamp': torch.tensor([0, 1])})
    moved = torch.zeros(1, 2, 4, 18, 41)
    moved[:, :, 1] = 0.25
    net = object()
    ii, jj = torch.tensor([0, 1]), torch.tensor([1, 0])
    same, delta, weight, eta, _ = flow(net, None, None, moved, ii, jj)
    assert same is net and delta.shape == weight.shape == (1, 2, 18, 41, 2)
    assert eta.shape == (1, 2, 18, 41)
    inner = delta[0, :, 2:-2, 2:-2]
    expected = torch.tensor([[-0.75, -0.25], [0.75, -0.25]])
    torch.testing.assert_close(inner.flatten(1, 2).median(1).values, expected, atol=0.05, rtol=0)
    assert weight.median() > 0.9
    # What leaves the image has nowhere to come back from.
    assert weight[0, 0, :, 0].max() < 0.1

"""completion_node with awkward cameras, over real topics: raw, compressed, several of them."""

import array

import cv2
import distorted_camera as bent
import numpy as np
import pytest
import ros_graph
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from distorted_camera import EQUIDISTANT, MODELS
from ros_graph import NodeProcess, Probe, camera_info, make_image
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from dmd3c_ros.core.distortion import Distortion
from dmd3c_ros.messages.cameras import camera_from_info, camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.images import depth_from_image

MODULE = 'dmd3c_ros.completion_node'
IDENTITY = '[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]'
CAMERA = bent.rectified(bent.turned(2))
POINTS = bent.points_ahead(CAMERA)


def start(folder, *parameters: str, remappings: tuple[str, ...] = ()) -> NodeProcess:
    words = [word for parameter in ('model:=nearest', *parameters) for word in ('-p', parameter)]
    words += [word for remapping in remappings for word in ('-r', remapping)]
    return NodeProcess(MODULE, folder, *words)


def stop(*nodes: NodeProcess) -> None:
    for node in nodes:
        assert node.stop() == 0, node.log
        assert 'Traceback' not in node.log


@pytest.fixture(scope='module')
def node(folder):
    """A node that rectifies compressed images."""
    node = start(
        folder,
        f'T_camera_lidar:={IDENTITY}',
        'rectify:=true',
        'image_transport:=compressed',
        'preserve_lidar:=true',
        'filter_hidden_points:=never',
        'report_period:=0.5',
        remappings=('image_rect:=cam/image_raw', 'camera_info:=cam/camera_info'),
    )
    yield node
    stop(node)


INPUTS = {
    'image_rect': ('cam/image_raw/compressed', CompressedImage),
    'camera_info': ('cam/camera_info', CameraInfo),
}


@pytest.fixture
def probe(folder):
    probe = Probe(inputs=INPUTS)
    yield probe
    probe.close()


def compressed(rgb: np.ndarray) -> CompressedImage:
    data = cv2.imencode('.png', np.ascontiguousarray(rgb[..., ::-1]))[1]
    image = CompressedImage(header=Header(frame_id='lens'), format='rgb8; png compressed bgr8')
    image.data = array.array('B', data.tobytes())
    return image


def distorted(lens) -> dict:
    """Image, CameraInfo and sweep of a distorted camera that sees a spot at each point."""
    header = Header(frame_id='lens')
    return {
        'image': compressed(bent.image_of(bent.raw_pixels(POINTS, lens))),
        'info': camera_to_info(CAMERA, header, Distortion(lens.model, bent.K, lens.D)),
        'cloud': points_to_cloud(POINTS.astype(np.float32), Header(frame_id='lidar')),
    }


OUTPUTS = {
    'depth_registered/image_rect': Image,
    'depth_registered/camera_info': CameraInfo,
    'rectified/image_rect': Image,
    'rectified/camera_info': CameraInfo,
}


@pytest.mark.parametrize('lens', MODELS, ids=lambda lens: lens.model)
def test_points_fall_on_what_a_distorted_camera_sees(node, probe, lens):
    outputs = probe.complete(OUTPUTS, **distorted(lens))
    shown = image_to_rgb(outputs['rectified/image_rect'])
    depth = depth_from_image(outputs['depth_registered/image_rect'])
    pixels, z = CAMERA.project(POINTS)
    for pixel, metres in zip(pixels, z, strict=True):
        column, row = np.rint(pixel).astype(int)
        assert depth[row, column] == pytest.approx(metres, rel=1e-4)
        assert np.hypot(*(bent.spot_at(shown, pixel) - pixel)) < 0.1
    for topic in ('depth_registered/camera_info', 'rectified/camera_info'):
        assert not any(outputs[topic].d)
        np.testing.assert_allclose(camera_from_info(outputs[topic]).P, CAMERA.P)
    assert all(message.header.frame_id == 'lens' for message in outputs.values())


def values_of(probe, reports: list, condition) -> dict[str, str]:
    """Values of the next report that meets the condition."""
    found = {}

    def told() -> bool:
        for message in reports:
            (status,) = message.status
            values = {item.key: item.value for item in status.values}
            if condition(status, values):
                found.update(values)
                return True
        reports.clear()
        return False

    assert probe.wait(told)
    return found


def test_diagnostics_tell_rates_residuals_steps_and_what_it_runs_on(node, probe):
    reports = probe.listen('/diagnostics', DiagnosticArray)
    probe.complete(OUTPUTS, **distorted(EQUIDISTANT))
    values = values_of(probe, reports, lambda status, values: float(values['rate_out_hz']) > 0)
    for topic in ('image_rect', 'camera_info', 'points'):
        assert float(values[f'rate_{topic}_hz']) > 0
    assert float(values['pairing_residual_median_ms']) == 0
    steps = ('waiting', 'decode', 'rectify', 'project', 'filter', 'network', 'publish')
    assert sum(float(values[f'{step}_p50_ms']) for step in steps) > 0
    assert (values['model'], values['device'], values['backend']) == ('nearest', 'cpu', 'eager')
    assert 50 < float(values['memory_mb']) < 20_000


def test_diagnostics_name_why_frames_fail(node, probe):
    reports = probe.listen('/diagnostics', DiagnosticArray)
    probe.listen('depth_registered/image_rect', Image)
    assert probe.wait(probe.heard)
    messages = distorted(EQUIDISTANT)
    messages['cloud'] = points_to_cloud(-POINTS.astype(np.float32), Header(frame_id='lidar'))

    def failing(status, values) -> bool:
        probe.publish(**messages)
        return (
            status.level == DiagnosticStatus.ERROR
            and f'no frame completed: points: none of {len(POINTS)} falls into the image'
            in status.message
        )

    values = values_of(probe, reports, failing)
    cause = 'failed: points: none of # falls into the image; check the extrinsics'
    assert int(values[cause]) > 0


def test_two_cameras_share_one_lidar(folder, node):
    # As `completion.launch.py cameras:=front,rear` starts them.
    names = ('front', 'rear')
    nodes = [
        start(
            folder,
            f'T_camera_lidar:={ros_graph.T_CAMERA_LIDAR}',
            remappings=(f'__ns:=/{name}', 'points:=/lidar'),
        )
        for name in names
    ]
    sizes = {'front': (64, 48), 'rear': (40, 30)}
    topics = {
        f'{name}/{topic}': kind
        for name in names
        for topic, kind in (('image_rect', Image), ('camera_info', CameraInfo))
    }
    probe = Probe(publishing=False)
    try:
        publishers = {
            topic: probe.node.create_publisher(kind, topic, ros_graph.RELIABLE)
            for topic, kind in {**topics, 'lidar': type(ros_graph.wall())}.items()
        }
        depths = {
            name: probe.listen(f'{name}/depth_registered/image_rect', Image) for name in names
        }
        assert probe.wait(
            lambda: (
                all(p.get_subscription_count() for p in publishers.values())
                and publishers['lidar'].get_subscription_count() == 2
                and probe.heard()
            )
        )
        stamp = 0

        def both() -> bool:
            nonlocal stamp
            stamp += 1
            for topic, publisher in publishers.items():
                name, _, kind = topic.partition('/')
                make = {'image_rect': make_image, 'camera_info': camera_info}.get(kind)
                message = make(*sizes[name]) if make else ros_graph.wall()
                message.header.stamp.sec = stamp
                publisher.publish(message)
            probe.spin(0.3)
            return all(depths.values())

        assert probe.wait(both)
        for name, (width, height) in sizes.items():
            depth = depth_from_image(depths[name][-1])
            assert depth.shape == (height, width)
            np.testing.assert_allclose(depth, ros_graph.WALL_M + ros_graph.OFFSET_M, rtol=1e-5)
    finally:
        probe.close()
        stop(*nodes)

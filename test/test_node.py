"""completion_node in a process of its own, over real topics."""

import re
import signal

import numpy as np
import pytest
import ros_graph
from compressed_depth import decode_depth
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from ros_graph import (
    NodeProcess,
    camera_info,
    cloud_as,
    lasting,
    make_image,
    parameters,
    wall_points,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from dmd3c_ros.messages.clouds import cloud_to_points
from dmd3c_ros.messages.decoding import compressed_to_rgb, image_to_rgb
from dmd3c_ros.messages.images import depth_from_image

MODULE = 'dmd3c_ros.completion_node'
DEPTH = {'depth_registered/image_rect': Image}
ALL = {
    **DEPTH,
    'depth_registered/camera_info': CameraInfo,
    'depth_registered/points': PointCloud2,
    'depth_registered/color': Image,
    'confidence': Image,
    'sparse/image_rect': Image,
    'sparse/overlay': Image,
}
TRUE_DEPTH = ros_graph.WALL_M + ros_graph.OFFSET_M
FLOATS = {'names': ['x', 'y', 'z'], 'formats': ['<f4'] * 3}


@pytest.fixture(scope='module')
def node(folder):
    """A running node; no test of this module may stop it."""
    arguments = parameters(
        model='nearest', report_period=0.5, T_camera_lidar=ros_graph.T_CAMERA_LIDAR
    )
    with lasting(NodeProcess(MODULE, folder, *arguments)) as process:
        yield process


def depth_of(outputs: dict) -> np.ndarray:
    return depth_from_image(outputs['depth_registered/image_rect'])


def assert_good(outputs: dict) -> None:
    np.testing.assert_allclose(depth_of(outputs), TRUE_DEPTH, rtol=1e-5)


# ---------------------------------------------------------------- what comes out


def test_a_pair_gives_every_output_under_the_images_header(node, probe):
    outputs = probe.complete(ALL)
    assert_good(outputs)
    for message in outputs.values():
        assert message.header.frame_id == 'lens'
    size = (ros_graph.HEIGHT, ros_graph.WIDTH)
    assert all((message.height, message.width) == size for message in outputs.values())
    assert outputs['depth_registered/image_rect'].encoding == '32FC1'
    assert outputs['depth_registered/color'].encoding == 'rgb8'
    sparse = depth_from_image(outputs['sparse/image_rect'])
    assert 0 < (sparse > 0).mean() < 1
    drawn = image_to_rgb(outputs['sparse/overlay'])
    np.testing.assert_array_equal((drawn != (10, 20, 250)).any(-1), sparse > 0)
    assert list(outputs['depth_registered/camera_info'].p) == list(camera_info().p)


def test_the_cloud_shows_the_wall_where_the_camera_sees_it(node, probe):
    outputs = probe.complete(ALL)
    cloud = outputs['depth_registered/points']
    points = cloud_to_points(cloud)
    assert len(points) == cloud.width * cloud.height
    np.testing.assert_allclose(points[:, 2], TRUE_DEPTH, rtol=1e-5)
    uv, _ = ros_graph.camera().project(points)
    np.testing.assert_allclose(uv[0], [0, 0], atol=1e-3)
    np.testing.assert_allclose(uv[-1], [63, 47], atol=1e-3)
    colors = np.frombuffer(cloud.data, np.uint32).reshape(-1, 4)[:, 3]
    assert (colors == 10 << 16 | 20 << 8 | 250).all()


def test_inputs_are_subscribed_only_while_somebody_wants_an_output(node, probe):
    probe.complete({'sparse/image_rect': Image})
    probe.ignore('sparse/image_rect')
    inputs = probe.publishers.values()
    assert probe.wait(lambda: not any(p.get_subscription_count() for p in inputs))
    reports = probe.listen('/diagnostics', DiagnosticArray)
    assert counts(probe, reports)['inputs'].startswith('not subscribed')
    assert reports[-1].status[0].level == DiagnosticStatus.OK
    assert 'no output has a subscriber' in node.log
    probe.complete({'sparse/image_rect': Image})


def test_nothing_is_computed_for_an_output_that_nobody_wants(node, probe):
    set_parameter(probe, 'lazy', **truth_value(False))
    try:
        inputs = probe.publishers.values()
        assert probe.wait(lambda: all(p.get_subscription_count() for p in inputs))
        reports = probe.listen('/diagnostics', DiagnosticArray)
        count = int(counts(probe, reports)['unwanted'])

        def unwanted_grows():
            probe.publish()
            probe.spin(0.2)
            return int(counts(probe, reports)['unwanted']) > count

        assert probe.wait(unwanted_grows)
    finally:
        set_parameter(probe, 'lazy', **truth_value(True))


def test_compressed_outputs_and_obstacles_show_the_same(node, probe):
    outputs = probe.complete(
        {
            'depth_registered/image_rect': Image,
            'depth_registered/image_rect/compressedDepth': CompressedImage,
            'depth_registered/color/compressed': CompressedImage,
            'rectified/image_rect/compressed': CompressedImage,
            'obstacles': PointCloud2,
        }
    )
    depth = depth_from_image(outputs['depth_registered/image_rect'])
    packed = outputs['depth_registered/image_rect/compressedDepth']
    assert packed.format == '32FC1; compressedDepth png'
    np.testing.assert_allclose(decode_depth(packed), depth, rtol=1e-3)
    seen = compressed_to_rgb(outputs['rectified/image_rect/compressed'])
    assert np.abs(seen.astype(int) - (10, 20, 250)).max() <= 6
    assert compressed_to_rgb(outputs['depth_registered/color/compressed']).shape == seen.shape
    points = cloud_to_points(outputs['obstacles'])
    # Those of the wall above the lowest height and below the highest one.
    assert 500 < len(points) < depth.size
    assert -points[:, 1].max() >= -3 and -points[:, 1].min() <= 2
    np.testing.assert_allclose(points[:, 2], TRUE_DEPTH, rtol=1e-5)


def counts(probe, reports) -> dict:
    seen = len(reports)
    assert probe.wait(lambda: len(reports) > seen)
    return {item.key: item.value for item in reports[-1].status[0].values}


def test_diagnostics_count_frames_and_latency(node, probe):
    reports = probe.listen('/diagnostics', DiagnosticArray)
    before = counts(probe, reports)
    probe.complete(DEPTH)
    probe.wait(lambda: int(counts(probe, reports)['frames_out']) > int(before['frames_out']))
    after = counts(probe, reports)
    assert int(after['frames_out']) > int(before['frames_out'])
    assert int(after['frames_in']) > int(before['frames_in'])
    assert 0 < float(after['latency_p50_ms']) <= float(after['latency_p99_ms'])


# ---------------------------------------------------------------- clouds of every kind

EXTRA = {
    'names': ['ring', 'z', 'y', 'x'],
    'formats': ['<u2', '<f4', '<f4', '<f4'],
    'offsets': [0, 3, 8, 12],
    'itemsize': 19,
}


def with_nan(points):
    points = points.copy()
    points[::3] = np.nan
    return points


@pytest.mark.parametrize(
    'cloud',
    [
        cloud_as(wall_points(), {**FLOATS, 'formats': ['<f8'] * 3}),
        cloud_as(wall_points(), EXTRA),
        cloud_as(wall_points(), {**FLOATS, 'formats': ['>f4'] * 3}),
        cloud_as(with_nan(wall_points()), FLOATS, (50, 60)),
    ],
    ids=['float64', 'extra fields', 'big-endian', 'organised with NaN'],
)
def test_oddly_laid_out_clouds_are_completed(node, probe, cloud):
    assert_good(probe.complete(DEPTH, cloud=cloud))


# ---------------------------------------------------------------- what is refused


def changed(message, **changes):
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def uncalibrated() -> CameraInfo:
    return changed(camera_info(), p=[0.0] * 12, k=[0.0] * 9)


BAD = {
    'empty cloud': (
        {'cloud': cloud_as(wall_points()[:0], FLOATS)},
        'points: expected some points',
    ),
    'NaN cloud': (
        {'cloud': cloud_as(wall_points() * np.nan, FLOATS)},
        'points: expected valid points, got 3000',
    ),
    'cloud without z': (
        {'cloud': changed(cloud_as(wall_points(), FLOATS), fields=[])},
        'points: expected fields x, y and z',
    ),
    'cut cloud': (
        {'cloud': changed(cloud_as(wall_points(), FLOATS), width=9000)},
        'points: expected 108000 bytes for 9000x1 points, got 36000',
    ),
    'cloud behind the camera': (
        {'cloud': cloud_as(-wall_points(), FLOATS)},
        'points: none of 3000 falls into the image',
    ),
    'float image': (
        {'image': changed(make_image(), encoding='32FC1')},
        "image: expected a colour or grey encoding, got '32FC1'",
    ),
    'cut image': ({'image': changed(make_image(), height=96)}, 'image: expected 18432 bytes'),
    'uncalibrated camera': ({'info': uncalibrated()}, 'camera_info: camera is not calibrated'),
    'size unlike the image': (
        {'info': camera_info(128, 96)},
        'camera_info: expected the size of the image, 64x48, got 128x96',
    ),
}


@pytest.mark.parametrize(('messages', 'text'), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_and_the_next_good_pair_completed(node, probe, messages, text):
    depth = probe.listen(*next(iter(DEPTH.items())))
    assert probe.wait(probe.heard)
    stamps = set()

    def named():
        stamps.add(probe.publish(**messages)[0])
        probe.spin(0.1)
        return text in node.log

    assert probe.wait(named), node.log
    assert_good(probe.complete(DEPTH))
    assert not stamps & {message.header.stamp.sec for message in depth}


def test_a_trouble_that_repeats_is_logged_once_in_a_while(node, probe):
    text = "got 'yuv9'"
    probe.listen(*next(iter(DEPTH.items())))
    assert probe.wait(probe.heard)
    image = changed(make_image(), encoding='yuv9')

    def named():
        probe.publish(image=image)
        probe.spin(0.02)
        return text in node.log

    assert probe.wait(named)
    for _ in range(40):
        probe.publish(image=image)
        probe.spin(0.02)
    assert 1 <= node.log.count(text) <= 3


def test_frames_that_take_too_long_are_completed_at_a_smaller_scale_and_it_is_told(node, probe):
    reports = probe.listen('/diagnostics', DiagnosticArray)

    def limit() -> float:
        probe.complete(DEPTH)
        return float(counts(probe, reports)['scale_limit'])

    assert limit() == 1
    # No machine is as quick.
    set_parameter(probe, 'max_latency', **number_value(1e-5))
    try:
        assert probe.wait(lambda: limit() < 1)
        status = reports[-1].status[0]
        assert status.level == DiagnosticStatus.WARN
        assert re.search(
            r'too slow for max_latency 1e-05 s: scale limited to 0\.\d+', status.message
        )
    finally:
        set_parameter(probe, 'max_latency', **number_value(0.0))
    assert probe.wait(lambda: limit() == 1)


def test_the_size_may_change_in_mid_stream(node, probe):
    assert depth_of(probe.complete(DEPTH)).shape == (48, 64)
    outputs = probe.complete(DEPTH, image=make_image(80, 36), info=camera_info(80, 36))
    assert depth_of(outputs).shape == (36, 80)
    assert_good(outputs)
    assert_good(probe.complete(DEPTH))


def test_unsynchronized_inputs_are_reported_with_their_gap(node, probe):
    probe.listen(*next(iter(DEPTH.items())))
    assert probe.wait(probe.heard)

    def reported():
        probe.publish(cloud_delay_s=5)
        probe.spin(0.1)
        return re.search(r'nothing pairs: .*points 5\.000 s apart, sync_slop is 0\.05 s', node.log)

    assert probe.wait(reported), node.log
    assert_good(probe.complete(DEPTH))


def test_a_silent_topic_is_named(node):
    alone = ros_graph.Probe(publishing=False)
    alone.listen(*next(iter(DEPTH.items())))
    found = alone.wait(lambda: 'no message on /image_rect (no publisher)' in node.log)
    alone.close()
    assert found, node.log


# ---------------------------------------------------------------- parameters and life cycle


def set_parameter(probe, name, **value):
    parameter = Parameter(name=name, value=ParameterValue(**value))
    request = SetParameters.Request(parameters=[parameter])
    response = probe.call(SetParameters, '/completion_node/set_parameters', request)
    return response.results[0]


def number_value(number: float) -> dict:
    return {'type': ParameterType.PARAMETER_DOUBLE, 'double_value': number}


def truth_value(value: bool) -> dict:
    return {'type': ParameterType.PARAMETER_BOOL, 'bool_value': value}


def text_value(text: str) -> dict:
    return {'type': ParameterType.PARAMETER_STRING, 'string_value': text}


def test_outputs_follow_parameters_at_run_time(node, probe):
    assert set_parameter(probe, 'depth_encoding', **text_value('16UC1')).successful
    try:
        image = probe.complete(DEPTH)['depth_registered/image_rect']
        assert image.encoding == '16UC1'
        assert set(np.frombuffer(image.data, np.uint16)) == {10250}
    finally:
        assert set_parameter(probe, 'depth_encoding', **text_value('32FC1')).successful
    assert_good(probe.complete(DEPTH))


def test_bad_and_untimely_parameters_are_refused_with_the_reason(node, probe):
    result = set_parameter(probe, 'depth_encoding', **text_value('64FC1'))
    assert not result.successful and 'expected 32FC1 or 16UC1' in result.reason
    longer = {'type': ParameterType.PARAMETER_DOUBLE, 'double_value': 0.1}
    result = set_parameter(probe, 'sync_slop', **longer)
    assert not result.successful and 'read when the node is configured' in result.reason
    numbers = {'type': ParameterType.PARAMETER_DOUBLE_ARRAY, 'double_array_value': [1.0, 2.0]}
    result = set_parameter(probe, 'T_camera_lidar', **numbers)
    assert not result.successful and 'expected 7 numbers' in result.reason
    share = {'type': ParameterType.PARAMETER_DOUBLE, 'double_value': 1.5}
    assert not set_parameter(probe, 'min_confidence', **share).successful


def test_every_parameter_has_a_meaning_and_limits_where_it_is_a_number(node, probe):
    names = probe.call(
        ListParameters, '/completion_node/list_parameters', ListParameters.Request()
    ).result.names
    own = [n for n in names if not n.startswith(('use_sim_time', 'start_type', 'qos_'))]
    request = DescribeParameters.Request(names=own)
    described = probe.call(
        DescribeParameters, '/completion_node/describe_parameters', request
    ).descriptors
    assert len(described) > 10
    assert all(len(item.description) > 10 for item in described)
    slop = next(item for item in described if item.name == 'sync_slop')
    assert slop.floating_point_range[0].from_value == 0.0


def transition(probe, number: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=number))
    return probe.call(ChangeState, '/completion_node/change_state', request).success


def state(probe) -> str:
    return probe.call(
        GetState, '/completion_node/get_state', GetState.Request()
    ).current_state.label


def test_the_node_can_be_deactivated_reconfigured_and_activated_again(node, probe):
    assert state(probe) == 'active'
    assert transition(probe, Transition.TRANSITION_DEACTIVATE)
    assert probe.wait(lambda: not probe.publishers['points'].get_subscription_count())
    assert transition(probe, Transition.TRANSITION_CLEANUP)
    assert state(probe) == 'unconfigured'
    assert set_parameter(probe, 'model', **text_value('interpolation')).successful
    assert transition(probe, Transition.TRANSITION_CONFIGURE)
    assert transition(probe, Transition.TRANSITION_ACTIVATE)
    assert_good(probe.complete(DEPTH))
    assert 'active: interpolation on cpu' in node.log


# ---------------------------------------------------------------- start and end


def test_the_parameter_file_is_accepted_and_sigint_ends_the_node(folder, probe):
    process = NodeProcess(
        MODULE,
        folder,
        *('--params-file', str(ros_graph.ROOT / 'config/completion.yaml')),
        *('-p', 'model:=nearest', '-p', 'autostart:=false', '-r', '__node:=waiting'),
    )
    try:
        request = GetState.Request()
        label = probe.call(GetState, '/waiting/get_state', request).current_state.label
        assert label == 'unconfigured'
    finally:
        status = process.stop(signal.SIGINT)
    assert status == 0, process.log
    assert 'Traceback' not in process.log

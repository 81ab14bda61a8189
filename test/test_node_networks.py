"""completion_node with each network, chosen by parameters alone, over real topics."""

import numpy as np
import pytest
import ros_graph
import torch
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros_graph import NodeProcess, Probe, lasting, parameters
from sensor_msgs.msg import Image

from dmd3c_ros.core import networks
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.weights.releases import RELEASES
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.images import depth_from_image

# On a busy machine it starves.
pytestmark = pytest.mark.timeout(900)

MODULE = 'dmd3c_ros.completion_node'
TOPICS = {'depth_registered/image_rect': Image, 'sparse/image_rect': Image}
PUBLISHED = ('bpnet', 'lrru_mini', 'lrru_tiny', 'lrru_small', 'lrru_base', 'completionformer')
LOADING_S = 240.0  # of hundreds of megabytes, on a busy machine


@pytest.fixture(scope='module')
def probe(folder):
    probe = Probe()
    yield probe
    probe.close()


def draw_weights(name: str, folder) -> str:
    """A checkpoint as training leaves it, with random weights."""
    torch.manual_seed(3)
    path = folder / f'{name}.pth'
    torch.save({'net': networks.build(name).state_dict()}, path)
    return str(path)


def start_with(model: str, **others) -> tuple[str, ...]:
    return parameters(model=model, T_camera_lidar=ros_graph.T_CAMERA_LIDAR, **others)


@pytest.fixture(scope='module')
def node(folder):
    """A node that was started with one of the networks; another at a time takes its place."""
    arguments = start_with('bpnet', weights=draw_weights('bpnet', folder))
    with lasting(NodeProcess(MODULE, folder, *arguments)) as process:
        yield process


def choose(probe, **texts: str) -> None:
    """Take the node down, set parameters, and bring it up again."""

    def change(number: int) -> None:
        request = ChangeState.Request(transition=Transition(id=number))
        assert probe.call(ChangeState, '/completion_node/change_state', request).success

    change(Transition.TRANSITION_DEACTIVATE)
    change(Transition.TRANSITION_CLEANUP)
    values = {
        key: ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
        for key, text in texts.items()
    }
    parameters = [Parameter(name=key, value=value) for key, value in values.items()]
    request = SetParameters.Request(parameters=parameters)
    response = probe.call(SetParameters, '/completion_node/set_parameters', request)
    assert all(result.successful for result in response.results), response
    change(Transition.TRANSITION_CONFIGURE)
    change(Transition.TRANSITION_ACTIVATE)


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_node_runs_each_network_by_parameter(name, node, probe, folder):
    path = folder / f'{name}.pth'
    if name != 'bpnet':
        choose(probe, model=name, weights=draw_weights(name, folder))
    started = f'active: {name} on '
    assert probe.wait(lambda: started in node.log or not node.running, LOADING_S), node.log
    outputs = probe.complete(TOPICS)
    depth, sparse = (depth_from_image(outputs[topic]) for topic in TOPICS)
    assert outputs['depth_registered/image_rect'].header.frame_id == 'lens'
    completer = DepthCompleter(CompleterConfig(model=name, weights=str(path)))
    rgb = image_to_rgb(ros_graph.make_image())
    sparse = np.nan_to_num(sparse)
    expected = completer.complete(rgb, sparse, ros_graph.camera().K).depth
    # The node publishes what is no depth as unknown.
    np.testing.assert_allclose(np.nan_to_num(depth), expected, rtol=1e-2, atol=1e-2)
    assert (expected > 0).mean() > 0.3
    assert len(np.unique(expected)) > 100
    path.unlink()


def test_a_network_without_weights_ends_the_start_and_says_where_to_get_them(folder):
    name = 'bpnet'
    process = NodeProcess(MODULE, folder, *start_with(name))
    assert process.finish(LOADING_S) == 1
    assert f'{name}: no weights come with the package for this network' in process.log
    assert '`dmd3c weights get NAME`' in process.log
    for item in RELEASES:
        assert item.network != name or item.name in process.log
    assert 'Traceback' not in process.log

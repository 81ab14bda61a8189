"""One demonstration from start to end: two processes, a recorder, results."""

import logging
from time import monotonic, sleep

from rich.progress import Progress

from .config import DemoConfig, DemoError
from .graph import own_graph, ros_arguments, ros_context, terminable
from .processes import Child
from .recorder import Recorder, Recording
from .results import Completion, write_results
from .scoring import Summary
from .sources import Source, source_of

_log = logging.getLogger(__name__)
_POLL_S = 0.1


def run(config: DemoConfig, progress: Progress) -> Summary:
    """Play, complete, record and report into `config.out`; DemoError says what went wrong."""
    source = source_of(config)
    with own_graph(), terminable():
        recording, completion = _record(config, source, progress)
    if not recording.times['depth']:
        raise DemoError(f'no depth was published; see {config.out / "logs"}')
    return write_results(config, source, recording, completion, progress)


def _record(
    config: DemoConfig, source: Source, progress: Progress
) -> tuple[Recording, Completion]:
    logs = config.out / 'logs'
    node = Child(
        'dmd3c_ros.completion_node',
        ros_arguments(
            {
                'T_camera_lidar': source.T_camera_lidar.ravel().tolist(),
                'warm_up_width': source.image_size[0],
                'warm_up_height': source.image_size[1],
                'report_period': 1.0,
                **config.completion,
            }
        ),
        logs / 'completion_node.log',
    )
    player = Child(
        source.module,
        # The node's subscriptions and the recorder's.
        ros_arguments({**source.parameters, 'wait_for_subscribers': 2}),
        logs / 'player.log',
    )
    with ros_context() as context, Recorder(context) as recorder:
        with node:
            _wait_until_ready(config, node, recorder, progress)
            with player:
                _watch(config, source, (node, player), recorder, progress)
        _log.debug('node exited with code %s', node.exit_code)
    model, _, device = recorder.hardware.partition(' on ')
    return recorder.recording, Completion(model, device)


def _wait_until_ready(
    config: DemoConfig, node: Child, recorder: Recorder, progress: Progress
) -> None:
    task = progress.add_task('starting the node', total=None)
    deadline = monotonic() + config.start_timeout_s
    # The node subscribes once the player publishes; its diagnostics say that it is active.
    while not recorder.hardware:
        _check_alive(node)
        if monotonic() > deadline:
            raise DemoError(
                f'the node was not ready within {config.start_timeout_s:.0f} s:\n{node.log_tail()}'
            )
        sleep(_POLL_S)
    progress.remove_task(task)


def _watch(
    config: DemoConfig,
    source: Source,
    children: tuple[Child, Child],
    recorder: Recorder,
    progress: Progress,
) -> None:
    """Follow the drive until its outputs are complete or nothing comes any more."""
    node, player = children
    task = progress.add_task('preparing the drive', total=source.n_frames)
    deadline = monotonic() + config.render_timeout_s
    while not recorder.count('image'):
        _check_alive(node)
        _check_alive(player)
        if monotonic() > deadline:
            raise DemoError(
                f'the player published nothing within {config.render_timeout_s:.0f} s:\n'
                f'{player.log_tail()}'
            )
        sleep(_POLL_S)
    progress.update(task, description='completing the drive')
    while monotonic() - recorder.last_arrival_s < config.silence_s:
        _check_alive(node)
        player.check()
        progress.update(task, completed=min(recorder.count('depth'), source.n_frames))
        if recorder.count('cloud') >= source.n_frames and recorder.hardware:
            break
        sleep(_POLL_S)


def _check_alive(child: Child) -> None:
    child.check()
    if child.exit_code is not None:
        raise DemoError(f'{child.name} exited too early:\n{child.log_tail()}')

"""completion_node: camera and LiDAR topics in, dense metric depth and coloured clouds out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import partial

import cv2
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2

from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.obstacles import ObstacleSettings
from dmd3c_ros.core.projection import HiddenPointFilter
from dmd3c_ros.core.transform_buffer import LateTransformError, TransformError
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.stamps import shift_stamp
from dmd3c_ros.messages.transforms import matrix_from_numbers
from dmd3c_ros.node.diagnostics import Counts, Reporter, Throttle, details_of
from dmd3c_ros.node.entrypoint import run
from dmd3c_ros.node.inputs import FrameSet, Inputs
from dmd3c_ros.node.logs import show_package_log
from dmd3c_ros.node.model import LOAD_ERRORS, Model
from dmd3c_ros.node.pace import Pace
from dmd3c_ros.node.parameters import Parameters, Values
from dmd3c_ros.node.process_memory import keep_freed_memory, memory_in_use
from dmd3c_ros.node.publishers import Outputs
from dmd3c_ros.node.qos import unused_overrides
from dmd3c_ros.node.services import answer_every_transition, prepare_in_thread
from dmd3c_ros.node.tf_listener import TfListener
from dmd3c_ros.node.threads import set_niceness
from dmd3c_ros.node.worker import NewestWins
from dmd3c_ros.pipeline.frame import FramePipeline
from dmd3c_ros.pipeline.outputs import MEASURED, OUTPUTS
from dmd3c_ros.pipeline.rectification import ImageRectifier
from dmd3c_ros.pipeline.settings import MotionSettings, NodeSettings
from dmd3c_ros.pipeline.sweeps import SweepAligner

PARAMETER_GROUPS = (
    ('', CompleterConfig),
    ('', NodeSettings),
    ('', MotionSettings),
    ('hidden_points.', HiddenPointFilter),
)
# Read for every frame; all others are read when the node is configured.
_LIVE = {
    'T_camera_lidar',
    'filter_hidden_points',
    'min_confidence',
    'preset',
    'depth_encoding',
    'color_near',
    'color_far',
    'max_latency',
    'points_stride',
    'lazy',
    *(f'obstacle_{field.name}' for field in fields(ObstacleSettings)),
}
# A change of these exchanges the model while the node runs.
_OF_THE_MODEL = {field.name for field in fields(CompleterConfig)}
# What one frame can fail with, while the next one may succeed.
_FRAME_ERRORS = (ValueError, RuntimeError, MemoryError, cv2.error)
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
# Inputs may be silent for hours: said at once, then in every so many reports.
_REPORTS_PER_SILENCE = 6


class CompletionNode(LifecycleNode):
    """Synchronizes the inputs and hands each set to a thread that completes the newest one.

    Parameters are declared here, read in `on_configure`; topics are subscribed in `on_activate`.
    Raises ParameterError for parameters that it cannot start with.
    """

    def __init__(self) -> None:
        super().__init__('completion_node')
        show_package_log(self.get_logger())
        answer_every_transition(self)
        prepare_in_thread(self, self._plan)
        self._model: Model | None = None
        self._tf: TfListener | None = None
        self._aligner: SweepAligner | None = None
        self._outputs: Outputs | None = None
        # Ends what `on_configure` and what `on_activate` have begun, in reverse order.
        self._configured, self._active = ExitStack(), ExitStack()
        # Not the services' own group: changing the model blocks that one while it loads.
        self._group = MutuallyExclusiveCallbackGroup()
        self._settings = Parameters(self, PARAMETER_GROUPS, self._change)
        self._warn = Throttle(lambda text: self.get_logger().warning(text))
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)

    # ---------------------------------------------------------------- life cycle

    def autostart(self) -> bool:
        """Configure and activate, unless the parameter `autostart` is false; False on failure."""
        if not self._settings.get(NodeSettings).autostart:
            return True
        return self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, listen to TF if needed, prepare outputs."""
        settings, motion = self._settings.get(NodeSettings), self._settings.get(MotionSettings)
        size = settings.warm_up_height, settings.warm_up_width
        # First, for the threads of the network to inherit it.
        self._set_niceness(settings.niceness)
        with ExitStack() as begun:
            begun.callback(self._forget)
            try:
                if motion.fixed_frame or not settings.T_camera_lidar:
                    self._tf = TfListener(self)
                    begun.callback(self._tf.close)
                config = self._settings.get(CompleterConfig)
                self._model = Model(config, size, self.get_logger().warning)
                begun.callback(self._model.close)
            except LOAD_ERRORS as error:
                self.get_logger().error(str(error))
                return _FAILURE
            self._aligner = SweepAligner(motion, self._tf.buffer if self._tf else None)
            self._outputs = Outputs(self, self._warn)
            begun.callback(self._outputs.close)
            self._configured = begun.pop_all()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the thread that completes."""
        settings = self._settings.get(NodeSettings)
        self._counts, self._idling_reported = Counts(), False
        self._pace = Pace(self._model.ready)
        self._reporter = Reporter(self._counts)
        self._warn_of_trouble = Throttle(
            lambda text: self.get_logger().warning(text),
            _REPORTS_PER_SILENCE * settings.report_period,
        )
        # The publishers first, for frames come before this ends.
        result = super().on_activate(state)
        rectifier = ImageRectifier(settings.rectify, self.resolve_topic_name('image_rect'))
        self._pipeline = FramePipeline(rectifier, self._aligner, self._counts.steps.end)
        with ExitStack() as begun:
            self._worker = NewestWins(self._complete, 'completion')
            begun.callback(self._worker.stop)
            self._inputs = Inputs(
                self, settings, self._on_frame_set, self._on_cloud, self._group, self._needs_inputs
            )
            begun.callback(self._inputs.close)
            # Wall time, so that reports continue while a simulation is paused.
            clock = Clock(clock_type=ClockType.STEADY_TIME)
            timer = self.create_timer(settings.report_period, self._report, self._group, clock)
            begun.callback(self.destroy_timer, timer)
            self._active = begun.pop_all()
        subscriptions = [*self._inputs.topics, *(self._tf.topics if self._tf else ())]
        for name in unused_overrides(self, OUTPUTS, subscriptions):
            self.get_logger().warning(f'{name} is ignored: this node has no such topic')
        completer = self._model.completer
        self.get_logger().info(
            f'active: {completer.name} on {completer.device} in {completer.precision}'
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and end the thread."""
        self._active.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release outputs, TF and the model."""
        self._configured.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, in reverse order."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; rclpy does not report the error of the transition."""
        self.get_logger().error(f'a transition from the state {state.label} failed')
        self.close()
        return super().on_error(state)

    def close(self) -> None:
        """Stop working and release everything; allowed in every state."""
        self._active.close()
        self._configured.close()

    def _set_niceness(self, niceness: int) -> None:
        if not niceness:
            return
        try:
            set_niceness(niceness)
        except OSError as error:
            self.get_logger().warning(
                f'niceness {niceness}: {error.strerror}; it takes the capability CAP_SYS_NICE or '
                'a line for nice in /etc/security/limits.conf; the node goes on without'
            )

    def _forget(self) -> None:
        self._model = self._tf = self._aligner = self._outputs = None

    def _plan(self, parameters: Sequence[Parameter]) -> Callable[[], None] | None:
        """Work that loads the model given by these parameters, if it is a different one."""
        try:
            names, values = self._settings.preview(parameters)
        except (ValueError, TypeError):
            return None  # They will be refused with the reason.
        if self._model is None or not names & _OF_THE_MODEL or _fixed(names):
            return None
        return partial(self._model.prepare, values[CompleterConfig])

    def _change(self, names: set[str], values: Values) -> str | None:
        """Exchange the model if these parameters require it; returns why they cannot, or None.

        If a service sets them, `_plan` has loaded the model while frames were still processed.
        """
        if self._model is None:
            return None
        if fixed := _fixed(names):
            return f'{", ".join(fixed)}: read when the node is configured; clean it up first'
        try:
            if names & _OF_THE_MODEL:
                self._model.exchange(values[CompleterConfig])
        except LOAD_ERRORS as error:
            return f'{error}; {self._model.completer.name} stays in use'
        return None

    # ---------------------------------------------------------------- processing a frame

    def _needs_inputs(self) -> bool:
        """Whether anything has to be subscribed to."""
        return not self._settings.get(NodeSettings).lazy or bool(self._outputs.subscribed())

    def _on_cloud(self, cloud: PointCloud2) -> None:
        """Runs in the executor for every sweep, before it is paired."""
        shift_stamp(cloud, self._settings.get(MotionSettings).lidar_offset_ns)
        self._aligner.remember(cloud, self._settings.get(NodeSettings).sync_queue_size)

    def _on_frame_set(self, found: FrameSet) -> None:
        """Runs in the executor and returns at once."""
        self._counts.frames_in += 1
        self._counts.dropped += self._worker.put(found)

    def _complete(self, found: FrameSet) -> None:
        """Runs in the worker's thread: an unusable set is logged, counted and dropped."""
        try:
            subscribed = self._outputs.subscribed()
            if not subscribed:
                self._counts.unwanted += 1
                return
            self._complete_and_publish(found, subscribed)
        except TransformError as error:
            self._counts.no_transform += 1
            self._fail(str(error), self._remedy(error))
        except MessageError as error:
            self._fail(str(error))
        except _FRAME_ERRORS as error:
            # A signal may end the context at any moment, which is not the frame's fault.
            if self.context.ok():
                self._fail(f'completion failed: {error}')
        else:
            latency_s = time.monotonic() - found.arrival
            self._counts.published(latency_s)
            self._pace.finished(latency_s, self._settings.get(NodeSettings).max_latency)

    def _remedy(self, error: TransformError) -> str:
        if not isinstance(error, LateTransformError):
            return ''
        waited_s = self._settings.get(MotionSettings).transform_timeout
        return (
            f'; waited for {waited_s:g} s: raise transform_timeout if its publisher is slower, '
            'or check that it uses the same clock as the sensors'
        )

    def _fail(self, reason: str, remedy: str = '') -> None:
        self._counts.fail(reason)
        self._warn(f'{reason}{remedy}')

    def _complete_and_publish(self, found: FrameSet, subscribed: frozenset[str]) -> None:
        settings = self._settings.get(NodeSettings)
        numbers = settings.T_camera_lidar
        self._counts.steps.begin(found.arrival)
        frame = self._pipeline.measure(
            found.image,
            found.info,
            found.cloud,
            self._model.completer,
            settings,
            self._settings.get(HiddenPointFilter),
            matrix_from_numbers(numbers) if numbers else None,
        )
        self._outputs.publish(subscribed, frame, settings, dense=False)
        if subscribed <= MEASURED:
            return
        complete = partial(self._model.complete, scale_limit=self._pace.limit)
        frame = self._pipeline.complete(frame, complete, settings)
        self._outputs.publish(subscribed, frame, settings, dense=True)
        self._counts.steps.end('publish')

    # ---------------------------------------------------------------- reporting

    def _report(self) -> None:
        if self._worker.failed:
            raise RuntimeError('the worker thread has stopped; its error is logged above')
        inputs = self._inputs.report()
        # Subscribers of before the start are known a moment after activation only.
        if inputs.idle and not (self._idling_reported or self._needs_inputs()):
            self._idling_reported = True
            self.get_logger().info(
                'no output has a subscriber: inputs are not subscribed until one does '
                '(parameter lazy)'
            )
        trouble = inputs.trouble or self._outputs.refusal() or self._slowness()
        completer = self._model.completer
        status = self._reporter.status(
            f'{self.get_fully_qualified_name()}: completion',
            f'{completer.name} on {completer.device}',
            trouble,
            {
                **details_of(inputs, completer),
                'scale_limit': self._pace.limit,
                **memory_in_use(completer.device),
            },
        )
        if trouble:
            self._warn_of_trouble(trouble)
        elif self._reporter.news:
            self.get_logger().info(self._reporter.line)
        else:
            self.get_logger().debug(self._reporter.line)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _slowness(self) -> str | None:
        """A message if frames are completed at a smaller scale to be in time."""
        if self._pace.limit == 1:
            return None
        return (
            f'too slow for max_latency {self._settings.get(NodeSettings).max_latency:g} s: scale '
            f'limited to {self._pace.limit:.2g}'
        )


def _fixed(names: set[str]) -> list[str]:
    """The parameters that cannot be changed once the node is configured."""
    fixed = names - _LIVE - _OF_THE_MODEL
    return sorted(name for name in fixed if not name.startswith('hidden_points.'))


def _spin(node: CompletionNode) -> int:
    if not node.autostart():
        return 1
    rclpy.spin(node)
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; 1 where it cannot start."""
    keep_freed_memory()
    return run('completion_node', CompletionNode, _spin, args)


if __name__ == '__main__':
    sys.exit(main())

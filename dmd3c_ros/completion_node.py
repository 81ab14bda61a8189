"""completion_node: camera and LiDAR topics in, dense metric depth and coloured clouds out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import PointCloud2

from .conversions import MessageError
from .core.camera import Camera
from .core.completer import CompleterConfig, DepthCompleter
from .core.projection import HiddenPointFilter, project_points, remove_hidden_points
from .core.transform_buffer import TransformError
from .node.inputs import FrameSet, Inputs
from .node.logs import show_package_log
from .node.memory import keep_freed_memory
from .node.outputs import INPUT_TOPICS, Outputs
from .node.report import Counts, Reporter, Throttle
from .node.running import run
from .node.settings import MotionSettings, NodeSettings
from .node.tf import TfListener
from .node.transforms import matrix_from_numbers
from .node.worker import NewestWins
from .parameters import Parameters
from .pictures import PictureReader, picture_to_rgb
from .sweeps import SweepAligner, shift_stamp, stamp_ns_of

PARAMETER_GROUPS = (
    ('', CompleterConfig),
    ('', NodeSettings),
    ('', MotionSettings),
    ('hidden_points.', HiddenPointFilter),
)
# Read anew for every frame; all others are read when the node is configured.
_LIVE = {
    'T_camera_lidar',
    'filter_hidden_points',
    'min_confidence',
    'depth_encoding',
    'color_near',
    'color_far',
}
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
# Inputs may be silent for hours: said at once, then in every so many reports.
_REPORTS_PER_SILENCE = 6


class CompletionNode(LifecycleNode):
    """Synchronizes the inputs and hands each set to a thread that completes the newest one.

    Parameters are declared here, read in `on_configure`; topics are subscribed in `on_activate`.
    Raises ParameterError for parameters that it cannot start with.
    """

    def __init__(self) -> None:
        super().__init__('completion_node', automatically_declare_parameters_from_overrides=True)
        show_package_log(self.get_logger())
        self._completer: DepthCompleter | None = None
        self._tf: TfListener | None = None
        self._aligner: SweepAligner | None = None
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._worker: NewestWins[FrameSet] | None = None
        self._settings = Parameters(self, PARAMETER_GROUPS, self._refuse_change)
        self._warn = Throttle(lambda text: self.get_logger().warning(text))
        self._warn_of_silence = Throttle(
            lambda text: self.get_logger().warning(text),
            _REPORTS_PER_SILENCE * self._settings.get(NodeSettings).report_period,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)

    # ---------------------------------------------------------------- life cycle

    def autostart(self) -> bool:
        """Configure and activate, unless the parameter `autostart` is false; False on failure."""
        if not self._settings.get(NodeSettings).autostart:
            return True
        return self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, listen to TF where it is needed, prepare outputs."""
        settings, motion = self._settings.get(NodeSettings), self._settings.get(MotionSettings)
        try:
            self._completer = DepthCompleter(self._settings.get(CompleterConfig))
            if motion.fixed_frame or not settings.T_camera_lidar:
                self._tf = TfListener(self)
            self._aligner = SweepAligner(motion, self._tf.buffer if self._tf else None)
            _warm_up(self._completer, settings.warm_up_width, settings.warm_up_height)
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            self.get_logger().error(str(error))
            self._release()
            return _FAILURE
        self._outputs = Outputs(self, self._warn)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the thread that completes."""
        settings = self._settings.get(NodeSettings)
        self._counts = Counts()
        self._reporter = Reporter(self._counts)
        self._worker = NewestWins(self._complete, 'completion')
        self._inputs = Inputs(
            self,
            settings.sync_slop,
            settings.sync_queue_size,
            self._on_frame_set,
            settings.image_transport,
            on_cloud=self._on_cloud,
        )
        self._pictures = PictureReader(settings.rectify, self.resolve_topic_name('image_rect'))
        # Wall time, so that a stopped simulation is still reported on.
        self._report_timer = self.create_timer(
            settings.report_period, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        completer = self._completer
        self.get_logger().info(
            f'active: {completer.name} on {completer.device} in {completer.precision}'
        )
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and end the thread."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release outputs, TF and the model."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release whatever is held, in reverse order."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release whatever is held; rclpy keeps the error of the transition to itself."""
        self.get_logger().error(f'a transition from the state {state.label} failed')
        self.close()
        return super().on_error(state)

    def close(self) -> None:
        """Stop working and release everything; allowed in every state."""
        if self._inputs is not None:
            self._stop()
        self._release()

    def _stop(self) -> None:
        self.destroy_timer(self._report_timer)
        self._inputs.close()
        self._worker.stop()
        self._inputs = self._worker = None

    def _release(self) -> None:
        for part in (self._outputs, self._tf, self._completer):
            if part is not None:
                part.close()
        self._outputs = self._tf = self._aligner = self._completer = None

    def _refuse_change(self, names: set[str]) -> str | None:
        fixed = sorted(n for n in names - _LIVE if not n.startswith('hidden_points.'))
        if self._outputs is not None and fixed:
            return f'{", ".join(fixed)}: read when the node is configured; clean it up first'
        return None

    # ---------------------------------------------------------------- the way of one frame

    def _on_cloud(self, cloud: PointCloud2) -> None:
        """Runs in the executor for every sweep, before it is paired."""
        shift_stamp(cloud, self._settings.get(MotionSettings).lidar_offset_ns)
        self._aligner.remember(cloud, self._settings.get(NodeSettings).sync_queue_size)

    def _on_frame_set(self, frame: FrameSet) -> None:
        """Runs in the executor and returns at once."""
        self._counts.frames_in += 1
        self._counts.dropped += self._worker.put(frame)

    def _complete(self, frame: FrameSet) -> None:
        """Runs in the worker's thread: a set that cannot be used is named, counted and left."""
        wanted = self._outputs.wanted()
        if not wanted:
            self._counts.unwanted += 1
            return
        try:
            self._complete_and_publish(frame, wanted)
        except (MessageError, TransformError) as error:
            self._counts.failed += 1
            self._counts.no_transform += isinstance(error, TransformError)
            self._warn(str(error))
        except (ValueError, RuntimeError) as error:
            self._counts.failed += 1
            self._warn(f'completion failed: {error}')
        else:
            self._counts.published(time.monotonic() - frame.arrival)

    def _complete_and_publish(self, frame: FrameSet, wanted: frozenset[str]) -> None:
        settings = self._settings.get(NodeSettings)
        rgb = picture_to_rgb(frame.image)
        picture = self._pictures.read(rgb, frame.info, frame.image.header)
        sparse = self._sparse_depth(frame, picture.camera, settings)
        self._outputs.publish_inputs(wanted, picture, sparse, settings)
        if wanted <= INPUT_TOPICS:
            return
        completion = self._completer.complete(picture.rgb, sparse, picture.camera.K)
        self._outputs.publish_dense(wanted, picture, picture.limited(completion), settings)

    def _sparse_depth(self, frame: FrameSet, camera: Camera, settings: NodeSettings) -> np.ndarray:
        numbers = settings.T_camera_lidar
        points, T_camera_points = self._aligner.locate(
            frame.cloud,
            frame.image.header.frame_id,
            stamp_ns_of(frame.image),
            matrix_from_numbers(numbers) if numbers else None,
        )
        sparse = project_points(points, T_camera_points, camera)
        if not sparse.any():
            raise MessageError(
                f'points: none of {len(points)} falls into the image; are the extrinsics right?'
            )
        if settings.filter_hidden_points:
            sparse = remove_hidden_points(sparse, self._settings.get(HiddenPointFilter))
        return sparse

    # ---------------------------------------------------------------- reporting

    def _report(self) -> None:
        if not self._worker.alive:
            raise RuntimeError('the completing thread has ended; its error is above')
        silence = self._inputs.silence()
        completer = self._completer
        status = self._reporter.status(
            f'{self.get_fully_qualified_name()}: completion',
            f'{completer.name} on {completer.device}',
            silence,
        )
        if silence:
            self._warn_of_silence(silence)
        else:
            self.get_logger().info(status.message)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _warm_up(completer: DepthCompleter, width: int, height: int) -> None:
    """Run the model once: a first run of a size prepares kernels, for seconds on a GPU and a
    minute where they are compiled, and frames would be dropped meanwhile.
    """
    sparse = np.zeros((height, width), np.float32)
    sparse[::8, ::8] = 10.0
    completer.complete(np.zeros((height, width, 3), np.uint8), sparse, np.eye(3))


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

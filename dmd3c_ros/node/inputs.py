"""The three inputs: subscribed, synchronized, and watched, to say why nothing pairs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from message_filters import SimpleFilter
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from dmd3c_ros.messages.stamps import stamp_ns_of
from dmd3c_ros.pipeline.settings import NodeSettings

from .synchronizer import Synchronizer
from .topic_input import TopicInput

TOPICS = {'image_rect': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
_MATCH_PERIOD_S = 0.5
_REMEMBERED_INFOS = 20
# Larger gaps come of clocks, smaller ones of sensors that are not triggered together.
_CLOCK_GAP_S = 1.0


class FrameSet(NamedTuple):
    """One image with its CameraInfo and sweep; `arrival` is when the last of them came (s)."""

    image: Image | CompressedImage
    info: CameraInfo
    cloud: PointCloud2
    arrival: float


class InputReport(NamedTuple):
    """What arrived since the last report.

    trouble: why nothing could be paired, None if something was. rates_hz: message rate of each
    topic. residuals_s: stamp of the sweep minus that of the image, for each set. idle: the
    inputs were not subscribed, all or part of the time, because no output had a subscriber.
    """

    trouble: str | None
    rates_hz: dict[str, float]
    residuals_s: list[float]
    idle: bool = False


class Inputs:
    """Subscribes to image_rect, camera_info and points; calls back with each synchronized set.

    A latched CameraInfo (transient local) may be published once for all images; otherwise each
    image needs one with its stamp.
    on_cloud: called with every sweep first; it may correct its stamp. group: of all callbacks,
    apart from those of services, which may take long. needed: whether the inputs are
    needed; they are subscribed only while they are.
    """

    def __init__(
        self,
        node: Node,
        settings: NodeSettings,
        on_set: Callable[[FrameSet], None],
        on_cloud: Callable[[PointCloud2], None] = lambda cloud: None,
        group: CallbackGroup | None = None,
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._node, self._settings, self._on_set = node, settings, on_set
        self._needed, self._idle_lately = needed, False
        image = node.resolve_topic_name('image_rect'), Image
        if settings.image_transport == 'compressed':
            image = compressed_topic(image[0]), CompressedImage
        self._on_cloud = on_cloud
        self._image = TopicInput(node, *image, lambda m: self._filters[0].signalMessage(m), group)
        self._info = TopicInput(
            node, 'camera_info', CameraInfo, self._receive_info, group, with_history=True
        )
        self._cloud = TopicInput(node, 'points', PointCloud2, self._receive_cloud, group)
        self._all = self._image, self._info, self._cloud
        self._infos: deque[CameraInfo] = deque(maxlen=_REMEMBERED_INFOS)
        self._latched: bool | None = None
        self._residuals_s: list[float] = []
        self._last_report = time.monotonic()
        self._timer = node.create_timer(
            _MATCH_PERIOD_S, self._match, group, Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._match()

    @property
    def topics(self) -> list[str]:
        """Names of the three topics in full."""
        return [source.name for source in self._all]

    def close(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        for source in self._all:
            source.close()

    def report(self) -> InputReport:
        """What came since the last report."""
        now = time.monotonic()
        period, self._last_report = max(now - self._last_report, 1e-3), now
        residuals, self._residuals_s = self._residuals_s, []
        counts = [source.take_count() for source in self._all]
        rates = dict(zip(TOPICS, (count / period for count in counts), strict=True))
        # Messages cannot have come where the inputs were subscribed a moment ago.
        idle, self._idle_lately = self._idle_lately, False
        trouble = None if residuals or idle else self._trouble(counts)
        return InputReport(trouble, rates, residuals, idle)

    # ---------------------------------------------------------------- pairing

    def _match(self) -> None:
        idle = not self._needed()
        self._idle_lately |= idle
        for source in self._all:
            if idle:
                source.close()
            else:
                source.match()
        if self._latched is not self._info.latched:
            self._latched = self._info.latched
            self._connect()

    def _connect(self) -> None:
        """Restart synchronization, with or without CameraInfo."""
        self._filters = image, info, cloud = SimpleFilter(), SimpleFilter(), SimpleFilter()
        synchronizer = Synchronizer(
            [image, cloud] if self._latched else [image, info, cloud],
            self._settings.sync_queue_size,
            self._settings.sync_slop,
        )
        synchronizer.registerCallback(self._paired if self._latched else self._synchronized)

    def _receive_info(self, info: CameraInfo) -> None:
        self._infos.append(info)
        self._filters[1].signalMessage(info)

    def _receive_cloud(self, cloud: PointCloud2) -> None:
        self._on_cloud(cloud)
        self._filters[2].signalMessage(cloud)

    def _paired(self, image: Image | CompressedImage, cloud: PointCloud2) -> None:
        """Uses an earlier CameraInfo: the one with the image's stamp, or the newest."""
        if self._infos:
            same = (info for info in self._infos if info.header.stamp == image.header.stamp)
            self._synchronized(image, next(same, self._infos[-1]), cloud)

    def _synchronized(
        self, image: Image | CompressedImage, info: CameraInfo, cloud: PointCloud2
    ) -> None:
        self._residuals_s.append((stamp_ns_of(cloud) - stamp_ns_of(image)) * 1e-9)
        self._on_set(FrameSet(image, info, cloud, time.monotonic()))

    # ---------------------------------------------------------------- why nothing pairs

    def _trouble(self, counts: list[int]) -> str:
        missing = [
            source.absence() + self._other_transport(source)
            for source, count in zip(self._all, counts, strict=True)
            if not (count or (source is self._info and self._latched and self._infos))
        ]
        if missing:
            return 'nothing to complete: ' + ', '.join([*missing, *self._clock_trouble()])
        others = [s for s in self._all[1:] if not (s is self._info and self._latched)]
        gaps = {source: self._image.gap_to(source) for source in others}
        apart = ', '.join(f'{source.name} {abs(gap):.3f} s' for source, gap in gaps.items())
        slop = self._settings.sync_slop
        text = (
            f'nothing pairs: closest stamps of {self._image.name} and {apart} apart, '
            f'sync_slop is {slop:g} s{_hint(gaps, self._info, slop)}'
        )
        return ', '.join([text, *self._clock_trouble()])

    def _clock_trouble(self) -> list[str]:
        simulated = self._node.get_parameter('use_sim_time').value
        if simulated and not self._node.count_publishers('/clock'):
            return ['use_sim_time is set but /clock has no publisher']
        return []

    def _other_transport(self, source: TopicInput) -> str:
        """A hint if the images are published with the other transport, raw or compressed."""
        if source is not self._image:
            return ''
        name = source.name
        raw = self._settings.image_transport == 'raw'
        other = compressed_topic(name) if raw else name.removesuffix('/compressed')
        if name == other or not self._node.count_publishers(other):
            return ''
        return (
            f' but {other} is published: set image_transport to {"compressed" if raw else "raw"}'
        )


def compressed_topic(image: str) -> str:
    """The compressed topic that image_transport publishes for an image topic."""
    return image if image.endswith('/compressed') else f'{image}/compressed'


def _hint(gaps: dict[TopicInput, float], info: TopicInput, slop: float) -> str:
    """What to do about the gaps between the stamps."""
    unstamped = [source.name for source in gaps if not any(source.stamps)]
    if unstamped:
        return f'; messages on {", ".join(unstamped)} have no stamp'
    widest = max(gaps, key=lambda source: abs(gaps[source]))
    gap = gaps[widest]
    if abs(gap) < slop:
        return (
            '; each pairs with the image, but not all together: sync_queue_size may be too small'
        )
    if widest is info:
        return '; CameraInfo must have the stamp of its image, or be transient local'
    side = f'{widest.name} is {"ahead" if gap > 0 else "behind"}'
    return f'; {side}, on a different clock' if abs(gap) > _CLOCK_GAP_S else f'; {side}'

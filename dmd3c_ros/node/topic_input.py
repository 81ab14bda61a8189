"""One input topic: subscribed as its publishers offer it, and watched, to say why it is silent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from dmd3c_ros.messages.stamps import stamp_ns_of
from dmd3c_ros.pipeline.outputs import OUTPUTS

from .qos import incompatibility, overriding

_QUEUE_DEPTH = 5
_REMEMBERED_STAMPS = 20
_LISTED_TOPICS = 4


class TopicInput:
    """One topic, subscribed once it has a publisher, as reliably as all its publishers offer.

    A reliable subscription receives nothing from a best-effort publisher, and a best-effort one
    loses large messages of reliable publishers on a poor network. The same holds for messages from
    before the subscription (transient local), which are requested with `with_history`.
    receive: takes the messages. group: of the callbacks.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        kind: type,
        receive: Callable[[Any], None],
        group: CallbackGroup | None = None,
        *,
        with_history: bool = False,
    ) -> None:
        self._node, self._kind, self._group = node, kind, group
        self._receive, self._with_history = receive, with_history
        self.name = node.resolve_topic_name(topic)
        self._type = f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'
        self._subscription = None
        self._offer: tuple[ReliabilityPolicy, DurabilityPolicy] | None = None
        self._request = QoSProfile(depth=_QUEUE_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._count = 0
        self.stamps: deque[float] = deque(maxlen=_REMEMBERED_STAMPS)

    @property
    def latched(self) -> bool:
        """Do its publishers keep messages for late subscribers?"""
        return self._offer is not None and self._offer[1] == DurabilityPolicy.TRANSIENT_LOCAL

    def match(self) -> None:
        """Subscribe, or resubscribe if the publishers' offers have changed."""
        offers = [info.qos_profile for info in self._publishers() if info.topic_type == self._type]
        if not offers:
            return
        requested = ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE
        if all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers):
            requested = ReliabilityPolicy.RELIABLE, requested[1]
        kept = DurabilityPolicy.TRANSIENT_LOCAL
        if self._with_history and all(offer.durability == kept for offer in offers):
            requested = requested[0], kept
        if requested == self._offer:
            return
        self.close()
        self._offer = requested
        self._request = QoSProfile(
            depth=_QUEUE_DEPTH, reliability=requested[0], durability=requested[1]
        )
        # The user's own overrides are written into the request.
        self._subscription = self._node.create_subscription(
            self._kind,
            self.name,
            self._on_message,
            self._request,
            callback_group=self._group,
            qos_overriding_options=overriding(self._node, self.name, 'subscription'),
        )

    def close(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._offer = None

    def take_count(self) -> int:
        """Messages since the last call."""
        count, self._count = self._count, 0
        return count

    def absence(self) -> str:
        """A message that nothing arrives, with the reason as far as the graph shows it."""
        return f'no message on {self.name} ({self._reason()})'

    def gap_to(self, other: TopicInput) -> float:
        """Difference of the closest pair of both topics' latest stamps, s; > 0: the other's is
        later.
        """
        return min((b - a for a in self.stamps for b in other.stamps), key=abs)

    def _publishers(self) -> list:
        return self._node.get_publishers_info_by_topic(self.name)

    def _reason(self) -> str:
        publishers = self._publishers()
        others = sorted({p.topic_type for p in publishers} - {self._type})
        fitting = [info for info in publishers if info.topic_type == self._type]
        if others and not fitting:
            return f'its publishers send {", ".join(others)}, expected {self._type}'
        if not publishers:
            elsewhere = self._topics_elsewhere()
            hint = f'; {self._type} is published on {", ".join(elsewhere)}' if elsewhere else ''
            return f'no publisher{hint}'
        for info in fitting:
            refusal = incompatibility(info.qos_profile, self._request)
            if refusal:
                return f'QoS of its publisher {info.node_name} is incompatible: {refusal}'
        return f'{len(fitting)} publisher{"s" if len(fitting) > 1 else ""}'

    def _topics_elsewhere(self) -> list[str]:
        """Topics of this type from other nodes, sensors first, nodes like this one last."""
        node = self._node
        own = {
            name
            for name, _ in node.get_publisher_names_and_types_by_node(
                node.get_name(), node.get_namespace()
            )
        }
        found = [
            name
            for name, types in node.get_topic_names_and_types()
            if self._type in types and name not in own and node.count_publishers(name)
        ]
        made = tuple(f'/{name}' for name in OUTPUTS)
        return sorted(found, key=lambda name: (name.endswith(made), name))[:_LISTED_TOPICS]

    def _on_message(self, message: Any) -> None:
        self._count += 1
        self._receive(message)
        # Afterwards: the receiver may have corrected it.
        self.stamps.append(stamp_ns_of(message) * 1e-9)

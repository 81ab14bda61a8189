"""QoS overrides from parameters, and why a subscription receives nothing from a publisher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

_PREFIX = 'qos_overrides.'
_NAMED = {
    'reliability': ReliabilityPolicy,
    'durability': DurabilityPolicy,
    'history': HistoryPolicy,
    'liveliness': LivelinessPolicy,
}
_NUMBERS = ('depth', 'deadline', 'lifespan', 'liveliness_lease_duration')

# A middleware reports "forever" as its largest number, or leaves it at 0.
_FOREVER_NS = 10**9 * 3600 * 24 * 365


def incompatibility(offer: QoSProfile, request: QoSProfile) -> str:
    """What the request demands beyond the offer, '' if they are compatible.

    rclpy's own check mistakes an unset deadline for a short one.
    """
    if (
        request.reliability == ReliabilityPolicy.RELIABLE
        and offer.reliability == ReliabilityPolicy.BEST_EFFORT
    ):
        return 'RELIABILITY reliable is requested, best effort is offered'
    if (
        request.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and offer.durability == DurabilityPolicy.VOLATILE
    ):
        return 'DURABILITY transient local is requested, volatile is offered'
    requested, offered = request.deadline.nanoseconds, offer.deadline.nanoseconds
    if 0 < requested < _FOREVER_NS and not 0 < offered <= requested:
        return f'DEADLINE {requested * 1e-9:g} s is requested, but not offered'
    return ''


def overrides_of(node: Node) -> Mapping[str, Parameter]:
    """All parameter overrides from files and the command line, private in rclpy."""
    return getattr(node, '_parameter_overrides', {})


def overriding(node: Node, topic: str, entity: str) -> QoSOverridingOptions | None:
    """QoS overriding options for a publisher or subscription (`entity`) of a topic.

    The parameters are `qos_overrides.TOPIC.ENTITY.POLICY`. Only the given policies are declared:
    the others follow the publishers' offers.
    """
    given = overrides_of(node)
    prefix = f'{_PREFIX}{node.resolve_topic_name(topic)}.{entity}.'
    kinds = [kind for kind in QoSPolicyKind if f'{prefix}{kind.name.lower()}' in given]
    return QoSOverridingOptions(kinds) if kinds else None


def check_overrides(node: Node) -> None:
    """Raise ValueError for an override of an unknown policy or with an invalid value."""
    for name, parameter in overrides_of(node).items():
        policy, value = name.rpartition('.')[2], parameter.value
        if not name.startswith(_PREFIX):
            continue
        if policy in _NAMED:
            known = [item.name.lower() for item in _NAMED[policy] if item.name != 'UNKNOWN']
            if value not in known:
                raise ValueError(f'{name}: expected one of {", ".join(known)}; got {value!r}')
        elif policy not in _NUMBERS:
            expected = ', '.join((*_NAMED, *_NUMBERS))
            raise ValueError(f'{name}: expected one of the policies {expected}; got {policy!r}')
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            unit = '' if policy == 'depth' else ' of nanoseconds'
            raise ValueError(f'{name}: expected a number{unit}, got {value!r}')


def unused_overrides(
    node: Node, publishers: Iterable[str], subscriptions: Iterable[str]
) -> list[str]:
    """Overrides that name none of these topics."""
    used = [
        f'{_PREFIX}{node.resolve_topic_name(topic)}.{entity}.'
        for entity, topics in (('publisher', publishers), ('subscription', subscriptions))
        for topic in topics
    ]
    names = [name for name in overrides_of(node) if name.startswith(_PREFIX)]
    return sorted(name for name in names if not name.startswith(tuple(used)))

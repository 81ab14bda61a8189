"""Why a subscription hears nothing of a publisher: it asks for more than is offered."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# A middleware reports "for ever" as the largest number that it has, or leaves it at 0.
_FOREVER_NS = 10**9 * 3600 * 24 * 365


def incompatibility(offer: QoSProfile, request: QoSProfile) -> str:
    """What the request wants beyond the offer, '' where they are compatible.

    rclpy's own check takes a deadline that was left open for a short one.
    """
    if (
        request.reliability == ReliabilityPolicy.RELIABLE
        and offer.reliability == ReliabilityPolicy.BEST_EFFORT
    ):
        return 'RELIABILITY reliable is asked for, best effort is offered'
    if (
        request.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and offer.durability == DurabilityPolicy.VOLATILE
    ):
        return 'DURABILITY transient local is asked for, volatile is offered'
    asked, offered = request.deadline.nanoseconds, offer.deadline.nanoseconds
    if 0 < asked < _FOREVER_NS and not 0 < offered <= asked:
        return f'DEADLINE {asked * 1e-9:g} s is asked for, no such one is offered'
    return ''

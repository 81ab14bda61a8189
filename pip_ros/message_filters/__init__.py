"""Stand-in for the Python package `message_filters` of ROS 2: same names, arguments, results."""

import bisect
import itertools
import threading

import rclpy.logging
from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.time import Time

__all__ = [
    'ApproximateTimeSynchronizer',
    'Cache',
    'SimpleFilter',
    'Subscriber',
    'TimeSynchronizer',
]


class SimpleFilter:
    """Something with an output: everyone registered is called with each message it emits."""

    def __init__(self):
        self.callbacks = {}

    def registerCallback(self, cb, *args):
        """Call `cb(*messages, *args)` on every output; returns the number of the connection."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (cb, args)
        return connection

    def signalMessage(self, *msg):
        """Emit one tuple of messages to all registered callbacks, in order of registration."""
        for cb, args in self.callbacks.values():
            cb(*msg, *args)


class Subscriber(SimpleFilter):
    """Source filter: a subscription of `node` whose messages are passed on.

    Arguments are those of `Node.create_subscription` after the node, without the callback; the
    quality of service goes in by keyword (`qos_profile`, a depth of 10 where it is absent).
    """

    def __init__(self, node, msg_type, topic, /, **kwargs):
        super().__init__()
        self.node = node
        self.topic = topic
        options = {'qos_profile': 10, **kwargs}
        self.sub = node.create_subscription(msg_type, topic, self.callback, **options)

    def callback(self, msg):
        self.signalMessage(msg)

    def getTopic(self):
        return self.topic

    def __getattr__(self, key):
        # Reached only for names that this object lacks. 'sub' itself is missing while the
        # subscription is being made; looking it up here would never end.
        if key == 'sub':
            raise AttributeError(key)
        return getattr(self.sub, key)


class Cache(SimpleFilter):
    """The last `cache_size` messages of a filter, to be looked up by time; passes them on.

    A message without a header stamp is refused with a warning, or with `allow_headerless` stored
    at the ROS time of its arrival.
    """

    def __init__(self, f, cache_size=1, allow_headerless=False):
        super().__init__()
        self.cache_size = cache_size
        self.allow_headerless = allow_headerless
        self.cache_msgs = []
        self.cache_times = []  # in time order, one for each message
        self.connectInput(f)

    def connectInput(self, f):
        self.incoming_connection = f.registerCallback(self.add)

    def add(self, msg):
        stamp = _stamp_of(msg, self.allow_headerless, 'message_filters_cache')
        if stamp is None:
            return
        place = bisect.bisect_right(self.cache_times, stamp)
        self.cache_times.insert(place, stamp)
        self.cache_msgs.insert(place, msg)
        if len(self.cache_msgs) > self.cache_size:
            del self.cache_msgs[0]
            del self.cache_times[0]
        self.signalMessage(msg)

    def getInterval(self, from_stamp, to_stamp):
        """Messages of the closed interval [from_stamp, to_stamp], oldest first."""
        assert from_stamp <= to_stamp, f'expected from <= to, got {from_stamp} and {to_stamp}'
        first = bisect.bisect_left(self.cache_times, from_stamp)
        last = bisect.bisect_right(self.cache_times, to_stamp)
        return self.cache_msgs[first:last]

    def getElemAfterTime(self, stamp):
        """The oldest message at `stamp` or after it, or None."""
        place = bisect.bisect_left(self.cache_times, stamp)
        return self.cache_msgs[place] if place < len(self.cache_msgs) else None

    def getElemBeforeTime(self, stamp):
        """The newest message at `stamp` or before it, or None."""
        place = bisect.bisect_right(self.cache_times, stamp)
        return self.cache_msgs[place - 1] if place > 0 else None

    def getLastestTime(self):
        """Time of the newest message, or None. (The name is spelt as upstream spells it.)"""
        return self.cache_times[-1] if self.cache_times else None

    def getOldestTime(self):
        """Time of the oldest message, or None."""
        return self.cache_times[0] if self.cache_times else None

    def getLast(self):
        """The newest message, or None."""
        latest = self.getLastestTime()
        return None if latest is None else self.getElemAfterTime(latest)


class TimeSynchronizer(SimpleFilter):
    """Emits one message of every input filter as soon as all of them have the same stamp.

    `queue_size` messages are kept for each input while their partners are on their way; the
    oldest stamp goes first. Callbacks run one at a time, under the synchronizer's lock: a
    callback must not feed the same synchronizer.
    """

    def __init__(self, fs, queue_size):
        super().__init__()
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self.connectInput(fs)

    def connectInput(self, fs):
        self.queues = [{} for _ in fs]  # for each input: stamp in ns -> message
        self.input_connections = [
            f.registerCallback(self.add, queue, index)
            for index, (f, queue) in enumerate(zip(fs, self.queues, strict=True))
        ]

    def add(self, msg, my_queue, my_queue_index=None):
        stamp_ns = Time.from_msg(msg.header.stamp).nanoseconds
        with self.lock:
            self._store(msg, stamp_ns, my_queue)
            complete = set.intersection(*map(set, self.queues))
            for matched_ns in sorted(complete):
                self._emit([matched_ns] * len(self.queues))

    def _store(self, msg, stamp_ns, queue):
        queue[stamp_ns] = msg
        while len(queue) > self.queue_size:
            del queue[min(queue)]

    def _emit(self, stamps_ns):
        """Signal the messages with these stamps (one an input), then forget them."""
        chosen = list(zip(self.queues, stamps_ns, strict=True))
        self.signalMessage(*(queue[stamp_ns] for queue, stamp_ns in chosen))
        for queue, stamp_ns in chosen:
            del queue[stamp_ns]


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Emits one message of every input filter when their stamps lie less than `slop` s apart.

    Of the waiting messages, those nearest to the newcomer's stamp are tried first. A message
    without a header stamp is refused with a warning, or with `allow_headerless` stamped with the
    ROS time of its arrival; `sync_arrival_time` stamps every message so (Kilted and later).
    """

    def __init__(self, fs, queue_size, slop, allow_headerless=False, sync_arrival_time=False):
        super().__init__(fs, queue_size)
        self.slop = Duration(seconds=slop)
        self.allow_headerless = allow_headerless
        self.sync_arrival_time = sync_arrival_time

    def add(self, msg, my_queue, my_queue_index=None):
        if self.sync_arrival_time:
            stamp = ROSClock().now()
        else:
            stamp = _stamp_of(msg, self.allow_headerless, 'message_filters_approx')
        if stamp is None:
            return
        stamp_ns = stamp.nanoseconds
        with self.lock:
            self._store(msg, stamp_ns, my_queue)
            candidates = [
                [stamp_ns] if index == my_queue_index else self._near(queue, stamp_ns)
                for index, queue in enumerate(self.queues)
            ]
            for stamps_ns in itertools.product(*candidates):
                spread_ns = max(stamps_ns) - min(stamps_ns)
                # A full queue may have thrown the newcomer itself out again.
                if spread_ns < self.slop.nanoseconds and stamp_ns in my_queue:
                    self._emit(stamps_ns)
                    break

    def _near(self, queue, stamp_ns):
        """Stamps of the queue within the slop, the nearest first."""
        near = [other for other in queue if abs(other - stamp_ns) <= self.slop.nanoseconds]
        return sorted(near, key=lambda other: abs(other - stamp_ns))


def _stamp_of(msg, allow_headerless, logger_name):
    """rclpy Time of a message; without a stamp the time now, or None after a warning."""
    stamp = getattr(getattr(msg, 'header', None), 'stamp', None)
    if stamp is not None:
        return stamp if hasattr(stamp, 'nanoseconds') else Time.from_msg(stamp)
    if allow_headerless:
        return ROSClock().now()
    rclpy.logging.get_logger(logger_name).warning(
        f'{type(msg).__name__} dropped: it has no header.stamp; '
        'pass allow_headerless=True to use the time of arrival'
    )
    return None

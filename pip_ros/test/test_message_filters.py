"""The filters: what is paired, what waits, what is thrown away."""

import threading
from types import SimpleNamespace

import pytest
import rclpy
from builtin_interfaces.msg import Time as TimeMsg
from message_filters import (
    ApproximateTimeSynchronizer,
    Cache,
    SimpleFilter,
    Subscriber,
    TimeSynchronizer,
)
from rclpy.clock import ClockType
from rclpy.time import Time
from std_msgs.msg import Header, String


def message(seconds, name=''):
    """A message with a header; `name` tells its source."""
    total_ns = round(seconds * 1e9)
    stamp = TimeMsg(sec=total_ns // 10**9, nanosec=total_ns % 10**9)
    return SimpleNamespace(header=Header(stamp=stamp), name=name)


def collect(synchronizer):
    """List that fills with the synchronizer's output."""
    got = []
    synchronizer.registerCallback(lambda *messages: got.append(messages))
    return got


def at(seconds):
    return Time(seconds=seconds, clock_type=ClockType.ROS_TIME)


def seconds_of(tuples):
    return [tuple(Time.from_msg(m.header.stamp).nanoseconds / 1e9 for m in t) for t in tuples]


def test_callbacks_get_the_messages_then_their_own_arguments():
    source, got = SimpleFilter(), []
    assert source.registerCallback(lambda *args: got.append(args), 'extra', 1) == 0
    assert source.registerCallback(lambda *args: got.append(args)) == 1
    source.signalMessage('a', 'b')
    assert got == [('a', 'b', 'extra', 1), ('a', 'b')]


def test_exact_synchronizer_pairs_equal_stamps_in_any_order_of_arrival():
    left, right = SimpleFilter(), SimpleFilter()
    got = collect(TimeSynchronizer([left, right], 5))
    for t in (3, 1, 2):
        left.signalMessage(message(t))
    right.signalMessage(message(2))
    right.signalMessage(message(1.5))
    right.signalMessage(message(3))
    assert seconds_of(got) == [(2, 2), (3, 3)]


def test_exact_synchronizer_waits_for_every_input_and_keeps_their_order():
    inputs = [SimpleFilter() for _ in range(3)]
    got = collect(TimeSynchronizer(inputs, 2))
    inputs[2].signalMessage(message(1, 'c'))
    inputs[0].signalMessage(message(1, 'a'))
    assert got == []
    inputs[1].signalMessage(message(1, 'b'))
    assert [m.name for m in got[0]] == ['a', 'b', 'c']


def test_a_full_queue_forgets_its_oldest_stamp():
    left, right = SimpleFilter(), SimpleFilter()
    got = collect(TimeSynchronizer([left, right], 2))
    for t in (1, 2, 3):
        left.signalMessage(message(t))
    right.signalMessage(message(1))
    assert got == []
    right.signalMessage(message(2))
    assert seconds_of(got) == [(2, 2)]


def test_nothing_is_emitted_twice():
    left, right = SimpleFilter(), SimpleFilter()
    got = collect(ApproximateTimeSynchronizer([left, right], 5, 0.1))
    left.signalMessage(message(1))
    right.signalMessage(message(1.01))
    right.signalMessage(message(1.02))
    assert seconds_of(got) == [(1, 1.01)]


def test_approximate_synchronizer_takes_the_nearest_partner():
    left, right = SimpleFilter(), SimpleFilter()
    got = collect(ApproximateTimeSynchronizer([left, right], 5, 0.1))
    for t in (0.95, 1.0, 1.04):
        left.signalMessage(message(t))
    right.signalMessage(message(1.03))
    assert seconds_of(got) == [(1.04, 1.03)]


def test_the_slop_is_exclusive_and_holds_between_all_inputs():
    inputs = [SimpleFilter() for _ in range(3)]
    got = collect(ApproximateTimeSynchronizer(inputs, 5, 0.1))
    inputs[0].signalMessage(message(1.0))
    inputs[1].signalMessage(message(1.1))
    inputs[2].signalMessage(message(1.05))  # 0 and 1 are exactly one slop apart
    assert got == []
    inputs[1].signalMessage(message(1.09))
    assert seconds_of(got) == [(1.0, 1.09, 1.05)]


def test_a_message_without_a_stamp_needs_permission():
    left, right = SimpleFilter(), SimpleFilter()
    strict = collect(ApproximateTimeSynchronizer([left, right], 5, 1.0))
    lenient = collect(ApproximateTimeSynchronizer([left, right], 5, 1.0, allow_headerless=True))
    first, second = String(data='first'), String(data='second')
    left.signalMessage(first)
    right.signalMessage(second)
    assert strict == []
    assert lenient == [(first, second)]


def test_arrival_time_takes_the_place_of_the_stamps():
    left, right = SimpleFilter(), SimpleFilter()
    got = collect(ApproximateTimeSynchronizer([left, right], 5, 1.0, sync_arrival_time=True))
    left.signalMessage(message(10))
    right.signalMessage(message(5000))
    assert seconds_of(got) == [(10, 5000)]


def test_a_failing_callback_leaves_the_synchronizer_usable():
    left, right = SimpleFilter(), SimpleFilter()
    synchronizer = TimeSynchronizer([left, right], 5)
    failing = threading.Event()
    failing.set()
    got = []

    def callback(*messages):
        if failing.is_set():
            raise RuntimeError('callback failed')
        got.append(messages)

    synchronizer.registerCallback(callback)
    left.signalMessage(message(1))
    with pytest.raises(RuntimeError, match='callback failed'):
        right.signalMessage(message(1))
    failing.clear()
    left.signalMessage(message(2))
    right.signalMessage(message(2))
    assert (2, 2) in seconds_of(got)


def test_threads_that_feed_at_once_lose_no_pair():
    left, right = SimpleFilter(), SimpleFilter()
    count = 200
    got = collect(TimeSynchronizer([left, right], count))

    def feed(source):
        for t in range(count):
            source.signalMessage(message(t))

    threads = [threading.Thread(target=feed, args=(source,)) for source in (left, right)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seconds_of(got)) == [(t, t) for t in range(count)]


def test_cache_answers_by_time_and_passes_messages_on():
    source = SimpleFilter()
    cache = Cache(source, 3)
    got = collect(cache)
    assert cache.getLast() is None and cache.getOldestTime() is None
    messages = {t: message(t) for t in (1, 2, 4, 3)}
    for m in messages.values():
        source.signalMessage(m)
    assert len(got) == 4
    assert cache.getInterval(at(2), at(3.5)) == [messages[2], messages[3]]
    assert cache.getElemAfterTime(at(2.5)) is messages[3]
    assert cache.getElemBeforeTime(at(2.5)) is messages[2]
    assert cache.getElemAfterTime(at(5)) is None
    assert cache.getElemBeforeTime(at(1.5)) is None
    assert cache.getOldestTime().nanoseconds == 2e9
    assert cache.getLastestTime().nanoseconds == 4e9
    assert cache.getLast() is messages[4]


def test_cache_refuses_a_message_without_a_stamp():
    source = SimpleFilter()
    strict, lenient = Cache(source, 3), Cache(source, 3, allow_headerless=True)
    source.signalMessage(String(data='text'))
    assert strict.getLast() is None
    assert lenient.getLast() == String(data='text')


def test_subscriber_passes_on_what_its_topic_carries():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=77)
    node = rclpy.create_node('stand_in', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        subscriber = Subscriber(node, String, 'words', qos_profile=5)
        got = collect(subscriber)
        publisher = node.create_publisher(String, 'words', 5)
        assert subscriber.getTopic() == 'words'
        assert subscriber.topic_name == '/words'  # an attribute of the subscription itself
        for _ in range(100):
            publisher.publish(String(data='hello'))
            executor.spin_once(timeout_sec=0.05)
            if got:
                break
        assert got[0] == (String(data='hello'),)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)

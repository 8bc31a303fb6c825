"""What every broker must do for a worker, asked of each of them.

Messages are sent and received in order; they are settled in every way; consumers die, and others take over.
What a broker cannot do by its nature is skipped where its capabilities say so.
"""

from __future__ import annotations

import os
import time

import pytest

from djqueue.exceptions import OperationalError
from djqueue.messaging.delivery import Delivery
from tests.contracts.sources.conftest import Bench, ids, receive_within
from tests.support.waiting import wait_until


def test_messages_come_in_the_order_in_which_they_were_sent(bench: Bench) -> None:
    bench.send("a", "b")
    bench.send("c")
    assert ids(bench.source().receive(10)) == ["a", "b", "c"]


def test_a_source_receives_from_its_own_queues_only(bench: Bench) -> None:
    bench.send("mine")
    bench.send("other", queue="mails")
    assert ids(bench.source("default").receive(10)) == ["mine"]
    assert ids(bench.source("mails").receive(10)) == ["other"]


def test_several_queues_are_one_line_or_take_turns(bench: Bench) -> None:
    for name in "abc":
        bench.send(f"one {name}", queue="one")
        bench.send(f"two {name}", queue="two")
    source = bench.source("one", "two")
    received = [ids(source.receive(1))[0] for _ in range(4)]
    if bench.broker.capabilities.by_age:
        assert received == ["one a", "two a", "one b", "two b"]
    else:  # whoever begins
        assert {*received[:2]} == {"one a", "two a"}
        assert {*received[2:]} == {"one b", "two b"}
    assert sorted(ids(source.receive(10))) == ["one c", "two c"]


def test_each_queue_keeps_its_order_in_a_batch_of_several(bench: Bench) -> None:
    bench.send("a", queue="one")
    bench.send("b", queue="two")
    bench.send("c", queue="one")
    received = ids(bench.source("one", "two").receive(10))
    assert sorted(received) == ["a", "b", "c"]
    assert received.index("a") < received.index("c")
    if bench.broker.capabilities.by_age:
        assert received == ["a", "b", "c"]


def test_a_lower_priority_number_comes_first_across_queues(bench: Bench) -> None:
    if not bench.kind.priorities:
        pytest.skip("priorities are the broker's own")
    bench.send("later", priority=9, queue="one")
    bench.send("first", priority=0, queue="two")
    bench.send("second", priority=3, queue="one")
    assert ids(bench.source("one", "two").receive(10)) == ["first", "second", "later"]


def test_a_priority_that_is_no_number_in_bounds_still_arrives(bench: Bench) -> None:
    if not bench.kind.priorities:
        pytest.skip("a priority is one byte on the wire")
    bench.send("none")
    bench.send("text", priority="high")
    bench.send("low", priority=10_000)
    bench.send("negative", priority=-5)
    received = bench.source().receive(10)
    assert ids(received) == ["none", "text", "negative", "low"]
    assert [one.message.properties["priority"] for one in received] == [None, "high", -5, 10_000]


def test_no_more_is_handed_out_than_there_is_room_for(bench: Bench) -> None:
    bench.send(*"abcde")
    source = bench.source()
    assert source.receive(0) == []
    assert ids(source.receive(2)) == ["a", "b"]
    assert ids(source.receive(2)) == ["c", "d"]
    assert ids(source.receive(2)) == ["e"]
    assert source.receive(2) == []


def test_a_large_batch_comes_whole_and_in_order(bench: Bench) -> None:
    names = [f"{number:04}" for number in range(1200)]
    bench.send(*names)
    source = bench.source()
    received = source.receive(1200)
    assert ids(received) == names
    assert source.settle([one.ack() for one in received]) == []
    assert bench.broker.size("default") == 0


def test_a_message_arrives_as_it_was_sent(bench: Bench) -> None:
    bench.send("a", body=b"\x00\xff binary", priority=4, ünï="ç", nested={"list": [1, None, 2.5]}, eta=None)
    (delivery,) = bench.source().receive(1)
    message = delivery.message
    assert message.body == b"\x00\xff binary"
    assert message.headers == {
        "task": "tests.add",
        "id": "a",
        "ünï": "ç",
        "nested": {"list": [1, None, 2.5]},
        "eta": None,
    }
    assert message.properties == {"correlation_id": "a", "priority": 4, "delivery_mode": 2}
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert delivery.delivery_info() == {
        "exchange": "",
        "routing_key": "default",
        "priority": 4,
        "redelivered": False,
        "queue": "default",
    }
    assert delivery.starts == 0


def test_a_huge_body_survives(bench: Bench) -> None:
    body = bytes(range(256)) * 40_000  # 10 MB
    bench.send("a", body=body)
    source = bench.source()
    (delivery,) = source.receive(1)
    source.settle([delivery.release()])
    (again,) = source.receive(1)
    assert again.message.body == body


def test_two_consumers_never_share_a_message(bench: Bench) -> None:
    bench.send(*(str(number) for number in range(20)))
    one, two = bench.source(), bench.source()
    received = [*one.receive(7), *two.receive(7), *one.receive(7), *two.receive(7)]
    assert sorted(map(int, ids(received))) == list(range(20))


def test_tags_are_never_used_twice_by_one_source(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    (first,) = source.receive(1)
    source.settle([first.release()])
    (second,) = source.receive(1)
    assert first.tag != second.tag
    assert len(second.tag.encode()) <= 100


# Settling


def test_what_is_acknowledged_is_gone(bench: Bench) -> None:
    bench.send("a", "b")
    source = bench.source()
    first, second = source.receive(2)
    assert source.settle([first.ack(), second.ack()]) == []
    source.close()
    assert bench.broker.size("default") == 0
    assert bench.source().receive(10) == []


def test_what_is_released_goes_to_the_head_of_its_queue(bench: Bench) -> None:
    bench.send("a", "b", "c")
    source = bench.source()
    first, second = source.receive(2)
    assert source.settle([second.release(), first.release()]) == []
    again = bench.placed(source.receive(10))
    assert ids(again) == ["a", "b", "c"]
    assert [one.redelivered for one in again] == [True, True, False]
    assert [one.starts for one in again] == [0, 0, 0]


def test_a_start_is_counted_when_it_is_said(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    for starts in range(4):
        (delivery,) = source.receive(1)
        assert delivery.starts == starts
        source.settle([delivery.release(started=True)])


def test_what_is_delayed_comes_when_it_is_due(bench: Bench) -> None:
    bench.send("a", "b")
    source = bench.source()
    first, second = source.receive(2)
    source.settle([second.delay(time.time() + 3600)])
    due = time.time() + 0.9
    source.settle([first.delay(due, started=True)])
    assert source.receive(10) == []
    assert bench.broker.size("default") == (2 if bench.sizes_put_off else 0)
    (again,) = receive_within(source, 5, "for the delayed message")
    assert time.time() >= due
    assert (ids([again]), again.starts, again.redelivered) == (["a"], 1, True)


def test_what_was_put_off_unstarted_does_not_count_as_redelivered(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    (delivery,) = source.receive(1)
    source.settle([delivery.delay(time.time() - 1)])
    (again,) = receive_within(source, 5, "for the delayed message")
    assert (again.starts, again.redelivered) == (0, False)


def test_what_is_sent_for_later_is_kept_by_the_broker(bench: Bench) -> None:
    can = bench.broker.capabilities
    source = None if can.keeps_unconsumed_delays else bench.source()  # somebody has to consume the queue
    due = time.time() + can.shortest_delay + 0.4
    bench.send("later", due=due)
    bench.send("past", due=time.time() - 60)
    bench.send("now")
    source = source or bench.source()
    if not can.delays:  # whoever receives it puts it off
        assert ids(receive_within(source, 5, "for all of them", least=3)) == ["later", "past", "now"]
        return
    assert sorted(ids(receive_within(source, 5, "for the others", least=2))) == ["now", "past"]
    assert bench.broker.size("default") == bench.kind.sizes_delays
    assert ids(receive_within(source, 5, "for the last one")) == ["later"]
    assert time.time() >= due


def test_what_is_due_too_soon_for_the_broker_is_handed_out_at_once(bench: Bench) -> None:
    if not bench.broker.capabilities.shortest_delay:
        pytest.skip("this broker keeps every delay")
    source = bench.source()
    bench.send("soon", due=time.time() + bench.broker.capabilities.shortest_delay - 0.1)
    assert ids(source.receive(10)) == ["soon"]


def test_what_nobody_consumes_is_kept_or_left_to_whoever_comes(bench: Bench) -> None:
    due = time.time() + 3600
    bench.send("later", due=due)
    assert bench.broker.size("default") == bench.kind.sizes_delays
    source = bench.source()
    received = source.receive(10)
    if bench.broker.capabilities.keeps_unconsumed_delays:
        assert received == []
    else:
        source.settle([one.delay(due) for one in received])  # as admission does
    assert source.receive(10) == []
    assert bench.broker.size("default") == bench.sizes_put_off


def test_tending_says_when_the_next_message_is_due(bench: Bench) -> None:
    source = bench.source()
    source.tend(time.monotonic())
    delay = bench.broker.capabilities.shortest_delay + 0.4
    bench.send("a", due=time.time() + delay)
    pause = source.tend(time.monotonic())
    assert 0.0 < pause <= delay


def test_many_messages_that_are_due_at_once_all_come(bench: Bench) -> None:
    bench.send(*(str(number) for number in range(1300)), due=time.time() + 0.01)
    source = bench.source()
    received: list[Delivery] = []

    def has_all() -> bool:
        source.tend(time.monotonic())
        received.extend(source.receive(500))
        return len(received) == 1300

    wait_until(has_all, within=10, because="for all of them")
    assert ids(received) == [str(number) for number in range(1300)]


def test_what_is_buried_is_kept_with_its_reason(bench: Bench) -> None:
    bench.send("a", "b")
    source = bench.source()
    first, second = source.receive(2)
    assert source.settle([first.bury("unknown_task", "nobody knows it"), second.ack()]) == []
    assert bench.dead_letters() == [("unknown_task", "nobody knows it", "a", 0)]
    assert bench.broker.size("default") == 0


def test_everything_settled_in_one_go(bench: Bench) -> None:
    bench.send(*"abcde")
    source = bench.source()
    a, b, c, d, e = source.receive(5)
    later = time.time() + 3600
    lost = source.settle([a.ack(), b.release(), c.delay(later), d.bury("rejected"), e.release(started=True)])
    assert lost == []
    again = sorted((ids([one])[0], one.starts) for one in source.receive(10))
    assert again == [("b", 0), ("e", 1)]
    assert [dead[0] for dead in bench.dead_letters()] == ["rejected"]
    assert bench.broker.size("default") == bench.sizes_put_off


def test_settling_nothing_is_fine(bench: Bench) -> None:
    assert bench.source().settle([]) == []


def test_settlements_inside_together_count_once_it_ends(bench: Bench) -> None:
    bench.send("a", "b")
    source = bench.source()
    first, second = source.receive(2)
    with source.together(), source.together():
        assert source.settle([first.ack()]) == []
        bench.send("follow-up")
        assert source.settle([second.ack()]) == []
    assert ids(source.receive(10)) == ["follow-up"]


def test_what_another_took_over_is_reported_as_lost(bench: Bench) -> None:
    bench.send("a", "b")
    one = bench.source()
    first, second = one.receive(2)
    acknowledged = [first.ack(), second.ack()]
    one.close()  # gives both back
    two = bench.source()
    taken = two.receive(1)
    assert one.settle(acknowledged) == [first, second]
    assert two.settle([delivery.ack() for delivery in taken]) == []
    assert ids(two.receive(10)) == ["b"]


# Sizes


def test_size_counts_what_waits_and_purge_deletes_that(bench: Bench) -> None:
    bench.send("a", "b", "c")
    bench.send("later", due=time.time() + 3600)
    bench.send("elsewhere", queue="other")
    source = bench.source()
    held = source.receive(1)
    expected = 3 if bench.kind.sizes_delays else 2
    assert bench.broker.size("default") == expected
    assert bench.broker.purge("default") == expected
    assert bench.broker.size("default") == 0
    assert bench.broker.size("other") == 1
    assert source.settle([one.ack() for one in held]) == []


# Messages that cannot be read


def test_what_cannot_be_read_is_buried_and_told(bench: Bench) -> None:
    bench.send("bad")
    bench.kind.spoil(bench.broker)
    bench.send("good")
    told: list[tuple[str, str]] = []
    source = bench.source()
    source.on_buried = lambda buried, reason: told.extend((one.queue, reason) for one in buried)
    assert ids(source.receive(10)) == ["good"]
    assert [(reason, task_id) for reason, _, task_id, _ in bench.dead_letters()] == [("undecodable", "bad")]
    assert told == [("default", "undecodable")]
    assert bench.broker.size("default") == 0


# Waking up


def test_a_sleeping_worker_is_woken_by_a_message_of_its_queue(bench: Bench) -> None:
    source, sleeper = bench.watched_source()
    sleeper.is_woken(0)  # opening wakes once
    assert source.receive(1) == []
    bench.send_later("a")
    asleep_at = time.monotonic()
    wait_until(lambda: sleeper.is_woken(5), within=6, because="for the wake-up")
    assert time.monotonic() - asleep_at < 4
    assert ids(source.receive(1)) == ["a"]


def test_messages_of_a_transaction_wake_when_it_commits(bench: Bench) -> None:
    source, sleeper = bench.watched_source()
    assert source.receive(1) == []
    sleeper.is_woken(0)
    with bench.source("other").together():
        bench.send("a")
        if bench.broker.capabilities.transactional_alias and not bench.kind.looks:
            assert not sleeper.is_woken(0.05)
    assert sleeper.is_woken(5)
    assert ids(source.receive(1)) == ["a"]


def test_a_message_of_another_queue_does_not_wake(bench: Bench) -> None:
    source, sleeper = bench.watched_source("quiet")
    sleeper.is_woken(0)
    bench.send("a", queue="loud")
    assert not sleeper.is_woken(0.1)
    assert source.receive(1) == []


def test_what_one_gives_back_wakes_another(bench: Bench) -> None:
    bench.send("a")
    one = bench.source()
    (delivery,) = one.receive(1)
    other, sleeper = bench.watched_source()
    assert other.receive(1) == []
    sleeper.is_woken(0)
    one.settle([delivery.release()])
    if bench.kind.pushes:
        one.close()  # else it may be the one to get it again
    assert sleeper.is_woken(5)
    assert ids(other.receive(1)) == ["a"]


# Queues that come and go


def test_a_queue_is_taken_on_while_the_source_is_open(bench: Bench) -> None:
    source, sleeper = bench.watched_source("one")
    bench.send("a", queue="two")
    assert source.receive(10) == []
    sleeper.is_woken(0)
    source.add_queue("two")
    source.add_queue("two")
    assert source.queues == ("one", "two")
    assert sleeper.is_woken(5)
    assert ids(source.receive(10)) == ["a"]
    bench.send("b", queue="two")
    bench.send("c", queue="one")
    assert sorted(ids(receive_within(source, 5, "for both", least=2))) == ["b", "c"]


def test_a_message_of_a_queue_that_was_taken_on_wakes(bench: Bench) -> None:
    source, sleeper = bench.watched_source("one")
    source.add_queue("two")
    assert sleeper.is_woken(5)
    assert source.receive(10) == []
    bench.send("a", queue="two")
    assert sleeper.is_woken(5)
    assert ids(source.receive(10)) == ["a"]


def test_a_queue_is_given_up_and_what_came_from_it_is_settled_as_ever(bench: Bench) -> None:
    bench.send("a", "b", "c", queue="two")
    source, sleeper = bench.watched_source("one", "two")
    first, second = source.receive(2)
    source.cancel_queue("two")
    source.cancel_queue("two")
    assert source.queues == ("one",)
    assert source.receive(10) == []
    assert source.settle([first.ack(), second.release()]) == []
    bench.send("d", queue="two")
    sleeper.is_woken(0)
    source.tend(time.monotonic())
    assert source.receive(10) == []
    bench.send("e", queue="one")
    assert ids(receive_within(source, 5, "for the queue that is left")) == ["e"]
    assert ids(bench.placed(bench.source("two").receive(10))) == ["b", "c", "d"]


def test_a_source_may_come_down_to_no_queue_and_take_one_on_again(bench: Bench) -> None:
    bench.send("a")
    source = bench.source()
    source.cancel_queue("default")
    assert source.receive(10) == []
    source.tend(time.monotonic())
    source.add_queue("default")
    assert ids(source.receive(10)) == ["a"]


def test_what_a_queue_keeps_for_later_comes_to_whoever_consumes_it_then(bench: Bench) -> None:
    source = bench.source("one", "two")
    bench.send("a", queue="two", due=time.time() + 1.4)
    source.cancel_queue("two")
    source.tend(time.monotonic())
    assert source.receive(10) == []
    assert bench.broker.size("two") == bench.kind.sizes_delays
    other = bench.source("three")
    other.add_queue("two")
    assert ids(receive_within(other, 10, "for the message")) == ["a"]


def test_what_a_killed_consumer_held_of_a_queue_it_had_given_up_comes_back(bench: Bench) -> None:
    bench.send("a", "b")
    holder = bench.holder(claim=2, start=1, given_up=True)
    bench.kill(holder)
    again = bench.placed(receive_within(bench.source(), 5, "for what the dead one held"))
    assert [(ids([one])[0], one.starts) for one in again] == [("a", 1), ("b", 0)]


# Leaving and dying


def test_a_source_that_cannot_be_opened_leaves_its_name_free(bench: Bench) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("No more files can be watched.")

    consumer = f"consumer-{os.getpid()}-unlucky"
    unlucky = bench.broker.source(["default"], consumer)
    try:
        unlucky.open(refuse, lambda: None)
    except OperationalError:
        bench.send("a")
        assert ids(bench.source(consumer=consumer).receive(10)) == ["a"]
    else:
        unlucky.close()
        pytest.skip("it watches no files")


def test_closing_gives_everything_back_uncounted(bench: Bench) -> None:
    bench.send("a", "b", "c")
    source = bench.source()
    source.receive(2)
    source.close()
    source.close()
    again = bench.placed(bench.source().receive(10))
    assert ids(again) == ["a", "b", "c"]
    assert [one.starts for one in again] == [0, 0, 0]
    assert [one.redelivered for one in again] == [True, True, bench.kind.pushes and again[2].redelivered]


def test_what_a_killed_consumer_held_comes_back_and_only_starts_are_counted(bench: Bench) -> None:
    bench.send("a", "b", "c", "d")
    holder = bench.holder(claim=3, start=2)
    survivor = bench.source()
    assert ids(survivor.receive(10)) == ["d"]
    bench.kill(holder)
    again = bench.placed(receive_within(survivor, 5, "for what the dead one held"))
    assert [(ids([one])[0], one.starts, one.redelivered) for one in again] == [
        ("a", 1, True),
        ("b", 1, True),
        ("c", 0, True),
    ]


@pytest.mark.slow
def test_starts_add_up_over_several_deaths(bench: Bench) -> None:
    bench.send("a")
    for deaths in range(1, 4):
        bench.kill(bench.holder(claim=1, start=1))
        source = bench.source()
        (delivery,) = receive_within(source, 5, "for what the dead one held")
        assert delivery.starts == deaths
        source.close()


def test_a_consumer_that_comes_after_the_death_takes_over_at_once(bench: Bench) -> None:
    bench.send("a")
    bench.kill(bench.holder(claim=1))
    source = bench.source()
    if bench.kind.database != "sqlite":  # on a server it looks twice: the other may be connecting anew
        assert ids(receive_within(source, 5, "for the second look")) == ["a"]
    else:
        assert ids(source.receive(10)) == ["a"]


def test_a_living_consumer_keeps_what_it_holds(bench: Bench) -> None:
    bench.send("a")
    bench.holder(claim=1, start=1)
    source = bench.source()
    for _ in range(5):
        source.tend(time.monotonic())
        assert source.receive(10) == []

"""Queues are declared as Celery declares them, found by name and alias, and made when they may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue, binding

from djqueue.conf import settings
from djqueue.core.messages import Destination
from djqueue.exceptions import QueueNotFound
from djqueue.messaging import brokers
from djqueue.messaging.queues import Queues, worker_direct

TOPIC = Exchange("topics", type="topic")

#: the same settings for both, in lower case
DECLARATIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "another default": {"task_default_queue": "work"},
    "all defaults": {
        "task_default_queue": "work",
        "task_default_exchange": "hub",
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "work.usual",
    },
    "quorum": {"task_default_queue_type": "quorum"},
    "made as quorum": {
        "task_create_missing_queue_type": "quorum",
        "task_create_missing_queue_exchange_type": "topic",
    },
    "with priorities": {"task_queue_max_priority": 10},
    "objects": {
        "task_queues": [
            Queue("bare"),
            Queue("feeds", TOPIC, routing_key="feed.#"),
            Queue("named", routing_key="other"),
            Queue("own", Exchange("own"), routing_key="own", queue_arguments={"x-max-priority": 3}),
            Queue("limited", message_ttl=5.0, max_length=7, max_priority=4, durable=False, no_ack=True),
            Queue("bound", [binding(TOPIC, routing_key="a.*"), binding(Exchange("d"), routing_key="d")]),
            Queue("dead", queue_arguments={"x-dead-letter-exchange": "graves"}, consumer_arguments={"a": 1}),
        ],
        "task_queue_max_priority": 9,
    },
    "names and options": {
        "task_queues": {
            "plain": {},
            "video": {"exchange": "media", "exchange_type": "topic", "routing_key": "media.video.#"},
            "image": {"exchange": "media", "binding_key": "media.image"},
            "short": {"queue_arguments": {"x-max-length": 5}, "alias": "brief", "durable": False},
        }
    },
}


@pytest.fixture
def declared() -> Iterator[Any]:
    """Return a function that puts settings in force and returns the queues."""

    def declare(**changes: Any) -> Queues:
        settings.update({name.upper(): value for name, value in changes.items()})
        return brokers.queues()

    yield declare
    settings.reset()


def described(queue: Queue) -> dict[str, Any]:
    """Return everything that a declaration says."""
    told = queue.as_dict(recurse=True)
    told["bindings"] = sorted(str(one) for one in queue.bindings)
    return {name: value or None for name, value in told.items()}


@pytest.mark.parametrize("named", DECLARATIONS)
def test_declarations_are_those_of_celery(named: str, declared: Any) -> None:
    asked_for = {"task_default_queue": "celery", **DECLARATIONS[named]}
    ours = declared(**asked_for)
    mine = {queue.name: described(queue) for queue in ours}
    made = described(ours.get("made up"))
    app = Celery(set_as_current=False)
    app.conf.update(asked_for)
    theirs = app.amqp.queues
    assert mine == {name: described(queue) for name, queue in theirs.items()}
    assert [queue.name for queue in ours.consumed()] == list(theirs.consume_from)
    assert made == described(theirs["made up"])


def test_the_direct_queue_of_a_worker_is_celerys() -> None:
    from_celery = pytest.importorskip("celery.utils.nodenames").worker_direct("w1@host")
    assert described(worker_direct("w1@host")) == described(from_celery)


def test_what_is_in_the_settings_is_not_changed(declared: Any) -> None:
    written = Queue("bare")
    declared(task_queues=[written], task_queue_max_priority=5)
    assert (written.exchange.name, written.routing_key, written.queue_arguments) == ("", "", None)


def test_names_alone_may_be_listed(declared: Any) -> None:
    names = declared(task_queues=["high", "low"])
    assert [(one.name, one.exchange.name, one.routing_key) for one in names] == [
        ("high", "high", "high"),
        ("low", "low", "low"),
    ]


def test_bindings_may_be_written_as_dicts(declared: Any) -> None:
    entry = {"bindings": [{"exchange": "t", "exchange_type": "topic", "routing_key": "a.#"}]}
    declared(task_queues={"both": entry})
    assert brokers.queues().matching(Destination("t", "a.b.c")) == ["both"]


def test_an_alias_is_a_second_name(declared: Any) -> None:
    queues = declared(task_queues=[Queue("a-long-name", Exchange("x"), routing_key="k", alias="short")])
    assert queues.get("short") is queues.get("a-long-name")
    assert "short" in queues
    assert [one.name for one in queues.consumed(["short"])] == ["a-long-name"]
    assert queues.consumed(exclude=["short"]) == []
    assert brokers.router().destination("t", {"queue": "short"}) == Destination(
        "", "a-long-name", "a-long-name"
    )


def test_a_queue_that_may_not_be_made_is_not_found(declared: Any) -> None:
    queues = declared(task_queues=["mails"], task_create_missing_queues=False)
    assert queues.get("mails").name == "mails"
    with pytest.raises(QueueNotFound, match=r"no queue 'mail'.* Did you mean 'mails'\? Declare it"):
        queues.get("mail")
    with pytest.raises(QueueNotFound, match="There are mails"):
        brokers.router().destination("t", {"queue": "zzz"})
    with pytest.raises(QueueNotFound):
        queues.consumed(["zzz"])


def test_queues_come_and_go_at_run_time(declared: Any) -> None:
    queues = declared(task_queues=["mails"], task_create_missing_queues=False)
    queues.add("feeds", exchange="feeds", exchange_type="topic", routing_key="feed.#", alias="f")
    assert brokers.router().destination("t", {"queue": "f"}) == Destination("feeds", "feed.#", "feeds")
    assert [one.name for one in queues.consumed()] == ["mails"]
    queues.remove("f")
    assert "feeds" not in queues
    with pytest.raises(QueueNotFound):
        brokers.router().destination("t", {"queue": "feeds"})


def test_other_settings_leave_what_was_added_alone(declared: Any) -> None:
    queues = declared(task_queues=["mails"])
    queues.add("late")
    with settings.override(TASK_ALWAYS_EAGER=True):
        assert brokers.queues() is queues
        assert brokers.router() is brokers.router()
    assert "late" in brokers.queues()


def test_other_settings_are_other_queues(declared: Any) -> None:
    before = declared(task_queues=["one"])
    assert brokers.queues() is before
    after = declared(task_queues=["two"])
    assert "one" not in after
    assert brokers.router().destination("t", {"queue": "two"}).queue == "two"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mails", "must be a list of queues or names"),
        (5, "must be a list of queues or names"),
        ([5], "5 is neither"),
        ([""], "'' is neither"),
        ({"q": 5}, "'q' has 5"),
        ({5: {}}, "one is 5"),
        ({"q": {"rooting_key": "x"}}, "did you mean 'routing_key'?"),
    ],
)
def test_wrong_declarations_are_told(value: Any, message: str, declared: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        declared(task_queues=value)
    assert message in str(caught.value)


def test_each_kind_of_queue_has_its_address(declared: Any) -> None:
    declared(
        task_queues=[
            Queue("plain", Exchange("elsewhere"), routing_key="key"),
            Queue("feeds", TOPIC, routing_key="feed.usual"),
            Broadcast("news"),
            Queue("memory", Exchange("memory", delivery_mode=1), routing_key="memory"),
        ],
        task_routes={"by.key": {"queue": "feeds", "routing_key": "feed.mine"}},
    )
    place = brokers.router().destination
    assert place("t", {"queue": "plain"}) == Destination("", "plain", "plain")
    assert place("t", {"queue": "feeds"}) == Destination("topics", "feed.usual", "feeds")
    assert place("by.key") == Destination("topics", "feed.mine", "feeds")
    assert place("t", {"queue": "feeds", "exchange": "topics"}) == place("t", {"queue": "feeds"})
    assert place("t", {"queue": "news"}) == Destination("news", "default", None)
    assert place("t", {"queue": "plain", "exchange": "e", "routing_key": "k"}) == Destination(
        "e", "k", "plain"
    )
    assert brokers.queues().address("memory").delivery_mode == 1


def test_kombus_queue_may_be_used_without_being_declared(declared: Any) -> None:
    declared()
    queue = Queue("feeds", TOPIC, routing_key="feed.usual")
    assert brokers.router().destination("t", {"queue": queue}) == Destination("topics", "feed.usual", "feeds")
    assert brokers.queues().get("feeds").exchange.name == "topics"


def test_made_up_names_are_not_kept_without_end(declared: Any) -> None:
    queues = declared()
    for number in range(2_000):
        assert queues.address(f"q{number}").queue == f"q{number}"
    assert sum(1 for _ in queues) <= 1_001

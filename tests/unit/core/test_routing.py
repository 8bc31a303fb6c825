"""Calls find their place: what the call says, then its task, then the routes, then the default."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kombu.entity import Exchange, Queue

from djqueue.core.calls import Plan, asked
from djqueue.core.messages import Destination
from djqueue.core.routing import Router, topic_matches


def queue(routes: Any, name: str = "shop.tasks.mail", **options: Any) -> str | None:
    """Return the queue that a call of the task gets."""
    return Router(routes).place(asked(Plan(name), (), {}, options)).queue


def route_by_name(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any) -> Any:
    """Route as users' functions do."""
    return {"queue": "by-function"} if name.startswith("shop.") else None


class OldRouter:
    """A router class in the style of old."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return "by-class" if task.startswith("shop.") else None


def test_without_routes_the_default_queue_is_taken_directly() -> None:
    place = Router().place(asked(Plan("t"), (), {}, {}))
    assert place == Destination("", "default", "default")
    assert Router(default_queue="celery").destination("t") == Destination("", "celery", "celery")


def test_the_calls_queue_wins_over_the_tasks_over_the_routes() -> None:
    router = Router({"t": {"queue": "route"}})
    plan = Plan("t", queue="task")
    assert router.place(asked(Plan("t"), (), {}, {})).queue == "route"
    assert router.place(asked(plan, (), {}, {})).queue == "task"
    assert router.place(asked(plan, (), {}, {"queue": "call"})).queue == "call"
    assert Router().place(asked(plan, (), {}, {})).queue == "task"


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ({"shop.tasks.mail": {"queue": "exact"}}, "exact"),
        ({"shop.tasks.mail": "as-text"}, "as-text"),
        ({"shop.*": {"queue": "glob"}, "shop.tasks.mail": {"queue": "exact"}}, "exact"),
        ({"shop.*": {"queue": "first"}, "*": {"queue": "second"}}, "first"),
        ({"*.mail": "end"}, "end"),
        ({"shop": "no"}, "default"),
        ({re.compile(r"shop\..*\.(mail|sms)"): {"queue": "regex"}}, "regex"),
        ([("shop.*", {"queue": "pairs"})], "pairs"),
        ([[re.compile("nope"), "no"], ["shop.*", "pairs"]], "pairs"),
        ([{"nope": "no"}, {"shop.*": "second-map"}], "second-map"),
        ([route_by_name, {"*": "never"}], "by-function"),
        (route_by_name, "by-function"),
        (OldRouter(), "by-class"),
        (f"{__name__}.route_by_name", "by-function"),
        ([f"{__name__}.OldRouter"], "by-class"),
        (({"shop.*": "in-tuple"},), "in-tuple"),
        ([], "default"),
        ({}, "default"),
        (lambda *a, **k: None, "default"),
        (lambda *a, **k: Queue("kombus"), "kombus"),
        ({"shop.*": {"queue": Queue("kombus")}}, "kombus"),
    ],
    ids=str,
)
def test_every_form_of_route_is_understood(routes: Any, expected: str) -> None:
    if isinstance(routes, str) or (isinstance(routes, list) and routes and isinstance(routes[0], str)):
        pytest.importorskip(__name__)
    assert queue(routes) == expected


def test_a_route_may_give_any_option_of_the_message_but_does_not_override() -> None:
    route = {"queue": "q", "priority": 3, "serializer": "yaml", "compression": "zlib", "delivery_mode": 1}
    router = Router({"t": {**route, "expires": 60}})
    call = asked(Plan("t", compression="bzip2"), (), {}, {"priority": 7})
    assert router.place(call).queue == "q"
    assert (call.priority, call.serializer, call.compression, call.delivery_mode) == (7, "yaml", None, 1)
    assert call.expires is not None


def test_a_function_is_told_the_arguments_and_what_the_call_says() -> None:
    seen: list[Any] = []

    def route(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> None:
        seen.append((name, args, kwargs, options))

    Router(route).place(asked(Plan("t", priority=2), (1,), {"a": 2}, {"queue": "q"}))
    assert seen == [("t", (1,), {"a": 2}, {"queue": "q", "priority": 2})]


def test_exchange_and_routing_key_count_only_together() -> None:
    both = {"exchange": "feeds", "routing_key": "feeds.rss"}
    assert Router().place(asked(Plan("t"), (), {}, both)) == Destination("feeds", "feeds.rss", None)
    kombus = {**both, "exchange": Exchange("feeds"), "queue": "q"}
    assert Router().destination("t", kombus) == Destination("feeds", "feeds.rss", "q")
    assert Router().place(asked(Plan("t"), (), {}, {"routing_key": "x"})).routing_key == "default"
    assert Router({"t": both}).place(asked(Plan("t"), (), {}, {})).exchange == "feeds"
    assert (
        Router().place(asked(Plan("t", exchange="feeds", routing_key="feeds.rss"), (), {}, {})).exchange
        == "feeds"
    )


def test_what_a_route_answers_is_not_changed_by_routing() -> None:
    routes = {"t": {"queue": "q", "priority": 1}}
    router = Router(routes)
    for _ in range(2):
        router.place(asked(Plan("t"), (), {}, {"queue": "other"}))
    assert routes == {"t": {"queue": "q", "priority": 1}}


def test_an_answer_that_is_no_route_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match=r"A route answered 5 for t; it must be a dict"):
        Router(lambda *a, **k: 5).place(asked(Plan("t"), (), {}, {}))


def test_destinations_of_a_name_are_found_without_a_call() -> None:
    router = Router({"shop.*": {"queue": "shop"}})
    assert router.destination("shop.x").queue == "shop"
    assert router.destination("other").queue == "default"
    assert router.destination("shop.x", {"queue": "mine", "exchange": None}).queue == "mine"


@pytest.mark.parametrize(
    ("pattern", "routing_key", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*", "a.b", False),
        ("#", "a.b", True),
        ("#", "", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b.a", False),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.*.c", "a.b.c", True),
        ("a.#.*.c", "a.c", False),
        ("#.#.#", "a", True),
    ],
)
def test_topics_match_as_in_amqp(pattern: str, routing_key: str, matches: bool) -> None:
    assert topic_matches(pattern, routing_key) is matches

"""What follows a task is a pure question of its request and its result."""

from __future__ import annotations

from typing import Any

from djqueue import signature
from djqueue.canvas import continuation
from djqueue.canvas.group import derived_id
from djqueue.core.requests import Request


def request(**known: Any) -> Request:
    return Request(id="t", task="some.task", root_id="r", **known)


def test_links_come_first_and_then_the_next_of_the_chain() -> None:
    following = continuation.after_success(
        request(
            callbacks=[dict(signature("a")), dict(signature("b", task_id="chosen"))],
            chain=[dict(signature("last")), dict(signature("next"))],
        ),
        "value",
    )
    assert [one.signature.task for one in following] == ["a", "b", "next"]
    assert all(one.args == ("value",) for one in following)
    assert [one.options.get("task_id") for one in following] == [
        *(derived_id("t", "link:0"), None, derived_id("t", "chain")),
    ]
    assert {(one.options["parent_id"], one.options["root_id"]) for one in following} == {("t", "r")}
    assert following[2].options["chain"] == [dict(signature("last"))]


def test_the_last_of_a_chain_carries_none_on() -> None:
    (one,) = continuation.after_success(request(chain=[dict(signature("next"))]), None)
    assert one.options["chain"] is None


def test_nothing_follows_what_asks_for_nothing() -> None:
    assert continuation.after_success(request(), 1) == []
    assert continuation.error_callbacks(request()) == []


def test_the_request_is_not_changed() -> None:
    asked = request(chain=[dict(signature("last")), dict(signature("next"))])
    continuation.after_success(asked, 1)
    assert len(asked.chain or ()) == 2


def test_an_error_callback_is_sent_the_id() -> None:
    failed = request(errbacks=[dict(signature("tell", unheard_of=1))])
    (errback,) = continuation.error_callbacks(failed)
    assert errback.options == {}
    follow_up = continuation.after_failure(failed, errback, 0)
    assert (follow_up.args, follow_up.options["task_id"]) == (("t",), derived_id("t", "errback:0"))

"""Chains: what `|` makes, what is sent, and the handles that come back."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from django.db import transaction

from djqueue import Signature, Task, chain, signature
from djqueue.canvas.group import derived_id
from djqueue.core.protocol import read_body
from djqueue.exceptions import NotSentYet
from tests.support.in_process import Inbox


def test_bars_and_the_function_make_the_same(add: Task[..., int]) -> None:
    made = add.s(1, 1) | add.s(2) | add.s(3)
    assert isinstance(made, chain)
    assert made == chain(add.s(1, 1), add.s(2), add.s(3)) == chain([add.s(1, 1), add.s(2), add.s(3)])
    assert made.tasks == [add.s(1, 1), add.s(2), add.s(3)]
    assert repr(made) == "canvas.add(1, 1) | canvas.add(2) | canvas.add(3)"
    grown = add.s(1, 1)
    grown |= add.s(2)
    assert grown == add.s(1, 1) | add.s(2)


def test_one_alone_is_no_chain_and_none_is_an_empty_one(add: Task[..., int]) -> None:
    assert chain(add.s(1, 1)) == add.s(1, 1)
    assert chain()() is None
    for send in (chain().apply_async, chain().apply, chain().freeze):
        with pytest.raises(ValueError, match="empty chain"):
            send()
    with pytest.raises(TypeError):
        add.s(1) | 5


def test_chains_in_chains_are_taken_apart(add: Task[..., int]) -> None:
    inner = (add.s(2) | add.s(3)).on_error(add.s(8))
    inner.link(add.s(9))
    made = add.s(1, 1) | inner | add.s(4)
    assert [step.args for step in made.tasks] == [(1, 1), (2,), (3,), (4,)]
    assert made.tasks[1].options == {"link_error": [add.s(8)]}
    assert made.tasks[2].options == {"link_error": [add.s(8)], "link": [add.s(9)]}
    assert inner.tasks[1].options == {}


def test_it_survives_every_journey(add: Task[..., int]) -> None:
    made = (add.s(1, 1) | add.s(2)).set(queue="q")
    for copy in (
        signature(json.loads(json.dumps(made))),
        pickle.loads(pickle.dumps(made)),
        made.clone(),
        Signature.from_dict(made),
    ):
        assert isinstance(copy, chain)
        assert json.dumps(copy) == json.dumps(made)
        assert copy.tasks[0] is not made.tasks[0]
        assert all(isinstance(step, Signature) for step in copy.tasks)


def test_the_first_message_carries_the_rest_backwards_as_celery_writes_it(
    add: Task[..., int], inbox: Inbox
) -> None:
    last = (add.s(1, 1) | add.s(2) | add.s(3)).apply_async()
    delivery = inbox.next()
    middle = last.parent
    assert middle is not None
    assert middle.parent is not None
    reply_to = delivery.message.properties["reply_to"]
    rest = [
        {
            "task": "canvas.add",
            "args": [number],
            "kwargs": {},
            "options": {"task_id": task_id, "reply_to": reply_to},
            "subtask_type": None,
            "immutable": False,
        }
        for number, task_id in ((3, last.id), (2, middle.id))
    ]
    written = [[1, 1], {}, {"callbacks": None, "errbacks": None, "chain": rest, "chord": None}]
    assert delivery.message.body == json.dumps(written).encode()
    assert delivery.message.headers["id"] == middle.parent.id == last.root.id


def test_partial_arguments_go_to_the_first_task(add: Task[..., int], inbox: Inbox) -> None:
    (add.s() | add.s(2)).delay(5, y=6)
    args, kwargs, embed = read_body(inbox.next().message)
    assert (args, kwargs) == ([5], {"y": 6})
    assert embed["chain"][0]["args"] == [2]
    (add.s(1) | add.s(2)).clone((7,)).delay()
    assert read_body(inbox.next().message)[0] == [7, 1]


def test_options_find_the_task_they_are_meant_for(add: Task[..., int], inbox: Inbox) -> None:
    made = add.s(1, 1) | add.s(2)
    last = made.apply_async(
        task_id="last",
        link=add.s(8),
        link_error=add.s(9),
        priority=5,
        root_id="r",
        parent_id="p",
        shadow=None,
    )
    message = inbox.next().message
    _, _, embed = read_body(message)
    assert last.id == "last"
    assert message.headers["id"] == derived_id("last", 0)
    assert (message.headers["root_id"], message.headers["parent_id"]) == ("r", "p")
    assert message.properties["priority"] == 5
    assert embed["callbacks"] is None
    assert [one["args"] for one in embed["errbacks"]] == [[9]]
    options = embed["chain"][0]["options"]
    assert options["task_id"] == "last"
    assert [one["args"] for one in options["link"]] == [[8]]
    assert [one["args"] for one in options["link_error"]] == [[9]]
    assert "priority" not in options
    assert made == add.s(1, 1) | add.s(2)


def test_what_comes_after_an_inner_chain_follows_it(add: Task[..., int], inbox: Inbox) -> None:
    (add.s(1, 1) | add.s(2)).apply_async(chain=[dict(add.s(4)), dict(add.s(3))])
    _, _, embed = read_body(inbox.next().message)
    assert [one["args"] for one in embed["chain"]] == [[4], [3], [2]]


def test_frozen_ids_are_the_ones_sent(add: Task[..., int], inbox: Inbox) -> None:
    made = add.s(1, 1) | add.s(2)
    frozen = made.freeze()
    assert made.apply_async() == frozen
    assert frozen.parent is not None
    assert inbox.next().message.headers["id"] == frozen.parent.id


def test_a_chain_of_one_is_sent_as_that_one(add: Task[..., int], inbox: Inbox) -> None:
    result = chain.of([add.s(1, 1)]).delay()
    message = inbox.next().message
    assert message.headers["id"] == result.id
    assert read_body(message)[2]["chain"] is None


@pytest.mark.django_db(transaction=True)
def test_every_handle_of_a_chain_knows_that_nothing_was_sent_yet(add: Task[..., int], inbox: Inbox) -> None:
    with transaction.atomic():
        last = (add.s(1, 1) | add.s(2)).delay()
        for handle in (last, last.parent):
            assert handle is not None
            with pytest.raises(NotSentYet):
                handle.get(timeout=5)
    assert inbox.next().message.headers["id"] == last.root.id


def test_a_long_chain_is_no_problem(add: Task[..., int], inbox: Inbox) -> None:
    last: Any = chain(add.s(0, 0), *(add.s(1) for _ in range(99))).delay()
    inbox.run_all()
    assert last.get(timeout=1) == 99
    assert len(last.as_list()) == 100

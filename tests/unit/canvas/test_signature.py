"""A signature is a dictionary with six keys that can be completed, changed and sent."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from djqueue import Signature, Task, app, maybe_signature, signature
from djqueue.core.protocol import read_body
from djqueue.exceptions import NotRegistered
from tests.support.in_process import Inbox


def test_it_is_what_travels_in_messages(add: Task[..., int]) -> None:
    written = json.dumps(add.s(1, z=2).set(queue="q"))
    assert written == (
        '{"task": "canvas.add", "args": [1], "kwargs": {"z": 2}, "options": {"queue": "q"},'
        ' "subtask_type": null, "immutable": false}'
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda add: signature("canvas.add", (1, 2)),
        lambda add: signature(add, args=(1, 2)),
        lambda add: add.signature((1, 2)),
        lambda add: app.signature({"task": "canvas.add", "args": (1, 2)}),
        lambda add: Signature(add.s(1, 2)),
        lambda add: maybe_signature(add.s(1, 2)),
        lambda add: copy.copy(add.s(1, 2)),
        lambda add: copy.deepcopy(add.s(1, 2)),
        lambda add: pickle.loads(pickle.dumps(add.s(1, 2))),
        lambda add: maybe_signature(dict(add.s(1, 2))),
    ],
)
def test_there_are_many_ways_to_make_one(add: Task[..., int], make: Any) -> None:
    made = make(add)
    assert type(made) is Signature
    assert made == add.s(1, 2)
    assert made() == 3


def test_only_tasks_and_names_make_one() -> None:
    with pytest.raises(TypeError, match="made of a task or its name"):
        signature(5)
    assert maybe_signature(None) is None


def test_its_parts_are_attributes(add: Task[..., int]) -> None:
    made = add.si(1, z=3).set(task_id="i", parent_id="p", root_id="r")
    assert (made.task, made.name, made.args, made.kwargs) == ("canvas.add", "canvas.add", (1,), {"z": 3})
    assert (made.id, made.parent_id, made.root_id) == ("i", "p", "r")
    assert (made.immutable, made.subtask_type, made.type) == (True, None, add)
    assert repr(add.s(1, z=3)) == "canvas.add(1, z=3)"
    with pytest.raises(NotRegistered):
        signature("nobody.knows").type  # noqa: B018


def test_given_arguments_come_first_and_given_keywords_and_options_win(
    add: Task[..., int], inbox: Inbox
) -> None:
    partial = add.s(2, z=3).set(queue="here", priority=1)
    partial.apply_async((1,), {"z": 9}, priority=5, queue=None)
    message = Inbox("here").next().message
    assert read_body(message)[:2] == ([1, 2], {"z": 9})
    assert message.properties["priority"] == 5
    assert partial == add.s(2, z=3).set(queue="here", priority=1)


def test_an_immutable_one_takes_no_arguments_but_options(add: Task[..., int], inbox: Inbox) -> None:
    fixed = add.si(1, 2)
    fixed.apply_async((9,), {"z": 9}, priority=5)
    message = inbox.next().message
    assert read_body(message)[:2] == ([1, 2], {})
    assert message.properties["priority"] == 5
    fixed.set_immutable(False)
    assert fixed.clone((0,)).args == (0, 1, 2)
    assert add.s().set(immutable=True).immutable


def test_a_group_it_belongs_to_and_stamps_it_has_are_kept(add: Task[..., int]) -> None:
    made = add.s(1, 2).set(group_id="g", stamped_headers=["s"], s="one")
    options = made.clone(group_id="other", stamped_headers=["t"], s="two", queue="q").options
    assert options == {"group_id": "g", "stamped_headers": ["s"], "s": "one", "queue": "q"}


def test_a_clone_shares_nothing_that_changes(add: Task[..., int]) -> None:
    original = add.s(1).set(link=[add.s(2)])
    clone = original.clone((0,), {"z": 1}, queue="q")
    clone.options["link"].append("more")
    clone.kwargs["y"] = 5
    assert (original.args, original.kwargs, original.options) == ((1,), {}, {"link": [add.s(2)]})
    assert clone.args == (0, 1)
    assert isinstance(clone.options["link"][0], Signature)
    assert original.replace(args=(7,), options={}) == add.s(7)


def test_lazy_arguments_survive_cloning(add: Task[..., int]) -> None:
    lazy = iter([1, 2])
    assert add.s(lazy).clone().args[0] is lazy


def test_links_are_added_once(add: Task[..., int]) -> None:
    made = add.s(1)
    assert made.link(add.s(2)) == add.s(2)
    made.link(add.s(2))
    assert made.on_error(add.s(3)).on_error(add.s(4)) is made
    assert made.options == {"link": [add.s(2)], "link_error": [add.s(3), add.s(4)]}
    single = signature({"task": "canvas.add", "options": {"link": dict(add.s(1))}})
    single.link(add.s(2))
    assert single.options["link"] == [add.s(1), add.s(2)]


def test_freezing_decides_the_ids_once(add: Task[..., int]) -> None:
    made = add.s(1, 2)
    handle = made.freeze(root_id="r", parent_id="p", group_id="g", group_index=0, chord="c")
    assert made.id == handle.id
    assert made.freeze("other").id == handle.id
    assert list(made.options) == [
        *("task_id", "root_id", "parent_id", "reply_to", "group_id", "chord", "group_index"),
    ]
    assert add.s().freeze("chosen").id == "chosen"


def test_a_task_that_is_unknown_here_is_sent_by_name(inbox: Inbox) -> None:
    result = signature("nobody.knows", (1,), queue="default").delay(0)
    message = inbox.next().message
    assert (message.headers["id"], message.headers["task"]) == (result.id, "nobody.knows")
    assert read_body(message)[0] == [0, 1]


def test_it_can_be_run_here(add: Task[..., int]) -> None:
    assert add.s(2)(1, z=3) == 6
    assert add.s(2).apply((1,), {"z": 3}).get() == 6
    assert add.s(1, 2).set(queue="q").apply().state == "SUCCESS"


def test_signatures_in_messages_are_plain_dictionaries_whatever_writes_them(
    add: Task[..., int], inbox: Inbox
) -> None:
    add.apply_async((1, 2), link=add.s(3).set(link=[add.s(4)]), serializer="pickle")
    message = inbox.next().message
    assert b"Signature" not in message.body

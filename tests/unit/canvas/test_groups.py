"""Groups and chords as data, and as they are sent: ids, options, one go, and the handles that come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import transaction

from djqueue import (
    GroupResult,
    Signature,
    StampingVisitor,
    Task,
    chain,
    chord,
    chunks,
    enqueue_many,
    group,
    shared_task,
    xmap,
    xstarmap,
)
from djqueue.conf import settings
from djqueue.core.messages import Outgoing
from djqueue.core.protocol import read_body
from djqueue.exceptions import NotSentYet, OperationalError
from djqueue.messaging import brokers
from djqueue.result.backends import ResultsDisabled
from tests.support.in_process import DictStore, Inbox


def headers(inbox: Inbox) -> list[dict[str, Any]]:
    return [delivery.message.headers for delivery in inbox.receive()]


# What `|` makes


def test_bars_make_what_celery_makes(add: Task[..., int], total: Task[..., int]) -> None:
    one, two, three = add.s(1), add.s(2), add.s(3)
    both = group(one, two)
    assert isinstance(one | both, chain)
    assert (one | both).tasks == [one, both]
    assert one | group(two) == one | two
    assert both | three == chord(both, three)
    assert both | both == chord(both, both)
    assert (one | both | three).tasks == [one, chord(both, three)]
    assert chord([one], two) | three == chord([one], two | three)
    assert one | group() == one
    assert isinstance(chord([one], two) | chord([one], two), chain)
    assert (both | total.s() | both | total.s()) == chord(both, total.s() | chord(both, total.s()))
    with pytest.raises(TypeError):
        both | 5
    with pytest.raises(TypeError, match="made of signatures"):
        chain(one, 5)


def test_nothing_that_is_combined_is_changed(add: Task[..., int]) -> None:
    parts = [add.s(1), group(add.s(1), add.s(2)), chord([add.s(1)], add.s(2)), add.s(1) | add.s(2)]
    before = json.dumps(parts)
    for first in parts:
        for second in parts:
            first | second
            chain(first, second, first).freeze()
    assert json.dumps(parts) == before


def test_they_are_made_in_many_ways(add: Task[..., int]) -> None:
    members = [add.s(1, 1), add.s(2, 2)]
    assert group(*members) == group(members) == group(iter(members)) == group(group(members))
    assert group(add.s(1, 1)).tasks == [add.s(1, 1)]
    assert chord(members, add.s()) == chord(group(members), add.s()) == chord(iter(members), dict(add.s()))
    assert len(group(members)) == 2
    assert bool(group()) is True
    assert repr(group(members)) == "group(canvas.add(1, 1), canvas.add(2, 2))"
    assert repr(chord(members, add.s())) == "%canvas.add([canvas.add(1, 1), canvas.add(2, 2)])"
    assert repr(group()) == "group(<empty>)"
    assert repr(add.map([1, 2])) == "[canvas.add(x) for x in [1, 2]]"
    assert repr(add.starmap([(1, 2)])) == "[canvas.add(*x) for x in [(1, 2)]]"
    assert isinstance(add.map([]), xmap)
    assert isinstance(add.starmap([]), xstarmap)
    assert isinstance(add.chunks([], 1), chunks)
    assert isinstance(chain(add.s(1), add.s(2)), chain)
    with pytest.raises(ValueError, match="at least one item"):
        add.chunks([], 0)


def test_only_signatures_are_put_together(add: Task[..., int]) -> None:
    for wrong in (5, "canvas.add", [add.s(1), 5], [add.s(1), "canvas.add"]):
        with pytest.raises(TypeError, match="A group is made of signatures"):
            group(wrong)
        with pytest.raises(TypeError, match="A chord's header is made of signatures"):
            chord(wrong, add.s())


# What is sent


def test_members_have_the_group_and_their_place(add: Task[..., int], inbox: Inbox) -> None:
    result = group(add.s(1, 1), add.s(2, 2)).delay()
    sent = headers(inbox)
    assert [(one["group"], one["group_index"]) for one in sent] == [(result.id, 0), (result.id, 1)]
    assert [one["id"] for one in sent] == [one["root_id"] for one in sent] == [member.id for member in result]
    assert len({one["id"] for one in sent}) == 2


def test_everything_leaves_in_one_go(
    add: Task[..., int], total: Task[..., int], inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[int] = []
    broker = brokers.broker()
    send_many = broker.send_many

    def note(outgoing: Sequence[Outgoing]) -> None:
        gone.append(len(outgoing))
        send_many(outgoing)

    monkeypatch.setattr(broker, "send_many", note)
    group(add.s(1, 1) for _ in range(50)).delay()
    chord(
        [add.s(1, 1), group(add.s(2, 2), add.s(3, 3)), chord([add.s(4, 4)] * 5, total.s())], total.s()
    ).delay()
    assert gone == [50, 8]


def test_nothing_is_sent_if_one_member_cannot_be(add: Task[..., int], inbox: Inbox) -> None:
    with pytest.raises(TypeError):
        group(add.s(1, 1), add.s(1, 2, 3, 4)).delay()
    with pytest.raises(TypeError, match="is not an option"):
        group(add.s(1, 1), add.s(1, 1).set(colour="red")).delay()
    assert inbox.receive() == []


def test_partial_arguments_and_options_are_every_members(add: Task[..., int], inbox: Inbox) -> None:
    made = group(add.s(1), add.si(2, 2), add.s(3).set(priority=1)).set(priority=5)
    made.apply_async((7,))
    sent = [delivery.message for delivery in inbox.receive()]
    assert [read_body(message)[0] for message in sent] == [[7, 1], [2, 2], [7, 3]]
    assert {message.properties["priority"] for message in sent} == {5}


def test_a_group_has_no_callbacks_when_it_is_sent(add: Task[..., int], inbox: Inbox) -> None:
    made = group(add.s(1, 1), add.s(2, 2))
    for option in ("link", "link_error"):
        with pytest.raises(TypeError, match="Nothing can be linked"):
            made.apply_async(**{option: add.s(1)})
    assert made.link(add.s(3)) == add.si(3)
    assert made.link_error(add.s(4)) == (add.s(4), add.s(4))
    made.delay()
    embeds = [read_body(delivery.message)[2] for delivery in inbox.receive()]
    assert [len(embed["callbacks"] or ()) for embed in embeds] == [1, 0]
    assert [len(embed["errbacks"]) for embed in embeds] == [1, 1]


def test_members_may_start_one_after_the_other(add: Task[..., int]) -> None:
    made = group(add.s(1, 1) for _ in range(4)).skew(start=1, stop=4, step=1.5)
    assert [member.options["countdown"] for member in made.tasks] == [1, 2.5, 2.5, 2.5]


def test_frozen_ids_are_the_ones_sent(add: Task[..., int], total: Task[..., int], inbox: Inbox) -> None:
    for made in (
        group(add.s(1, 1), add.s(2, 2) | add.s(3)),
        chord([add.s(1, 1), add.s(2, 2) | add.s(3)], total.s() | add.s(1)),
        add.s(1, 1) | group(add.s(1), add.s(2)) | total.s(),
    ):
        frozen, sent = made.freeze(), made.apply_async()
        assert sent.as_tuple() == frozen.as_tuple()
        inbox.receive()


def test_ids_that_are_asked_for_are_the_ends_and_the_others_follow_from_them(
    add: Task[..., int], total: Task[..., int], inbox: Inbox
) -> None:
    made = chord([add.s(1, 1), add.s(2, 2)], total.s())
    once, twice = (made.apply_async(task_id="body") for _ in range(2))
    assert once.id == twice.id == "body"
    assert once.as_tuple() == twice.as_tuple()
    assert made.delay().as_tuple() != made.delay().as_tuple()


def test_a_chords_options_find_the_part_they_are_meant_for(
    add: Task[..., int], total: Task[..., int], inbox: Inbox, store: DictStore
) -> None:
    made = chord([add.s(1, 1)], total.s())
    result = made.apply_async(task_id="body", link=add.s(1), link_error=add.s(2), priority=3, countdown=60)
    outgoing = brokers.broker().size("default")
    assert (result.id, outgoing) == ("body", 1)
    assert made == chord([add.s(1, 1)], total.s())
    assert list(store.openings) == [result.parent.id]
    body = chord([add.s(1, 1)], total.s()).set(queue="q")
    body.link(add.s(9))
    body.delay()
    message = Inbox("q").next().message
    options = read_body(message)[2]["chord"]["options"]
    assert options["queue"] == "q"
    assert [one["args"] for one in options["link"]] == [[9]]


def test_a_chord_needs_a_body_and_a_store(add: Task[..., int], total: Task[..., int]) -> None:
    with pytest.raises(TypeError, match="without a body"):
        chord([add.s(1, 1)]).delay()
    with settings.override(RESULT_BACKEND="disabled"), pytest.raises(ResultsDisabled, match="RESULT_BACKEND"):
        chord([add.s(1, 1)], total.s()).delay()
    assert isinstance(ResultsDisabled(), NotImplementedError)


def test_only_single_tasks_are_enqueued_as_many(add: Task[..., int]) -> None:
    for one in (group(add.s(1, 1)), chord([add.s(1, 1)], add.s()), add.s(1) | add.s(2)):
        with pytest.raises(TypeError, match="with its own apply_async"):
            enqueue_many([one])


def test_a_group_sent_by_a_task_is_one_of_its_children(
    add: Task[..., int], total: Task[..., int], inbox: Inbox
) -> None:
    @shared_task(name="groups.sender")
    def sender() -> None:
        group(add.s(1, 1), add.s(2, 2)).delay()
        chord([add.s(1, 1)], total.s()).delay()

    result = sender.delay()
    inbox.run()
    children = result.children or []
    assert [type(child) for child in children] == [GroupResult, GroupResult]
    assert [len(child) for child in children] == [2, 1]
    assert {one["root_id"] for one in headers(inbox)} == {result.id}


def test_maps_go_where_their_task_goes(inbox: Inbox) -> None:
    there = shared_task(name="groups.there", queue="there")(lambda x: x)
    there.map([1]).delay()
    there.chunks([(1,), (2,)], 1).delay()
    assert [one["task"] for one in headers(Inbox("there"))] == ["celery.map", *["celery.starmap"] * 2]


def test_async_twins(add: Task[..., int], total: Task[..., int], inbox: Inbox) -> None:
    async def send() -> list[Any]:
        one = await group(add.s(1, 1), add.s(2, 2)).adelay()
        two = await chord([add.s(1, 1)], total.s()).aapply_async()
        inbox.run_all()
        await one.asave()
        restored = await GroupResult.arestore(one.id)
        assert restored is not None
        return [await one.aget(timeout=1), await two.aget(timeout=1), await restored.ajoin(timeout=1)]

    assert asyncio.run(send()) == [[2, 4], 2, [2, 4]]


# Transactions


class Undo(Exception):
    """Ends an atomic block with a rollback."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broker", ["memory://", "django://default"])
def test_groups_and_chords_leave_with_the_transaction(
    broker: str, add: Task[..., int], total: Task[..., int], store: DictStore
) -> None:
    with settings.override(BROKER_URL=broker):
        with transaction.atomic():
            members = group(add.s(1, 1), add.s(2, 2)).delay()
            members.save()
            body = chord([add.s(1, 1), add.s(2, 2)], total.s()).delay()
            if broker == "memory://":
                assert (brokers.broker().size("default"), store.openings, store.groups) == (0, {}, {})
            for handle in (members, members[0], body, body.parent, body.parent[1]):
                with pytest.raises(NotSentYet):
                    handle.get(timeout=5)
        assert brokers.broker().size("default") == 4
        assert list(store.openings) == [body.parent.id]
        assert list(store.groups) == [members.id]


@pytest.mark.django_db(transaction=True)
def test_nothing_is_left_of_them_after_a_rollback(
    add: Task[..., int], total: Task[..., int], inbox: Inbox, store: DictStore
) -> None:
    with pytest.raises(Undo), transaction.atomic():
        members = group(add.s(1, 1)).delay()
        members.save()
        body = chord([add.s(1, 1)], total.s()).delay()
        raise Undo
    assert (inbox.receive(), store.openings, store.groups) == ([], {}, {})
    for handle in (members, body):
        with pytest.raises(NotSentYet, match="rolled back"):
            handle.get(timeout=5)


@pytest.mark.django_db(transaction=True)
def test_a_chord_can_be_sent_now(add: Task[..., int], total: Task[..., int], inbox: Inbox) -> None:
    with transaction.atomic():
        chord([add.s(1, 1)], total.s()).apply_async(on_commit=False)
        assert len(inbox.receive()) == 1


def test_a_broker_that_is_away_is_told_to_the_sender(
    add: Task[..., int], total: Task[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(outgoing: Sequence[Outgoing], policy: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(brokers.broker(), "send_patiently", refuse)
    for made in (group(add.s(1, 1)), chord([add.s(1, 1)], total.s())):
        with pytest.raises(OperationalError, match="away"):
            made.delay()


# Stamps


class Visitor(StampingVisitor):
    """Stamps each part with where it stands."""

    def on_signature(self, sig: Signature, **headers: Any) -> dict[str, Any]:
        return {"task": sig.task}

    def on_group_start(self, group: group, **headers: Any) -> dict[str, Any]:
        return {"in_group": True}

    def on_chain_start(self, chain: chain, **headers: Any) -> dict[str, Any]:
        return {"in_chain": True}

    def on_chord_body(self, sig: chord, **header: Any) -> dict[str, Any]:
        return {"in_body": True}

    def on_callback(self, callback: Signature, **header: Any) -> dict[str, Any]:
        return {"after": "success", "note": 1, "stamped_headers": ["after"]}

    def on_errback(self, errback: Signature, **header: Any) -> dict[str, Any]:
        return {"after": "failure"}


def stamps(signature: Any) -> dict[str, Any]:
    return {name: signature.options[name] for name in signature.options["stamped_headers"]}


def test_stamps_reach_everything_and_travel(add: Task[..., int], total: Task[..., int], inbox: Inbox) -> None:
    flow = chain(add.s(1, 1).set(link=[add.s(5)]), group(add.s(1), add.s(2)), total.s().on_error(add.s(6)))
    flow.stamp(tenant="acme")
    flow.delay()
    message = inbox.next().message
    assert message.headers["stamped_headers"] == ["tenant"]
    assert message.headers["stamps"] == {"tenant": "acme"}
    _, _, embed = read_body(message)
    assert embed["callbacks"][0]["options"]["tenant"] == "acme"
    step = embed["chain"][0]["kwargs"]
    assert [one["options"]["tenant"] for one in (*step["header"], step["body"])] == ["acme"] * 3
    assert step["body"]["options"]["link_error"][0]["options"]["tenant"] == "acme"


def test_a_visitor_gives_each_part_its_own(add: Task[..., int], total: Task[..., int]) -> None:
    first = add.s(1, 1).set(link=[add.s(5)], link_error=[add.s(6)])
    flow = chain(first, group(add.s(1), add.s(2)), total.s())
    flow.stamp(Visitor())
    one, rest = flow.tasks
    assert stamps(one) == {"in_chain": True, "task": "canvas.add"}
    assert stamps(one.options["link"][0]) == {"in_chain": True, "after": "success", "task": "canvas.add"}
    assert stamps(one.options["link_error"][0])["after"] == "failure"
    assert stamps(rest.tasks[0]) == {"in_chain": True, "in_group": True, "task": "canvas.add"}
    assert stamps(rest.body) == {
        "in_chain": True,
        "in_group": True,
        "in_body": True,
        "task": "canvas.total",
    }


def test_of_several_values_the_visitors_stays_or_all_of_them(add: Task[..., int]) -> None:
    def made() -> Signature:
        return add.s(1, 1).set(stamped_headers=["task"], task="own")

    assert stamps(made().stamp(task="given")) == {"task": "own"}
    assert stamps(made().stamp(Visitor(), task="given")) == {"task": "canvas.add"}
    assert stamps(made().stamp(Visitor(), append_stamps=True, task="given")) == {
        "task": ["given", "canvas.add", "own"]
    }
    with pytest.raises(TypeError):
        StampingVisitor()  # type: ignore[abstract]


def test_what_a_stamped_task_sends_is_stamped_when_it_takes_its_place(
    add: Task[..., int], inbox: Inbox
) -> None:
    become = shared_task(name="groups.become", bind=True)(lambda self: self.replace(add.s(1, 1)))
    become.s().stamp(tenant="acme").delay()
    inbox.run()
    assert inbox.next().message.headers["stamps"] == {"tenant": "acme"}


def test_links_are_found_however_deep(add: Task[..., int]) -> None:
    made = add.s(1).set(link=[add.s(2).set(link=[add.s(3)]), add.s(4)])
    assert [one.args for one in made.flatten_links()] == [(1,), (2,), (3,), (4,)]

"""Workflows, run to their end here: what comes out, in which order, and what failures bring about.

Each runs once with a store that counts chords and once with one that has to be asked.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from djqueue import (
    Signature,
    Task,
    chain,
    chord,
    group,
    shared_task,
)
from djqueue.conf import settings
from tests.support.in_process import Inbox

pytestmark = pytest.mark.usefixtures("how_chords_complete")


class Expected(Exception):
    """The tasks below fail with this one."""


@pytest.fixture
def fail() -> Task[..., Any]:
    @shared_task(name="flow.fail")
    def fail(*args: Any) -> None:
        raise Expected("as asked")

    return fail


def value(result: Any) -> Any:
    return result.get(timeout=1)


Build = Any

#: name → what is built of (add, same, total), and what comes out of it
FLOWS: dict[str, tuple[Build, Any]] = {
    "a group": (lambda a, s, t: group(s.s(1), s.s(2), s.s(3)), [1, 2, 3]),
    "a generator": (lambda a, s, t: group(s.s(number) for number in range(4)), [0, 1, 2, 3]),
    "an empty group": (lambda a, s, t: group(), []),
    "a group in a group": (lambda a, s, t: group(s.s(1), group(s.s(2), group(s.s(3))), s.s(4)), [1, 2, 3, 4]),
    "a chain in a group": (lambda a, s, t: group(a.s(1, 1) | a.s(2), s.s(9)), [4, 9]),
    "a task and a group": (lambda a, s, t: a.s(1, 1) | group(a.s(1), a.s(2)), [3, 4]),
    "a group of one after a task": (lambda a, s, t: a.s(1, 1) | group(a.s(1)), 3),
    "a chain with a group as a group's only member": (
        lambda a, s, t: group(a.s(1, 1) | group(a.s(1), a.s(2))),
        [3, 4],
    ),
    "a chord": (lambda a, s, t: chord([a.s(1, 1), a.s(2, 2)], t.s()), 6),
    "a group and a task": (lambda a, s, t: group(a.s(1, 1), a.s(2, 2)) | t.s(), 6),
    "a chord without a header": (lambda a, s, t: chord([], t.s()), 0),
    "a chord of one": (lambda a, s, t: chord([s.s(5)], t.s()), 5),
    "an immutable body": (lambda a, s, t: chord([s.s(1), s.s(2)], s.si("done")), "done"),
    "two groups": (lambda a, s, t: group(s.s(1), s.s(2)) | group(s.s(), t.s()), [[1, 2], 3]),
    "two groups and a task": (
        lambda a, s, t: group(s.s(1), s.s(2)) | group(t.s(), t.s()) | t.s(),
        6,
    ),
    "a task, a group and a task": (lambda a, s, t: a.s(1, 1) | group(a.s(1), a.s(2)) | t.s(), 7),
    "a chord and a task": (lambda a, s, t: chord([s.s(1), s.s(2)], t.s()) | a.s(10), 13),
    "a chord and a group": (
        lambda a, s, t: chord([s.s(1), s.s(2)], t.s()) | group(a.s(1), a.s(2)),
        [4, 5],
    ),
    "a chord and a group and a task": (
        lambda a, s, t: chord([s.s(1), s.s(2)], t.s()) | group(a.s(1), a.s(2)) | t.s(),
        9,
    ),
    "two chords": (
        lambda a, s, t: chord([s.s(1), s.s(2)], t.s()) | chord([a.s(1), a.s(2)], t.s()),
        9,
    ),
    "a chain, a chord and a long tail": (
        lambda a, s, t: chain(
            s.s(1), a.s(1), group(a.s(1), a.s(2), a.s(3)), t.s(), a.s(1), group(a.s(1), a.s(2)), t.s()
        ),
        29,
    ),
    "a chord in a header": (
        lambda a, s, t: chord([chord([s.s(1), s.s(2)], t.s()), s.s(4)], t.s()),
        7,
    ),
    "a chord in a body": (lambda a, s, t: chord([s.s(1), s.s(2)], chord([t.s(), t.s()], t.s())), 6),
    "chains in a header": (
        lambda a, s, t: chord([s.s(1) | a.s(1), s.s(2) | a.s(2) | a.s(3)], t.s()),
        9,
    ),
    "a chain as body": (lambda a, s, t: chord([s.s(1), s.s(2)], t.s() | a.s(1) | a.s(2)), 6),
    "a group in a chain in a header": (
        lambda a, s, t: chord([s.s(1) | group(a.s(1), a.s(2)), s.s(9)], s.s()),
        [[2, 3], 9],
    ),
    "a group in a body in a header": (
        lambda a, s, t: chord([chord([s.s(1), s.s(2)], group(t.s(), t.s())), s.s(9)], s.s()),
        [[3, 3], 9],
    ),
    "a chain in a group in a chain": (
        lambda a, s, t: s.s(1) | group(a.s(1) | a.s(1), a.s(2) | a.s(2)) | t.s(),
        8,
    ),
    "chords three deep": (
        lambda a, s, t: chord([chord([chord([s.s(1), s.s(2)], t.s()), s.s(3)], t.s()), s.s(4)], t.s()),
        10,
    ),
    "groups in a row": (
        lambda a, s, t: chain(group(s.s(1), s.s(2)), group(s.s(), s.s()), group(s.s(), s.s()), s.s()),
        [[[1, 2], [1, 2]], [[1, 2], [1, 2]]],
    ),
    "an empty group in a chain": (lambda a, s, t: chain(s.s(1), group(), a.s(1)), 2),
    "a map": (lambda a, s, t: s.map([1, 2, 3]), [1, 2, 3]),
    "a star map": (lambda a, s, t: a.starmap([(1, 1), (2, 2)]), [2, 4]),
    "chunks": (lambda a, s, t: a.chunks([(n, n) for n in range(5)], 2), [[0, 2], [4, 6], [8]]),
    "chunks and a task": (
        lambda a, s, t: a.chunks([(n, n) for n in range(5)], 2).group() | s.s(),
        [[0, 2], [4, 6], [8]],
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_what_comes_out(
    name: str, add: Task[..., Any], same: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    build, expected = FLOWS[name]
    flow = build(add, same, total)
    result = flow.apply_async()
    inbox.run_all()
    assert value(result) == expected


@pytest.mark.parametrize("name", FLOWS)
def test_the_same_comes_out_eagerly(
    name: str, add: Task[..., Any], same: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    build, expected = FLOWS[name]
    assert value(build(add, same, total).apply()) == expected
    with settings.override(TASK_ALWAYS_EAGER=True):
        assert value(build(add, same, total).delay()) == expected
    assert inbox.receive() == []


@pytest.mark.parametrize("name", FLOWS)
def test_it_survives_the_wire(
    name: str, add: Task[..., Any], same: Task[..., Any], total: Task[..., Any], inbox: Inbox
) -> None:
    build, expected = FLOWS[name]
    flow = build(add, same, total)
    copy = Signature.from_dict(json.loads(json.dumps(flow)))
    assert type(copy) is type(flow)
    assert json.dumps(copy) == json.dumps(flow)
    result = copy.delay()
    inbox.run_all()
    assert value(result) == expected

"""Names of keys: kombu's for queues and priorities, ours beside them, all under one prefix.

What kombu itself would choose is asked of kombu.
"""

from __future__ import annotations

from typing import Any

import pytest
from kombu.transport.redis import Channel

from djqueue.messaging.transports.redis.keys import Keys
from djqueue.messaging.transports.redis.options import Options

SEP = "\x06\x16"


def keys(**options: Any) -> Keys:
    return Keys(Options.read(options))


def kombus_choice(priority: Any) -> str:
    """Return the list that kombu pushes a message of this priority to."""
    channel = Channel.__new__(Channel)
    channel.sep, channel.priority_steps = SEP, [0, 3, 6, 9]
    chosen = channel._get_message_priority({"properties": {"priority": priority}}, reverse=False)
    return str(channel._q_for_pri("q", chosen))


def test_a_queue_is_one_list_for_each_priority_step() -> None:
    assert keys().lists("q") == ("q", f"q{SEP}3", f"q{SEP}6", f"q{SEP}9")
    assert keys(priority_steps=[0, 5], sep=":").lists("q") == ("q", "q:5")


@pytest.mark.parametrize(
    "priority", [None, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 255, -1, -99, 3.7, "5", "high", "", True, [1], {}]
)
def test_priorities_go_where_kombu_puts_them(priority: Any) -> None:
    assert keys().list_for("q", priority) == kombus_choice(priority)


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), "9" * 5000])
def test_numbers_that_are_none_come_first(priority: Any) -> None:
    assert keys().list_for("q", priority) == "q"


def test_the_prefix_stands_before_every_key() -> None:
    prefixed = keys(global_keyprefix="shop:")
    names = [
        *(prefixed.unacked, prefixed.unacked_index, prefixed.leases, prefixed.graves, prefixed.dead),
        *(prefixed.dead_index, prefixed.delayed_lists, prefixed.projects, *prefixed.lists("q")),
        *(prefixed.own("c"), prefixed.node("c"), prefixed.machine("m"), prefixed.consumers("q")),
        *(prefixed.sender("s"), prefixed.bindings("e"), prefixed.permanent_bindings("e")),
        prefixed.delayed("shop:q"),
    ]
    assert all(name.startswith("shop:") for name in names)
    assert len(set(names)) == len(names)
    assert prefixed.delayed("shop:q") == "shop:djq:delayed:q"


def test_bindings_are_kombus() -> None:
    assert keys().bindings("e") == "_kombu.binding.e"
    assert keys().binding("key", "", "q") == f"key{SEP}{SEP}q"
    assert keys().split_binding(f"key{SEP}pattern{SEP}q") == ("key", "pattern", "q")
    assert keys().split_binding("broken") == ("broken", "", "")


def test_names_of_unacked_messages_can_be_chosen() -> None:
    chosen = keys(unacked_key="u", unacked_index_key="i")
    assert (chosen.unacked, chosen.unacked_index) == ("u", "i")

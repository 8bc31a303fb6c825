"""The names of all keys: kombu's, exactly, and ours, which begin with `djq:`.

Queues and priorities come in, names of keys leave, each with `global_keyprefix`. A queue is one list for each
priority step; the step of 0 is first and bears the queue's bare name. A list is filled at its left end and
read at its right.
"""

from __future__ import annotations

from bisect import bisect

from djqueue.messaging.transports.redis.options import Options

LEAST_PRIORITY, MOST_PRIORITY = 0, 9


class Keys:
    """The layout for one set of options."""

    def __init__(self, options: Options) -> None:
        self._prefix = prefix = options.global_keyprefix
        self._sep = options.sep
        self._steps = options.priority_steps
        self._lists: dict[str, tuple[str, ...]] = {}
        self.unacked = prefix + options.unacked_key
        self.unacked_index = prefix + options.unacked_index_key
        self.leases = f"{prefix}djq:leases"
        self.graves = f"{prefix}djq:graves"
        self.delayed_lists = f"{prefix}djq:delayed_lists"
        self.dead = f"{prefix}djq:dead"
        self.dead_index = f"{prefix}djq:dead_index"
        self.revoked = f"{prefix}djq:revoked"
        self.projects = f"{prefix}djq:projects"

    def lists(self, queue: str) -> tuple[str, ...]:
        """Return the lists of a queue, the one that is read first in front."""
        known = self._lists.get(queue)
        if known is None:
            rest = [f"{self._prefix}{queue}{self._sep}{step}" for step in self._steps[1:]]
            known = (self._prefix + queue, *rest)
            if len(self._lists) < 1000:  # names may be made up by senders without end
                self._lists[queue] = known
        return known

    def list_for(self, queue: str, priority: object) -> str:
        """Return the list of a queue that takes messages of this priority."""
        return self.lists(queue)[self.step(priority)]

    def step(self, priority: object) -> int:
        """Return the number of the step: out of bounds is clamped, what is no number is 0, as in kombu."""
        if not priority or not isinstance(priority, int | float | str):
            return 0
        try:
            level = int(priority)
        except (ValueError, OverflowError):
            return 0
        return bisect(self._steps, min(max(level, LEAST_PRIORITY), MOST_PRIORITY)) - 1

    def delayed(self, list_key: str) -> str:
        """Return the set of the messages that go into this list when they are due."""
        return f"{self._prefix}djq:delayed:{self.bare(list_key)}"

    def own(self, consumer: str) -> str:
        """Return the set of the tags a consumer holds."""
        return f"{self._prefix}djq:own:{consumer}"

    def node(self, consumer: str) -> str:
        """Return the hash of what is known of a consumer."""
        return f"{self._prefix}djq:node:{consumer}"

    def machine(self, machine: str) -> str:
        """Return the set of the consumers on one machine."""
        return f"{self._prefix}djq:machine:{machine}"

    def consumers(self, queue: str) -> str:
        """Return the set of a queue's consumers, by the end of their leases."""
        return f"{self._prefix}djq:consumers:{queue}"

    def sender(self, sender: str) -> str:
        """Return the marker of a sender: the number of the last publish that was carried out."""
        return f"{self._prefix}djq:sender:{sender}"

    def bindings(self, exchange: str) -> str:
        """Return kombu's set of an exchange's bindings."""
        return f"{self._prefix}_kombu.binding.{exchange}"

    def permanent_bindings(self, exchange: str) -> str:
        """Return kombu's set of those bindings that do not expire."""
        return f"{self._prefix}_kombu.binding_permanent.{exchange}"

    def binding(self, routing_key: str, pattern: str, queue: str) -> str:
        """Return a member of the set of bindings."""
        return self._sep.join((routing_key, pattern, queue))

    def split_binding(self, member: str) -> tuple[str, str, str]:
        """Return routing key, pattern and queue of a binding; missing parts are empty."""
        parts = (*member.split(self._sep), "", "", "")
        return parts[0], parts[1], parts[2]

    def bare(self, key: str) -> str:
        """Return the key without the prefix."""
        return key.removeprefix(self._prefix)

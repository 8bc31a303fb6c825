"""Commands of one's own: declared by a decorator, obeyed by name, with errors as answers."""

from __future__ import annotations

from typing import Any, cast

from djqueue.core.registry import commands
from djqueue.messaging.mailbox import Command
from djqueue.worker.commands.state import WorkerState
from djqueue.worker.control import control_command, inspect_command
from djqueue.worker.remote import obeyed

# The commands below look at nothing of the worker.
NO_STATE = cast(WorkerState, None)


def test_a_function_becomes_a_command_under_its_name_and_others() -> None:
    @inspect_command(alias="old_name", args=[("factor", int)], variadic="rest", default_timeout=3.0)
    def double(state: Any, factor: int = 2, rest: Any = ()) -> int:
        """Return twice as much.

        And so on.
        """
        return factor * 2

    known = commands["double"]
    assert commands["old_name"] is known
    assert (known.kind, known.help, known.default_timeout) == ("inspect", "Return twice as much.", 3.0)
    assert known.signature == "<factor> [rest …]"
    assert double(None, 4) == 8
    assert obeyed(NO_STATE, Command("double", {"factor": 3})) == 6


def test_the_bare_decorator_does_as_well() -> None:
    @control_command
    def nothing(state: Any) -> None:
        """Do nothing."""

    assert commands["nothing"].kind == "control"
    assert obeyed(NO_STATE, Command("nothing")) is None


def test_errors_are_answers() -> None:
    @control_command(name="broken")
    def function(state: Any) -> None:
        raise RuntimeError("out of ink")

    assert obeyed(NO_STATE, Command("broken")) == {"error": "RuntimeError('out of ink')"}
    assert obeyed(NO_STATE, Command("nonexistent")) == {"error": "KeyError('nonexistent')"}
    assert "TypeError" in obeyed(NO_STATE, Command("broken", {"surprise": 1}))["error"]


def test_djqueues_own_commands_all_say_what_they_do() -> None:
    assert {"ping", "active", "revoke", "rate_limit", "shutdown", "stats"} <= set(commands)
    assert not [name for name, command in commands.items() if not command.help]

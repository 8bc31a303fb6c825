"""`djqueue status`, `djqueue inspect` and `djqueue control`: remote control from the command line.

Commands, their arguments and types are those that `djqueue.worker.control` knows, so a project's own commands
work here as well. Output reads as Celery's does, or is one JSON object.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder

from djqueue.core.registry import commands
from djqueue.messaging.control import Control
from djqueue.worker import commands as built_in  # noqa: F401  (declares djqueue's own)
from djqueue.worker.control import CONTROL, INSPECT, PanelCommand

Say = Callable[[str], None]

#: the exit code when no worker answered (EX_UNAVAILABLE)
UNAVAILABLE = 69
#: how long answers are waited for where neither the user nor the command says, seconds
PATIENCE = 1.0


def add(rooms: Any) -> None:
    """Declare the subcommands."""
    status = rooms.add_parser("status", help="list the workers that answer")
    _add_options(status)
    status.set_defaults(run=_status)
    for kind, what in ((INSPECT, "ask workers about themselves"), (CONTROL, "tell workers what to do")):
        parser = rooms.add_parser(kind, help=what)
        parser.add_argument("method", nargs="?", metavar="command", help="see --list")
        parser.add_argument("arguments", nargs="*", metavar="argument")
        parser.add_argument("--list", action="store_true", help="list the commands, and end")
        _add_options(parser)
        parser.set_defaults(run=_run, kind=kind)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("-t", "--timeout", type=float, metavar="SECONDS", help="how long to wait for answers")
    parser.add_argument("-d", "--destination", metavar="NODES", help="only these workers, with commas")
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: as --json")


def _status(given: dict[str, Any], say: Say) -> None:
    answers = _answers(given, commands["ping"], {})
    if _wants_json(given):
        say(_as_json(answers))
        return
    for node in sorted(answers):
        say(f"->  {node}: OK")
    say(_online(len(answers)))


def _run(given: dict[str, Any], say: Say) -> None:
    kind = given["kind"]
    if given["list"]:
        for command in _known(kind):
            say(f"{command.name} {command.signature}".rstrip() + f"\n    {command.help}")
        return
    command = _found(kind, given["method"])
    arguments = _arguments(command, given["arguments"])
    if not command.replies:
        Control().broadcast(command.name, arguments, _nodes(given))
        say(f"Sent. There are no replies to {command.name}.")
        return
    answers = _answers(given, command, arguments)
    if _wants_json(given):
        say(_as_json(answers))
        return
    for node in sorted(answers):
        say(_as_text(node, answers[node]))
    if kind == INSPECT:
        say(_online(len(answers)))


def _answers(given: dict[str, Any], command: PanelCommand, arguments: dict[str, Any]) -> dict[str, Any]:
    timeout = given["timeout"]
    inspect = Control().inspect(
        _nodes(given), timeout=max(command.default_timeout, PATIENCE) if timeout is None else timeout
    )
    answers: dict[str, Any] | None = inspect.ask(command.name, **arguments)
    if not answers:
        raise CommandError("No nodes replied within time constraint", returncode=UNAVAILABLE)
    return answers


def _nodes(given: dict[str, Any]) -> list[str] | None:
    return [node for node in (given["destination"] or "").split(",") if node] or None


def _known(kind: str) -> list[PanelCommand]:
    own = {command.name: command for command in commands.values() if command.kind == kind and command.visible}
    return [own[name] for name in sorted(own)]


def _found(kind: str, name: str | None) -> PanelCommand:
    command = commands.get(name or "")
    if command is None or command.kind != kind:
        names = [known.name for known in _known(kind)]
        near = get_close_matches(name or "", names)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise CommandError(
            f"Name a command of djqueue {kind}; {name!r} is none.{meant} There are: {', '.join(names)}.",
            returncode=2,
        )
    return command


def _arguments(command: PanelCommand, given: Sequence[str]) -> dict[str, Any]:
    """Return the arguments by name, each with its declared type."""
    if len(given) > len(command.args) and command.variadic is None:
        usage = f"{command.name} {command.signature}".rstrip()
        raise CommandError(f"Too many arguments ({' '.join(given)}). Usage: {usage}", returncode=2)
    found: dict[str, Any] = {}
    for (name, read), text in zip(command.args, given, strict=False):
        try:
            found[name] = read(text)
        except ValueError as error:
            raise CommandError(f"{name} is {text!r}, which cannot be read: {error}", returncode=2) from error
    if command.variadic and len(given) > len(command.args):
        found[command.variadic] = list(given[len(command.args) :])
    return found


def _wants_json(given: dict[str, Any]) -> bool:
    return bool(given["json"] or given["format"] == "json")


def _as_json(answers: dict[str, Any]) -> str:
    return json.dumps(answers, cls=DjangoJSONEncoder)


def _as_text(node: str, answer: Any) -> str:
    if isinstance(answer, dict) and "error" in answer:
        return f"->  {node}: ERROR\n        {answer['error']}"
    if isinstance(answer, dict) and "ok" in answer:
        return f"->  {node}: OK\n        " + str(answer["ok"]).replace("\n", "\n        ")
    if isinstance(answer, list):
        lines = [f"* {one}" for one in answer] or ["- empty -"]
    else:
        lines = json.dumps(answer, indent=4, sort_keys=True, cls=DjangoJSONEncoder).splitlines()
    return "\n".join([f"->  {node}: OK", *(f"    {line}" for line in lines)])


def _online(count: int) -> str:
    return f"\n{count} {'node' if count == 1 else 'nodes'} online."

"""Commands of remote control: how they are declared, djqueue's own and yours.

A function that takes the worker's state and keyword arguments becomes a command by `@inspect_command` (it
asks) or `@control_command` (it changes something). What it returns is the reply, and should be JSON. Put
yours where workers import it, such as an app's `tasks` module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from djqueue.core.registry import commands

INSPECT, CONTROL = "inspect", "control"

#: what a command returns so that no reply is sent although the client waits for one
NO_REPLY = object()

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PanelCommand:
    """One command. `args` are names and types of arguments on the command line, `variadic` takes the rest.

    `signature` shows the arguments to people; one that is not `visible` is left out of lists. `replies` tells
    whether clients should wait for an answer.
    """

    name: str
    kind: str
    function: Callable[..., Any]
    args: tuple[tuple[str, Callable[[str], Any]], ...] = ()
    variadic: str | None = None
    signature: str = ""
    default_timeout: float = 1.0
    help: str = ""
    visible: bool = True
    replies: bool = True


def inspect_command(function: F | None = None, /, **options: Any) -> Any:
    """Declare a command that only asks. Options: see `control_command`."""
    return _declare(INSPECT, function, **options)


def control_command(function: F | None = None, /, **options: Any) -> Any:
    """Declare a command that changes something; used bare or with options.

    `name` (the function's), `alias` (a second name, or several), `args` (pairs of name and type), `variadic`
    (the name of the argument that takes the rest of a command line), `signature`, `default_timeout` in
    seconds, `help` (the docstring), `visible`, `replies`.
    """
    return _declare(CONTROL, function, **options)


def _declare(kind: str, function: Callable[..., Any] | None, **options: Any) -> Any:
    if function is None:
        return lambda declared: _register(kind, declared, **options)
    return _register(kind, function, **options)


def _register(
    kind: str,
    function: F,
    *,
    name: str | None = None,
    alias: str | Sequence[str] = (),
    args: Sequence[tuple[str, Callable[[str], Any]]] = (),
    variadic: str | None = None,
    signature: str | None = None,
    default_timeout: float = 1.0,
    help: str | None = None,  # noqa: A002  (Celery's name)
    visible: bool = True,
    replies: bool = True,
) -> F:
    shown = (
        signature
        if signature is not None
        else " ".join([*(f"<{one}>" for one, _ in args), *([f"[{variadic} …]"] if variadic else [])])
    )
    own = PanelCommand(
        name or function.__name__,
        kind,
        function,
        tuple((one, read) for one, read in args),
        variadic,
        shown,
        default_timeout,
        help if help is not None else (inspect.getdoc(function) or "").partition("\n")[0],
        visible,
        replies,
    )
    for known in (own.name, *([alias] if isinstance(alias, str) else alias)):
        commands[known] = own
    return function

"""`djqueue events`: watch what workers and tasks do, line by line.

Events come from `messaging.events`; each is printed as text or as one JSON object per line. It ends with
Ctrl-C, after `--limit` events, or when none came for `--timeout` seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from djqueue.conf import settings
from djqueue.messaging.control import Control
from djqueue.messaging.events import Event, Receiver

#: fields shown in front, or of no interest to people
_SHOWN_APART = frozenset({"hostname", "timestamp", "type", "uuid"})


def add(rooms: Any) -> None:
    """Declare the subcommand."""
    parser = rooms.add_parser("events", help="print events as they come")
    parser.add_argument("--limit", type=int, metavar="N", help="end after so many")
    parser.add_argument(
        "-t", "--timeout", type=float, metavar="SECONDS", help="end when none came for so long"
    )
    parser.add_argument("--enable", action="store_true", help="first let workers send events about tasks")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(run=_run)


def _run(given: dict[str, Any], say: Callable[[str], None]) -> None:
    if given["enable"]:
        Control().enable_events()
    show = _as_json if given["format"] == "json" else _as_text
    for event in Receiver().events(given["timeout"], given["limit"]):
        say(show(event))


def _as_json(event: Event) -> str:
    return json.dumps(event)


def _as_text(event: Event) -> str:
    moment = datetime.fromtimestamp(float(event.get("timestamp") or 0), settings.timezone())
    subject = f" {event['uuid']}" if "uuid" in event else ""
    facts = " ".join(f"{name}={value!r}" for name, value in event.items() if name not in _SHOWN_APART)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} {event.get('hostname')} {event['type']}{subject} {facts}"

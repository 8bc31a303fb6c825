"""Sending an entry's task: its row becomes one call, with beat's headers.

Rows come in with the task id that the slot has; the task leaves through the same door as everybody's. A task
this process knows is sent with its own options, any other by its name. Inside a transaction the message
is part of it or waits for its commit, whatever the settings say.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import djqueue
from djqueue_beat import arguments

#: says which entry sent the task; results keep it (django-celery-beat's name)
ENTRY_HEADER = "periodic_task_name"
#: says that beat sent it (Celery's name)
BEAT_HEADER = "celery_beat_task"
#: says for which slot, in ISO 8601; ours
SLOT_HEADER = "periodic_task_slot"


def send(row: arguments.Row, task_id: str | None = None, slot: datetime | None = None) -> str:
    """Send the row's task and return its id; without a slot it is sent because somebody asked.

    Raises:
        BrokenEntry: a column cannot be read.
        djqueue.exceptions.OperationalError: the broker could not be reached.
    """
    options: dict[str, Any] = arguments.call_options(row)
    headers = arguments.headers(row) | {ENTRY_HEADER: row.name}
    if slot is not None:
        headers |= {BEAT_HEADER: True, SLOT_HEADER: slot.isoformat()}
    options |= {"headers": headers, "on_commit": True}
    if task_id is not None:
        options["task_id"] = task_id
    args, kwargs = arguments.positional(row), arguments.named(row)
    door = djqueue.app
    if row.task in door.tasks:
        return str(door.tasks[row.task].apply_async(args, kwargs, **options).id)
    return str(door.send_task(row.task, args, kwargs, **options).id)

"""kombu's directory of files, with files that appear whole.

kombu creates the file under its final name and then writes it: a consumer that looks in between takes an
empty file, and the message is lost. Here it is written aside and renamed, and named so that messages of one
moment keep their order. What is no JSON is handed on as text instead of being lost in an error. Names and
contents are kombu's; `brokers` puts this in place of kombu's transport.
"""

# kombu is typed in part.
# mypy: disable-error-code="misc,no-untyped-call,override"

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps

from djqueue.core.names import new_id
from djqueue.messaging.transports.generic.messages import payload_of


class Channel(filesystem.Channel):
    """A channel whose messages appear whole."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{time.monotonic_ns()}_{new_id()}.{queue}.msg"
        directory = Path(self.data_folder_out)
        aside = directory / f".{name}.part"
        try:
            aside.write_text(dumps(payload))
            os.replace(aside, directory / name)
        finally:
            aside.unlink(missing_ok=True)

    def _get(self, queue: str) -> Any:
        directory = Path(self.data_folder_in)
        for name in sorted(os.listdir(directory)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = directory / f".{name}.taken"
            try:
                os.replace(directory / name, taken)
            except FileNotFoundError:  # another consumer was faster
                continue
            payload = payload_of(taken.read_bytes())
            if self.store_processed:
                os.replace(taken, Path(self.processed_folder) / name)
            else:
                taken.unlink()
            return payload
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Bind; kombu makes the table of an exchange before it locks it, so others may read an empty one."""
        file = self._exchange_file(exchange)
        if not file.exists():
            self.control_folder.mkdir(exist_ok=True)
            aside = file.with_name(f".{new_id()}.part")
            aside.write_text("[]")
            with suppress(FileExistsError):  # somebody else was faster
                os.link(aside, file)
            aside.unlink()
        super()._queue_bind(exchange, routing_key, pattern, queue)


class Transport(filesystem.Transport):
    """A transport with such channels."""

    Channel = Channel

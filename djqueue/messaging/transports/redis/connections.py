"""Connections to one Redis: commands go out packed, replies come in, errors say whether anything happened.

`Server` keeps idle connections for whoever needs one for a moment; `Wire` is a connection for those who keep
their own. `Unreachable` means that nobody knows whether the command was carried out, `Refused` that it was
not. Nothing here is sent a second time, except after the server said that it does not know a script yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import BoundedSemaphore
from typing import Any

from redis.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from djqueue.core.broker_defaults import EMPTY
from djqueue.exceptions import OperationalError
from djqueue.messaging.transports.idle import Idle
from djqueue.messaging.transports.redis.address import Address
from djqueue.messaging.transports.redis.options import Options
from djqueue.messaging.transports.redis.scripts import Script

#: replies that mean "not now": the server starts, is a replica, waits for replicas or for its disk
_FOR_NOW = (BusyLoadingError, ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
_MULTI, _EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
_WORDS_FOR_NOW = ("NOREPLICAS", "MISCONF", "BUSY")


class Unreachable(OperationalError):
    """Redis did not answer; whether it carried the command out is not known."""


class Refused(OperationalError):
    """Redis answered that it will not do this; nothing has happened."""

    #: it may do so in a moment
    is_temporary = False
    #: its memory is full
    is_full = False
    #: a script leaves something to the one who called it, and has done the rest
    is_undecided = False


class Wire:
    """One connection, for one thread at a time. It opens itself when used, also after a failure."""

    __slots__ = ("_connection", "_is_open")

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._is_open = False

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            Unreachable: no answer. Refused: the answer was an error.
        """
        connection = self._connection
        try:
            if not self._is_open:
                self._open()
            connection.send_packed_command(connection.pack_command(*command), check_health=False)
            return connection.read_response()
        except (RedisError, OSError) as error:
            raise self._translated(error) from error

    def run(self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[Any] = ()) -> Any:
        """Run a script and return what it returns. Raises as `call` does."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except Refused as refusal:
            if not isinstance(refusal.__cause__, NoScriptError):
                raise
        self.call("SCRIPT", "LOAD", script.text)
        return self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once and return their replies, errors among them as `Refused`."""
        connection = self._connection
        replies: list[Any] = []
        try:
            if not self._is_open:
                self._open()
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(self._translated(error))
        except (RedisError, OSError) as error:
            raise self._translated(error) from error
        return replies

    def transaction(self, packed: bytes, commands: int) -> None:
        """Have so many commands, packed already, carried out together or not at all. Raises as `call` does.

        That needs no script, whose price is several times that of a quick command.
        """
        connection = self._connection
        problem: Exception | None = None
        try:
            if not self._is_open:
                self._open()
            connection.send_packed_command([_MULTI + packed + _EXEC], check_health=False)
            for _ in range(commands + 2):
                try:
                    answer = connection.read_response()
                except ResponseError as error:
                    problem = problem or error  # the first says why; EXEC's only that there was one
        except (RedisError, OSError) as error:
            raise self._translated(error) from error
        if problem is None:
            problem = next((one for one in answer if isinstance(one, Exception)), None)
        if problem is not None:
            raise self._translated(problem) from problem

    def send(self, *command: Any) -> None:
        """Send a command whose replies are read with `read`."""
        connection = self._connection
        try:
            if not self._is_open:
                self._open()
            connection.send_packed_command(connection.pack_command(*command), check_health=False)
        except (RedisError, OSError) as error:
            raise self._translated(error) from error

    def read(self, within: float | None = None) -> Any:
        """Return the next reply, or None if there is none `within` that many seconds (None: as always)."""
        connection = self._connection
        try:
            if within is not None and not connection.can_read(within):
                return None
            return connection.read_response()
        except (RedisError, OSError) as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Close the connection, whoever is waiting for it."""
        self._is_open = False
        self._connection.disconnect()

    def _open(self) -> None:
        """Connect. Sending would do that, too, but without asking the sentinels where to."""
        self._connection.connect()
        self._is_open = True

    def _translated(self, error: Exception) -> OperationalError:
        words = str(error)
        if not isinstance(error, ResponseError | BusyLoadingError | AuthenticationError):
            self.close()
            return Unreachable(f"Redis cannot be reached: {words}")
        is_full = isinstance(error, OutOfMemoryError) or words.startswith("OOM")
        refusal = Refused(f"Redis refused{' because its memory is full' if is_full else ''}: {words}")
        refusal.is_full = is_full
        refusal.is_undecided = words.startswith("UNDECIDED")
        refusal.is_temporary = isinstance(error, _FOR_NOW) or words.startswith(_WORDS_FOR_NOW)
        if refusal.is_temporary or isinstance(error, AuthenticationError):
            self.close()  # after a failover the name may lead to another server
        return refusal


class Server:
    """One Redis, for a whole process: safe to use from several threads.

    `defaults` are what the URL leaves open. With `most`, so many commands are under way at once; others wait.
    """

    def __init__(
        self, url: str, options: Options, defaults: Mapping[str, Any] = EMPTY, most: int | None = None
    ) -> None:
        self.address = Address(url, options, defaults)
        self.options = options
        self._wires = Idle(self.wire)
        self._most = most
        self._make_room()

    def wire(self, *, answers_within: float | None = None) -> Wire:
        """Return a new connection for the caller alone."""
        return Wire(self.address.connection(answers_within=answers_within))

    def call(self, *command: Any) -> Any:
        """Send a command that may be sent twice: an idle connection may have died unnoticed."""
        return self._with_wire(lambda wire: wire.call(*command))

    def run(self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[Any] = ()) -> Any:
        """Run a script that may run twice."""
        return self._with_wire(lambda wire: wire.run(script, keys, arguments))

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands that may be sent twice; raise the first refusal."""
        replies: list[Any] = self._with_wire(lambda wire: wire.pipeline(commands))
        for reply in replies:
            if isinstance(reply, Refused):
                raise reply
        return replies

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._wires.forget()
        self._make_room()

    def close(self) -> None:
        """Close idle connections; the server can be used again."""
        self._wires.close()

    def _make_room(self) -> None:
        self._room: AbstractContextManager[Any] = (
            BoundedSemaphore(self._most) if self._most else nullcontext()
        )

    def _with_wire(self, do: Callable[[Wire], Any]) -> Any:
        with self._room:
            wire = self._wires.take()
            try:
                try:
                    return do(wire)
                except Unreachable:
                    return do(wire)
            finally:
                self._wires.put(wire)

"""Transactions of callers and tasks that messages are part of, or that messages must leave beside.

The publisher asks for a second connection; a task that commits together with its message runs inside
`finishing`. Errors of the database's own come out as `OperationalError`; those of the task as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import InterfaceError, connections, transaction
from django.db import OperationalError as DatabaseFailed

from djqueue.exceptions import OperationalError
from djqueue.messaging.contract import Transactions
from djqueue.messaging.transports.database import claims
from djqueue.messaging.transports.database.contract import Vendor


class DatabaseTransactions(Transactions):
    """Transactions on the broker's alias."""

    def __init__(self, vendor: Vendor) -> None:
        self.has_one_writer = vendor.has_one_writer
        self._vendor = vendor

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Let this thread use another connection to the alias inside the block."""
        alias = self._vendor.alias
        first = connections[alias]
        second = first.copy()
        connections[alias] = second
        try:
            yield
        finally:
            connections[alias] = first
            second.close()

    @contextmanager
    def finishing(self, receipt: str) -> Iterator[Callable[[], bool]]:
        """Begin; the block ends with the removal of the message, and the transaction with the block."""
        tag, _, holder = receipt.partition("@")
        key = int(tag.partition("-")[0])
        block = transaction.atomic(using=self._vendor.alias)
        with self._failing():
            self._vendor.begin()
            block.__enter__()

        def remove() -> bool:
            with self._failing():
                return claims.finish(self._vendor.connection, key, holder)

        try:
            yield remove
        except BaseException as error:
            block.__exit__(type(error), error, error.__traceback__)
            raise
        with self._failing():
            block.__exit__(None, None, None)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Tell failures of the database from what is wrong with the transaction itself."""
        try:
            yield
        except (DatabaseFailed, InterfaceError) as error:
            raise OperationalError(f"The broker django://{self._vendor.alias} failed: {error}.") from error

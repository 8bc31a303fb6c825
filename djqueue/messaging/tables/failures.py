"""Database errors in the words of djqueue.

Whoever talks to the tables does it inside `errors_of`; what leaves is an `OperationalError` that says what
happened, on which database, and, where that is known, what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError
from django.db.transaction import TransactionManagementError

from djqueue.exceptions import OperationalError

_MISSING = ("no such table", "does not exist", "doesn't exist", "no such column", "has no column")


@contextmanager
def errors_of(alias: str) -> Iterator[None]:
    """Turn database errors inside the block into `OperationalError`.

    One that says that the caller's own transaction is broken is left as it is.
    """
    try:
        yield
    except TransactionManagementError:
        raise
    except (DatabaseError, InterfaceError) as error:
        raise OperationalError(
            f"The broker django://{alias} failed: {error}.{_advice(alias, error)}"
        ) from error


def _advice(alias: str, error: Exception) -> str:
    text = str(error)
    if "djqueue_" in text and any(words in text for words in _MISSING):
        where = "" if alias == "default" else f" --database={alias}"
        return f" Run manage.py migrate{where}."
    if "locked" in text:
        return " Somebody else held the write lock for longer than the timeout in OPTIONS."
    return ""

"""What a database's error means: try again at once, never try this value again, or wait.

Errors of SQLAlchemy come in; answers leave. Drivers agree on little, so each is asked in its own way.
"""

from __future__ import annotations

import sqlalchemy as sa

#: classes of SQLSTATE: data that does not fit, and limits that are exceeded
_NO_VALUE = ("22", "54")
#: SQLSTATEs and MySQL's numbers of deadlocks and of transactions that came too late
_RACES = {"40001", "40P01", 1213, 1020}
#: MySQL: a packet, a row or a transaction is too large
_TOO_LARGE = {1153, 1118, 1301}


def is_race(error: Exception) -> bool:
    """Return whether somebody else changed the same rows, so that trying again at once may do."""
    return isinstance(error, sa.exc.IntegrityError) or bool(_codes(error) & _RACES)


def is_broken(error: Exception) -> bool:
    """Return whether the connection has died."""
    return isinstance(error, sa.exc.InterfaceError | sa.exc.OperationalError)


def is_refusal(error: Exception) -> bool:
    """Return whether the database will never take what it was given."""
    if isinstance(error, sa.exc.DataError):
        return True
    codes = _codes(error)
    states = (code for code in codes if isinstance(code, str) and len(code) == 5)
    return bool(codes & _TOO_LARGE) or any(state.startswith(_NO_VALUE) for state in states)


def reason(error: Exception) -> str:
    """Return what the database said, without the statement and what was in it."""
    said = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return " ".join(str(said).split()) or type(said).__name__


def _codes(error: Exception) -> set[object]:
    """Return what the driver calls the error: its SQLSTATE, or MySQL's number."""
    said = getattr(error, "orig", None)
    number = said.args[0] if isinstance(said, BaseException) and said.args else None
    return {getattr(said, "sqlstate", None), getattr(said, "pgcode", None), number} - {None}

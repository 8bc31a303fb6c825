"""Results in any database that SQLAlchemy speaks to, in the tables of Celery's database store.

`store.py` is the store; `tables.py` makes the tables, `rows.py` the rows, `engine.py` the connections, and
`refusals.py` reads errors.
"""

from __future__ import annotations

try:
    import sqlalchemy as sqlalchemy
except ImportError as missing:
    raise ImportError("SQLAlchemy is not installed: pip install djqueue[sqlalchemy].") from missing

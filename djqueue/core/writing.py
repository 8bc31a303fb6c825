"""Rows that may be there already, written without being read first.

Who reads first and writes later in one transaction fails on SQLite as soon as anybody else writes in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def put(rows: Any, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write the values into the row of a query set that has this unique key; make it if there is none.

    Of two who make it at the same moment one does, and the other's values are dropped.
    """
    if not rows.filter(**key).update(**values):
        rows.bulk_create([rows.model(**key, **values)], ignore_conflicts=True)

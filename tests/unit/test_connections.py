"""What tests leave of database connections: nothing, so that none depends on what ran before it.

A test that asks for no database may not open a connection, and an open one that it meets fails it.
"""

from __future__ import annotations

import pytest
from django.db import connection


@pytest.mark.django_db
def test_a_test_inside_a_transaction_opens_the_connection() -> None:
    assert connection.connection is not None


def test_the_next_one_without_a_database_meets_no_open_connection() -> None:
    assert connection.connection is None

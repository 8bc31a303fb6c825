"""Documents carry encoded values: what was returned or raised comes back, as a value or as Celery's meta."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import ContentDisallowed, DecodeError, EncodeError, RemoteError
from djqueue.result.documents import Document, encode_exception, encode_value


def stored(status: str, value: Any, **fields: Any) -> Document:
    encoded = encode_exception(value) if isinstance(value, BaseException) else encode_value(value)
    return Document("some-id", status, *encoded, **fields)


@pytest.mark.parametrize(
    "value",
    [None, 0, "ü", [1, {"a": None}], Decimal("1.50"), datetime(2026, 1, 2, tzinfo=UTC), UUID(int=5)],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    document = stored(states.SUCCESS, value)
    assert isinstance(document.result, str)
    assert document.value() == value


def test_a_value_in_another_serializer_comes_back_when_that_is_accepted() -> None:
    with settings.override(RESULT_SERIALIZER="pickle"):
        document = stored(states.SUCCESS, {1, 2})
    assert isinstance(document.result, bytes)
    with pytest.raises(ContentDisallowed):
        document.value()
    with settings.override(RESULT_ACCEPT_CONTENT=("pickle",)):
        assert document.value() == {1, 2}
    with settings.override(ACCEPT_CONTENT=("json", "pickle")):
        assert Document.unpack(document.pack()).value() == {1, 2}


def test_what_cannot_be_written_says_so_and_what_is_damaged_too() -> None:
    with pytest.raises(EncodeError):
        encode_value(object())
    with pytest.raises(DecodeError):
        Document("some-id", states.SUCCESS, "{").value()


def test_an_exception_comes_back_in_states_of_failure() -> None:
    error = stored(states.FAILURE, ZeroDivisionError("by", 0)).value()
    assert (type(error), error.args) == (ZeroDivisionError, ("by", 0))
    unknown = Document("i", states.RETRY, '{"exc_type": "Gone", "exc_message": [1], "exc_module": "gone"}')
    assert isinstance(unknown.value(), RemoteError)
    assert Document("i", states.RETRY).value() is None


def test_arguments_of_an_exception_that_cannot_be_written_become_their_repr() -> None:
    (argument,) = stored(states.FAILURE, ValueError(timedelta)).value().args
    assert argument == repr(timedelta)


def test_the_meta_has_celerys_keys_in_celerys_order() -> None:
    document = stored(
        states.SUCCESS,
        4,
        date_done=0.5,
        children=[],
        name="t",
        args="(2, 2)",
        kwargs="{}",
        worker="w@h",
        queue="q",
        group_id="g",
        parent_id="p",
    )
    assert list(document.as_meta().items()) == [
        ("status", "SUCCESS"),
        ("result", 4),
        ("traceback", None),
        ("children", []),
        ("date_done", datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("group_id", "g"),
        ("parent_id", "p"),
        ("name", "t"),
        ("args", "(2, 2)"),
        ("kwargs", "{}"),
        ("worker", "w@h"),
        ("retries", 0),
        ("queue", "q"),
        ("task_id", "some-id"),
    ]


def test_what_has_not_ended_has_no_end_and_what_is_unknown_is_left_out() -> None:
    meta = stored("PROGRESS", {"done": 1}, date_done=5.0).as_meta()
    assert meta == {
        "status": "PROGRESS",
        "result": {"done": 1},
        "traceback": None,
        "children": None,
        "date_done": None,
        "task_id": "some-id",
    }

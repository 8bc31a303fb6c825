"""Marks of stamps: short, the same for the same value, and never those of another."""

from __future__ import annotations

from typing import Any

import pytest

from djqueue.core import stamps


def test_a_request_has_the_mark_of_what_was_revoked() -> None:
    (revoked,) = stamps.marks({"customer": 5})
    assert revoked in stamps.marks_on(["customer", "mail"], {"customer": [4, 5], "mail": "x"})
    assert revoked not in stamps.marks_on(["customer"], {"customer": "5"})
    assert revoked not in stamps.marks_on(["client"], {"client": 5})
    assert stamps.is_mark(revoked)
    assert not stamps.is_mark("0a1b")


@pytest.mark.parametrize(
    ("headers", "carried"),
    [(None, None), ([], {"a": 1}), (["a"], None), (["a"], {}), (["a"], {"b": 1})],
)
def test_a_request_without_stamps_has_no_marks(headers: Any, carried: Any) -> None:
    assert stamps.marks_on(headers, carried) == []


def test_marks_fit_into_the_record_whatever_the_value() -> None:
    values = ["x" * 1000, "x" * 1001, {"a": 1, "b": [2]}, {"b": [2], "a": 1}, None, "\ud800", ("a", object)]
    marks = [stamps.mark("header", value) for value in values]
    assert max(map(len, marks)) <= stamps.LONGEST
    assert marks[0] != marks[1]
    assert marks[2] == marks[3]


def test_stamps_are_named_by_a_mapping_or_by_texts() -> None:
    assert stamps.named({"a": ["1"]}) == {"a": ["1"]}
    assert stamps.named(["a=1", "a=2", "b=x=y"]) == {"a": ["1", "2"], "b": ["x=y"]}
    assert stamps.named("a=1") == {"a": ["1"]}
    with pytest.raises(ValueError, match="write header=value"):
        stamps.named(["a"])
    with pytest.raises(ValueError, match="No stamp was named"):
        stamps.named([])

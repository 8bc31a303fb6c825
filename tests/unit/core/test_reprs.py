"""Representations of arguments are Celery's to the letter, never fail and never grow."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from djqueue.core.reprs import safe_repr, shown

Point = namedtuple("Point", "x y")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=60)
    | st.binary(max_size=60)
    | st.decimals()
    | st.uuids()
    | st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=10) | st.integers(), inner, max_size=4)
        | st.sets(st.integers(), max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=40,
)


@given(VALUES, st.integers(1, 200), st.integers(1, 5))
def test_it_is_what_celery_writes_for_any_value_and_limit(value: Any, limit: int, levels: int) -> None:
    assert safe_repr(value, limit, levels) == saferepr(value, limit, levels)


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        OrderedDict(a=1),
        range(3),
        1 + 2j,
        Decimal("1.0"),
        UUID(int=1),
        [range(2), Point(1, (2,))],
        frozenset({1}),
        "plain",
        3,
        {(1, 2): "tuple as key", b"b": b"\xff"},
    ],
    ids=repr,
)
def test_other_types_read_as_celery_writes_them(value: Any) -> None:
    assert safe_repr(value) == saferepr(value, 1024, 3)


def test_a_value_that_contains_itself_is_named_once() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert safe_repr(value, 1024, 5) == saferepr(value, 1024, 5)
    assert "Recursion on list" in safe_repr(value, 1024, 5)


def test_an_object_whose_repr_fails_does_no_harm() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    assert safe_repr(([Broken()],)) == "([<Broken whose repr raised ZeroDivisionError>],)"


def test_a_dictionary_that_changes_meanwhile_or_fails_does_no_harm() -> None:
    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError

    assert safe_repr(Broken(a=1)) == "<Broken whose repr raised RuntimeError>"


def test_a_number_too_long_to_write_does_no_harm() -> None:
    assert safe_repr((10**5000,)) == "<tuple whose repr raised ValueError>"


def test_huge_values_are_cut_without_being_written_out() -> None:
    class Counting(list[int]):
        seen = 0

        def __iter__(self) -> Any:
            for item in range(10**9):
                Counting.seen += 1
                yield item

    assert len(safe_repr(Counting([1, 2]), 100)) < 120
    assert Counting.seen < 100


def test_errors_show_values_briefly() -> None:
    assert shown(None) == "missing"
    assert shown([1, "a"]) == "[1, 'a']"
    assert len(shown("x" * 10_000)) < 100

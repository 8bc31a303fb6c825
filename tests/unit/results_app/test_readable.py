"""Stored values made fit for people and for JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djqueue import states
from djqueue_results import readable
from tests.support.results import document

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=st.characters(codec=None)), inner),
)


@settings(deadline=None)
@given(anything)
def test_every_value_can_be_written_as_strict_json(value: Any) -> None:
    shown = readable.value_of(document(value=value))
    json.dumps(shown, allow_nan=False, ensure_ascii=False).encode()
    readable.pretty_value(shown).encode()


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ('{"a": [1, "x", null]}', {"a": [1, "x", None]}),
        ("[NaN, -Infinity, 1e999]", ["nan", "-inf", "inf"]),
        ('{"__type__": "datetime", "__value__": "2026-11-20T12:00:00"}', "2026-11-20T12:00:00"),
        ('"\\ud800"', "\\ud800"),
        ("not json", "<8 characters that are not JSON>"),
        ("[" * 100_000, "<100000 characters that are not JSON>"),
        ("1" * 5000, "<5000 characters that are not JSON>"),
    ],
    ids=["plain", "no numbers", "typed", "surrogate", "damaged", "deep", "long number"],
)
def test_stored_json_becomes_plain_values(stored: str, shown: Any) -> None:
    assert readable.value_of(document(result=stored)) == shown


def test_deep_values_end_in_an_ellipsis() -> None:
    assert "…" in json.dumps(readable.value_of(document(result="[" * 80 + "]" * 80)), ensure_ascii=False)


def test_nothing_is_unpickled() -> None:
    pickled = document(result=b"cos\nsystem\n(S'true'\ntR.", content_type="application/x-python-serialize")
    assert readable.value_of(pickled) == "<23 bytes of application/x-python-serialize>"


def test_an_exception_is_taken_apart() -> None:
    wire = {"exc_type": "KeyError", "exc_message": ["k", 2], "exc_module": "builtins"}
    error = {"type": "KeyError", "module": "builtins", "message": "k, 2"}
    assert readable.error_of(document("a", states.FAILURE, value=wire)) == error
    assert readable.error_of(document("a", states.RETRY, value=wire)) == error
    assert readable.error_of(document("a", states.SUCCESS, value=wire)) is None


@pytest.mark.parametrize("value", [None, "boom", 3, ["a"], {"exc_message": None}, {"exc_type": 3}])
def test_an_exception_of_any_shape_is_shown(value: Any) -> None:
    error = readable.error_of(document("a", states.FAILURE, value=value))
    assert error is not None
    assert set(error) == {"type", "module", "message"}


def test_progress_is_what_a_custom_state_says() -> None:
    assert readable.progress_of(document("a", "PROGRESS", value={"done": 1})) == {"done": 1}
    assert readable.progress_of(document("a", states.STARTED, value={"pid": 1})) is None
    assert readable.progress_of(document("a", states.SUCCESS, value=1)) is None


def test_children_are_found_in_result_tuples() -> None:
    task, group = [["a", None], None], [["g", "a"], [[["b", None], None]]]
    assert readable.children_ids([task, group]) == ["a", "g"]
    assert readable.children_ids([None, 3, [], [[]], "c"]) == ["c"]
    assert readable.children_ids(None) == []


def test_arguments_are_set_in_lines_when_they_can_be_taken_apart() -> None:
    assert readable.pretty_arguments("(1, 'two')") == "(1, 'two')"
    assert "\n" in readable.pretty_arguments(repr({"key": list(range(100))}))
    assert readable.pretty_arguments("(<Order: 3>, …") == "(<Order: 3>, …"
    assert readable.pretty_arguments("__import__('os')") == "__import__('os')"
    assert readable.pretty_arguments("(" * 10_000) == "(" * 10_000


def test_a_block_of_text_keeps_its_lines_and_hides_nothing() -> None:
    assert readable.text_block("one\ntwo\x1b[31m\u202e") == "one\ntwo\\x1b[31m\\u202e"
    assert readable.text_block("x" * 12, limit=10) == "x" * 10 + "\n… and 2 more characters"

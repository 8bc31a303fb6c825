"""Bodies of every sender give arguments, or an error that says what is wrong with them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given

from djqueue.conf import settings
from djqueue.core import protocol
from djqueue.core.calls import Plan, asked
from djqueue.core.messages import WireMessage
from djqueue.exceptions import ContentDisallowed, DecodeError, InvalidTaskError
from tests.unit.core.handmade import ID, JSON, NOTHING, SIGNATURE, message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([[1], {"a": 2}, {}], ([1], {"a": 2}, NOTHING)),
        ([[1], {}, None], ([1], {}, NOTHING)),
        ([[1], {}], ([1], {}, NOTHING)),
        ([[1], {}, {"callbacks": SIGNATURE}], ([1], {}, {**NOTHING, "callbacks": [SIGNATURE]})),
        ([[1], {}, {"chord": SIGNATURE, "other": 5}], ([1], {}, {**NOTHING, "chord": SIGNATURE})),
        ([[1], {}, {"chord": {}, "chain": []}], ([1], {}, {**NOTHING, "chain": []})),
        ({"args": [1], "kwargs": {"a": 2}}, ([1], {"a": 2}, NOTHING)),
        ({"args": [1], "errbacks": [SIGNATURE]}, ([1], {}, {**NOTHING, "errbacks": [SIGNATURE]})),
    ],
    ids=str,
)
def test_bodies_of_every_sender_are_read(body: Any, expected: Any) -> None:
    assert protocol.read_body(message(body)) == expected


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ([], "[args, kwargs, embed]"),
        ({}, "[args, kwargs, embed]"),
        ([[1]], "[args, kwargs, embed]"),
        ([[1], {}, {}, 4], "[args, kwargs, embed]"),
        ("text", "[args, kwargs, embed]"),
        (None, "[args, kwargs, embed]; it is missing"),
        (7, "[args, kwargs, embed]"),
        ([None, {}, {}], "args"),
        (["ab", {}, {}], "args"),
        ([{"0": 1}, {}, {}], "args"),
        ([[1], None, {}], "kwargs"),
        ([[1], [], {}], "kwargs"),
        ([[1], {}, []], "third part"),
        ([[1], {}, {"callbacks": "x"}], "callbacks"),
        ([[1], {}, {"callbacks": [1]}], "callbacks"),
        ([[1], {}, {"errbacks": [{"task": 5}]}], "errbacks"),
        ([[1], {}, {"chain": [{}]}], "chain"),
        ([[1], {}, {"chain": 5}], "chain"),
        ([[1], {}, {"chord": [SIGNATURE]}], "chord"),
    ],
    ids=str,
)
def test_bodies_that_hold_no_arguments_are_refused_in_words(body: Any, what: str) -> None:
    with pytest.raises(InvalidTaskError) as raised:
        protocol.read_body(message(body))
    assert what in str(raised.value)


def test_keyword_arguments_must_have_text_as_keys_whatever_the_serializer() -> None:
    body = pickle.dumps(([], {1: 2}, {}))
    odd = WireMessage({"task": "t", "id": ID}, {}, body, "application/x-python-serialize", "binary")
    with pytest.raises(InvalidTaskError, match="text keys"):
        protocol.read_body(odd, accept=["pickle"])


def test_only_accepted_content_is_read_and_the_setting_says_which() -> None:
    sent = protocol.encode(asked(Plan("t", serializer="pickle"), ({1},), {}, {}))
    with pytest.raises(ContentDisallowed):
        protocol.read_body(sent)
    with settings.override(ACCEPT_CONTENT=["json", "pickle"]):
        assert protocol.read_body(sent)[0] == ({1},)


def test_a_body_that_cannot_be_read_is_a_decode_error() -> None:
    broken = message()
    broken.body = b"[["
    with pytest.raises(DecodeError):
        protocol.read_body(broken)
    with pytest.raises(DecodeError, match="decompressed"):
        protocol.read_body(message(compression="application/x-gzip"))
    with pytest.raises(DecodeError, match="not installed"):
        protocol.read_body(message(compression=["odd"]))


@given(JSON)
def test_any_json_body_is_arguments_or_an_invalid_task_error(body: Any) -> None:
    try:
        args, kwargs, embed = protocol.read_body(message(body))
    except InvalidTaskError:
        return
    assert isinstance(args, list)
    assert isinstance(kwargs, dict)
    assert list(embed) == list(NOTHING)

"""Documents in Celery's form: the bytes that a stock Celery would store, read and written.

What Celery makes is asked of Celery, or taken from what a stock worker left in Redis.
"""

from __future__ import annotations

import json
import pickle
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from djqueue import states
from djqueue.conf import settings
from djqueue.exceptions import ContentDisallowed, DecodeError
from djqueue.result.documents import Document, encode_exception, encode_value
from djqueue_results.backends import meta
from tests.support.results import document

FULL = Document(
    "the-id",
    states.SUCCESS,
    "4",
    children=[[["child", None], None]],
    date_done=1_800_000_000.172635,
    date_started=1_800_000_000.0,
    name="shop.tasks.add",
    args="(2, 2)",
    kwargs="{}",
    worker="celery@host",
    queue="default",
    group_id="the-group",
    root_id="the-id",
    parent_id="the-parent",
)


def as_celery(result: Any, state: str, traceback: str | None = None) -> dict[str, Any]:
    """Return what a stock Celery stores of a request that is like `FULL`."""
    app = Celery("stock", backend="cache+memory://", set_as_current=False, fixups=[])
    app.conf.update(result_extended=True)
    child = SimpleNamespace(as_tuple=lambda: (("child", None), None))
    request = SimpleNamespace(
        task="shop.tasks.add",
        args=[2, 2],
        kwargs={},
        hostname="celery@host",
        retries=0,
        delivery_info={"routing_key": "default"},
        group="the-group",
        parent_id="the-parent",
        children=[child],
        stamps=None,
    )
    made = app.backend._get_result_meta(result=result, state=state, traceback=traceback, request=request)
    made["task_id"] = "the-id"
    loaded: dict[str, Any] = json.loads(app.backend.encode(made))
    return loaded


def written(one: Document) -> dict[str, Any]:
    """Return what we store, without what only we store."""
    loaded: dict[str, Any] = json.loads(meta.write(one))
    loaded.pop("djq", None)
    return loaded


@pytest.mark.parametrize(
    ("state", "traceback"), [("SUCCESS", None), ("PROGRESS", None), ("RETRY", "Traceback…")]
)
def test_documents_have_celerys_keys_in_celerys_order(state: str, traceback: str | None) -> None:
    theirs = as_celery(4, state, traceback)
    ours = written(Document.unpack((*FULL.pack()[:1], state, *FULL.pack()[2:5], traceback, *FULL.pack()[6:])))
    assert list(ours) == list(theirs)
    date = theirs.pop("date_done")
    assert ours.pop("date_done") == ("2027-01-15T08:00:00.172635+00:00" if date else None)
    assert ours == theirs


def test_without_extended_results_only_celerys_keys_are_there() -> None:
    with settings.override(RESULT_EXTENDED=False):
        assert list(json.loads(meta.write(document("a", value=4)))) == [
            *("status", "result", "traceback", "children", "date_done", "task_id"),
        ]
        assert json.loads(meta.write(document("a", retries=1)))["djq"] == {"attempt": 65536}


def test_a_failure_is_celerys() -> None:
    encoded = encode_exception(KeyError("k"))
    failed = written(Document("a", states.FAILURE, *encoded, traceback="Traceback", date_done=1.0))
    assert failed["result"] == {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
    assert failed["date_done"] == "1970-01-01T00:00:01+00:00"


@pytest.mark.parametrize(
    ("representation", "value"),
    [
        ("()", []),
        ("(2, 2)", [2, 2]),
        ("(-1,)", [-1]),
        ("(1.5, True, None)", [1.5, True, None]),
        ("('a, b', 'c', -0.25, '(1,)')", ["a, b", "c", -0.25, "(1,)"]),
        ("('Grüße €', 0, False)", ["Grüße €", 0, False]),
        ("(1e-05,)", [1e-05]),
        ("('two', \"it's\", [1, [2, {'a': 'b'}]])", ["two", "it's", [1, [2, {"a": "b"}]]]),
        (r"('new\nline', '\u2028')", ["new\nline", "\u2028"]),
        ("(1, 2, ...)", "(1, 2, ...)"),
        ("(<object at 0x1>,)", "(<object at 0x1>,)"),
        ("(Decimal('1'),)", "(Decimal('1'),)"),
        ("('cut sho…", "('cut sho…"),
        ("(1e999,)", "(1e999,)"),
        (f"({'1' * 60}, 2)", [int("1" * 60), 2]),
        ("({1, 2},)", "({1, 2},)"),
        ("(b'bytes',)", "(b'bytes',)"),
        ("[1]", "[1]"),
        ("5", "5"),
        ("", ""),
        (r"('\d',)", r"('\d',)"),
        ("(" * 500 + ")" * 500, "(" * 500 + ")" * 500),
        ("secret ***", "secret ***"),
        # no JSON, though it looks like it
        ("(007,)", "(007,)"),
        ("(٣,)", "(٣,)"),
    ],
)
def test_arguments_are_stored_as_values_where_their_representation_tells(
    representation: str, value: Any
) -> None:
    assert written(document("a", name="x", args=representation))["args"] == value
    assert meta.read("a", meta.write(document("a", name="x", args=representation))).args == representation


@pytest.mark.timeout(30)
@pytest.mark.parametrize("beyond", [".5,)", " + 2,)", "", ",,)"])
def test_many_digits_are_not_looked_at_for_ever(beyond: str) -> None:
    assert written(document("a", name="x", args=f"({'1' * 60}{beyond}"))["args"]


@pytest.mark.parametrize(
    ("representation", "value"),
    [
        ("{}", {}),
        ("{'a': 1, 'b': [2]}", {"a": 1, "b": [2]}),
        ("{'a, b': 'c: d', 'e': None, 'f': -1.5}", {"a, b": "c: d", "e": None, "f": -1.5}),
        ("{1: 2}", {"1": 2}),
        ("{'a': 01}", "{'a': 01}"),
        ("[]", "[]"),
        ("x", "x"),
    ],
)
def test_keyword_arguments_are_stored_as_values(representation: str, value: Any) -> None:
    assert written(document("a", name="x", kwargs=representation))["kwargs"] == value


#: what stock workers left in Redis (RESULT_EXTENDED on)
STORED = {
    "success": '{"status": "SUCCESS", "result": 4, "traceback": null, "children": [], "date_done": '
    '"2026-11-20T17:16:26.172635+00:00", "name": "wapp.add", "args": [2, 2], "kwargs": {}, "worker": '
    '"inv@h", "retries": 0, "queue": "inv.q1", "task_id": "1e46123d"}',
    "failure": '{"status": "FAILURE", "result": {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": '
    '"builtins"}, "traceback": "Traceback", "children": [], "date_done": "2026-11-20T17:16:26+00:00", '
    '"task_id": "1e46123d"}',
    "revoked by broadcast": '{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": '
    '["revoked"], "exc_module": "celery.exceptions"}, "traceback": null, "children": null, "date_done": '
    '"2026-11-20T17:16:26", "task_id": "1e46123d"}',
    "unregistered": '{"status": "FAILURE", "result": {"exc_type": "NotRegistered", "exc_message": ["nope"], '
    '"exc_module": "celery.exceptions"}, "traceback": null, "children": [], "date_done": null, "name": null, '
    '"args": null, "kwargs": null, "worker": null, "retries": null, "queue": null, "task_id": "1e46123d"}',
    "by node": '{"status":"SUCCESS","result":{"a":[1,2]},"traceback":null,"children":[],"task_id":"1e46123d",'
    '"date_done":"2026-11-20T17:16:26.172Z"}',
    "hardly anything": '{"status": "STARTED"}',
}


@pytest.mark.parametrize("what", STORED)
def test_what_others_stored_is_read(what: str) -> None:
    read = meta.read("1e46123d", STORED[what].encode())
    stored = json.loads(STORED[what])
    assert (read.task_id, read.status) == ("1e46123d", stored["status"])
    assert json.loads(read.result) == stored.get("result")
    assert read.children == stored.get("children")
    assert (read.date_done is None) == (stored.get("date_done") is None)
    read.value()


def test_extended_results_of_celery_are_read() -> None:
    read = meta.read("1e46123d", STORED["success"].encode())
    assert (read.name, read.args, read.kwargs, read.worker, read.queue) == (
        *("wapp.add", "(2, 2)", "{}", "inv@h", "inv.q1"),
    )


def test_compressed_results_of_celery_are_read() -> None:
    stored = b"\x00celery-compressed\x00application/x-gzip\x00" + zlib.compress(STORED["success"].encode())
    assert meta.read("a", stored).value() == 4


@pytest.mark.parametrize("stored", [b"", b"{", b"{} trailing", b"\x80\x04", b'{"a": ' * 5000])
def test_what_is_damaged_is_said_to_be(stored: bytes) -> None:
    with pytest.raises(DecodeError):
        meta.read("a", stored)


@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE])
def test_pickled_results_are_celerys(state: str) -> None:
    with settings.override(RESULT_SERIALIZER="pickle", ACCEPT_CONTENT=["json", "pickle"]):
        encoded = encode_value({1, 2}) if state == states.SUCCESS else encode_exception(KeyError("k"))
        stored = meta.write(Document("a", state, *encoded, date_done=1.0, children=[]))
        loaded = pickle.loads(stored)
        assert loaded["status"] == state
        if state == states.SUCCESS:
            assert loaded["result"] == {1, 2}
        else:
            assert isinstance(loaded["result"], KeyError)
        read = meta.read("a", stored)
        assert read.status == state
        assert repr(read.value()) == repr(loaded["result"])
    with pytest.raises((ContentDisallowed, DecodeError)):
        meta.read("a", stored)

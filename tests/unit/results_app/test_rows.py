"""Documents as rows and back, without a database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djqueue import states
from djqueue.result.documents import Document, fence
from djqueue_results import rows
from djqueue_results.rows import COLUMNS, READ, from_row, to_row
from tests.support.results import document


def round_trip(one: Document) -> Document:
    row = dict(zip(COLUMNS, to_row(one, lambda moment: moment, None), strict=True))
    return from_row((row[name] for name in READ), lambda moment: moment)


def column(one: Document, name: str) -> object:
    return to_row(one, lambda moment: moment, "now")[COLUMNS.index(name)]


@settings(deadline=None)
@given(st.text() | st.binary(), st.sampled_from(["utf-8", "binary", "latin-1", "no such encoding"]))
def test_any_result_survives(result: str | bytes, encoding: str) -> None:
    kept = round_trip(document("a", result=result, content_type="x/y", content_encoding=encoding))
    assert kept.content_encoding == encoding
    assert as_bytes(kept.result, encoding) == as_bytes(result, encoding)


def as_bytes(result: str | bytes, encoding: str) -> bytes:
    if isinstance(result, bytes):
        return result
    try:
        return result.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return result.encode("utf-8", "surrogatepass")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec=None)))
def test_every_column_can_be_written_to_any_database(text: str) -> None:
    strange = Document(
        *(text, text, text, text, text, text, [text]),
        name=text,
        args=text,
        kwargs=text,
        worker=text,
        queue=text,
        group_id=text,
        root_id=text,
        parent_id=text,
        periodic_task_name=text,
    )
    for value in to_row(strange, lambda moment: moment, None):
        if isinstance(value, str):
            assert "\0" not in value
            value.encode()


def test_the_formats_are_those_of_django_celery_results() -> None:
    one = document("a", args="(2, 'x')", kwargs="{}", children=[[["b", None], None]])
    assert column(one, "task_args") == "\"(2, 'x')\""
    assert column(one, "meta") == '{"children": [[["b", null], null]]}'
    packed = document("a", result=b"\x80\x04", content_type="application/x-python-serialize")
    packed.content_encoding = "binary"
    assert column(packed, "result") == "gAQ="


def test_json_in_bytes_is_kept_as_readable_text() -> None:
    assert column(document("a", result=b'{"a": 1}'), "result") == '{"a": 1}'


def test_no_children_and_unknown_children_are_told_apart() -> None:
    assert round_trip(document("a", children=[])).children == []
    assert round_trip(document("a", children=None)).children is None


@pytest.mark.parametrize("meta", [None, "", "{", "[]", "{}", '{"children": 3}', "null"])
def test_meta_that_others_wrote_is_read_with_care(meta: str | None) -> None:
    assert rows.children_of(meta) is None


@pytest.mark.parametrize(
    ("text", "representation"),
    [(None, None), ('"(1,)"', "(1,)"), ("(1,)", "(1,)"), ("[1]", "[1]"), ("", "")],
)
def test_arguments_that_others_wrote_are_read_with_care(text: str | None, representation: str | None) -> None:
    assert rows.representation(text) == representation


def test_ordinary_ids_are_kept_as_they_are_and_others_as_digests() -> None:
    assert rows.stored_id("4e196aa4-0141-4601-8138-7aa33db0f577") == "4e196aa4-0141-4601-8138-7aa33db0f577"
    assert rows.stored_id("x" * 255) == "x" * 255
    digests = {rows.stored_id(strange) for strange in ("x" * 256, "\0", "\ud800")}
    assert len(digests) == 3
    assert all(digest.startswith("sha256:") for digest in digests)


def test_the_fence_rises_with_the_state() -> None:
    assert fence(states.STARTED, 5) == 5
    assert fence(states.FAILURE, 5) == 6
    assert fence(states.REVOKED, 5) == 6
    assert fence(states.SUCCESS, 5) == 1 << 16
    assert fence(states.SUCCESS, 1 << 16, retries=1) == 2 << 16
    # An attempt that was not made from the retries is at least final for itself.
    assert fence(states.SUCCESS, 9 << 16, retries=0) == (9 << 16) + 1


def test_moments_follow_the_project(settings: object) -> None:
    assert rows.as_datetime(0.5) == datetime(1970, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)
    assert rows.as_datetime(None) is None
    assert rows.as_datetime(float("inf")) is None
    settings.USE_TZ = False  # type: ignore[attr-defined]
    assert rows.as_datetime(0.5) == datetime(1970, 1, 1, 1, 0, 0, 500000)  # Europe/Oslo

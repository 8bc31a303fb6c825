"""Documents as rows of Celery's database store, and back: pure functions, no database.

Celery's columns hold values written with RESULT_SERIALIZER. What it has no column for is JSON in the column
`djq`; a stock Celery neither reads nor changes that, so what is there may be older than the rest of its row.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from djqueue import states
from djqueue.conf import settings
from djqueue.core import serialization
from djqueue.exceptions import ContentDisallowed, DecodeError, EncodeError
from djqueue.result.documents import Document, fence
from djqueue_results.backends import arguments, meta
from djqueue_results.backends.sql.tables import LONGEST
from djqueue_results.rows import NO_MOMENT, clean, stored_id

Row = dict[str, Any]

_PICKLE = ("application/x-python-serialize", "binary")
#: what every pickle since protocol 2 begins with
_PICKLED = b"\x80"
_MOST_RETRIES = 2**31 - 1


def write(document: Document, zone: tzinfo) -> Row:
    """Return the values of the columns, but for `id`; moments are in that zone, without saying so."""
    extended = settings.RESULT_EXTENDED
    told = extended and document.name is not None
    content, ours = _content(document)
    ours["attempt"] = document.attempt
    for name in ("group_id", "parent_id", *(("root_id", "periodic_task_name") if extended else ())):
        if value := getattr(document, name):
            ours[name] = value
    started = document.date_started
    if extended and started is not None and math.isfinite(started):
        ours["date_started"] = started
    return {
        "task_id": stored_id(document.task_id, LONGEST),
        "status": clean(document.status, 50),
        "result": content,
        "date_done": as_column(document.date_done, zone) if document.status in states.READY_STATES else None,
        "traceback": clean(document.traceback),
        "children": None if document.children is None else encoded(json.dumps(document.children)),
        "name": clean(document.name, LONGEST) if told else None,
        "args": encoded(arguments.args_json(document.args)) if told else None,
        "kwargs": encoded(arguments.kwargs_json(document.kwargs)) if told else None,
        "worker": clean(document.worker, LONGEST) if told else None,
        "retries": max(0, min(document.retries, _MOST_RETRIES)) if told else None,
        "queue": clean(document.queue, LONGEST) if told else None,
        "stamps": _stamps(document.stamps) if told and document.stamps else None,
        "djq": json.dumps(ours).encode(),
        "djq_stored": as_column(time.time(), zone),
    }


def read(task_id: str, row: Mapping[str, Any], zone: tzinfo) -> Document:
    """Return the document of a row that was written by us or by Celery."""
    ours = _ours(row)
    attempt, retries = _attempt(row, ours)
    result, content_type, encoding = _read_content(row["result"], ours)
    args, kwargs, stamps = (decoded(row[name]) for name in ("args", "kwargs", "stamps"))
    return Document(
        task_id,
        row["status"] or states.PENDING,
        result,
        content_type,
        encoding,
        traceback=row["traceback"],
        children=decoded(row["children"]),
        date_done=_seconds(row["date_done"], zone),
        date_started=ours.get("date_started"),
        attempt=attempt,
        retries=retries,
        name=row["name"],
        args=arguments.representation(args, tuple),
        kwargs=arguments.representation(kwargs, dict),
        worker=row["worker"],
        queue=row["queue"],
        group_id=ours.get("group_id"),
        root_id=ours.get("root_id"),
        parent_id=ours.get("parent_id"),
        periodic_task_name=ours.get("periodic_task_name"),
        stamps=json.dumps(stamps["stamps"]) if isinstance(stamps, dict) and stamps.get("stamps") else None,
    )


def fence_of(row: Mapping[str, Any]) -> int:
    """Return the smallest attempt that may still change the row."""
    return fence(row["status"], *_attempt(row, _ours(row)))


def encoded(text: str) -> bytes:
    """Return a value, given as JSON, as RESULT_SERIALIZER writes it."""
    if settings.RESULT_SERIALIZER == "json":
        return text.encode("utf-8", "surrogatepass")
    return serialization.dumps(json.loads(text), settings.RESULT_SERIALIZER)[2]


def decoded(stored: bytes | None) -> Any:
    """Return what `encoded` wrote, by us or by Celery; None if it cannot be read here."""
    if stored is None:
        return None
    try:
        return meta.loads(bytes(stored))
    except (ContentDisallowed, DecodeError):
        return None


def as_column(seconds: float | None, zone: tzinfo) -> datetime | None:
    """Return a moment as the columns have it: in that zone, and without saying so."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, zone).replace(tzinfo=None)
    except NO_MOMENT:
        return None


def _content(document: Document) -> tuple[bytes, dict[str, Any]]:
    """Return the result's bytes, and what `djq` must tell of them."""
    kind, content = document.content_type, document.result
    expected, encoding = _expected()
    if kind == _PICKLE[0] and expected == kind and document.status in states.EXCEPTION_STATES:
        try:  # with pickle Celery keeps the exception itself
            return serialization.dumps(meta.value_of(document), "pickle")[2], {}
        except (ContentDisallowed, DecodeError, EncodeError):
            pass
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    if (kind, document.content_encoding) == (expected, encoding):
        return raw, {}
    return raw, {"content_type": kind, "content_encoding": document.content_encoding, "crc": zlib.crc32(raw)}


def _read_content(stored: bytes | None, ours: Mapping[str, Any]) -> tuple[str | bytes, str, str]:
    if stored is None:
        return "null", serialization.JSON_TYPE, "utf-8"
    raw = bytes(stored)
    if "content_type" in ours and ours.get("crc") == zlib.crc32(raw):  # else somebody wrote after us
        kind, encoding = ours["content_type"], ours["content_encoding"]
    elif raw.startswith(_PICKLED):  # before Celery 5.7 every result was pickled
        kind, encoding = _PICKLE
    else:
        kind, encoding = _expected()
        if kind == _PICKLE[0]:
            kind, encoding = serialization.JSON_TYPE, "utf-8"
    return raw.decode("utf-8", "surrogatepass") if encoding == "utf-8" else raw, kind, encoding


def _expected() -> tuple[str, str]:
    """Return content type and encoding of what RESULT_SERIALIZER writes."""
    kind, encoding, _ = serialization.dumps(None, settings.RESULT_SERIALIZER)
    return kind, encoding


def _ours(row: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = json.loads(row["djq"] or b"{}")
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _attempt(row: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[int, int]:
    """Return attempt and retries; Celery, if it wrote last, tells only the latter."""
    retries = row["retries"] or 0
    told = ours.get("attempt")
    attempt = max(retries << 16, told if isinstance(told, int) else 0)
    return attempt, max(retries, attempt >> 16)


def _stamps(text: str) -> bytes:
    stamps = json.loads(text)
    return encoded(json.dumps({"stamped_headers": list(stamps), "stamps": stamps}))


def _seconds(moment: Any, zone: tzinfo) -> float | None:
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()

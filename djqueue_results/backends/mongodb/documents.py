"""Documents as they stand in Celery's collections, and back: pure functions, no server.

Celery keeps the result as RESULT_SERIALIZER writes it and everything else as values. What it has no field
for, or what MongoDB cannot hold, stands in a field `djq`; that goes when a stock Celery writes the document
anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson.errors import BSONError

from djqueue import states
from djqueue.conf import settings
from djqueue.core import serialization
from djqueue.exceptions import ContentDisallowed, DecodeError, EncodeError
from djqueue.result.documents import Document, fence
from djqueue_results.backends import arguments, meta
from djqueue_results.rows import NO_MOMENT, clean, stored_id

Row = dict[str, Any]

#: what PyMongo raises for values that MongoDB cannot hold
UNFIT = (BSONError, OverflowError, UnicodeError)
#: characters of an id: MongoDB before 4.2 indexes no more than 1024 bytes
LONGEST_ID = 240
#: the server takes a hundred levels, the document's own among them
DEEPEST = 90
#: MongoDB's whole numbers have 64 bits
_LARGEST = 2**62
_PICKLE = "application/x-python-serialize"
#: of what Document has and Celery's has not, what is kept with RESULT_EXTENDED
_OURS = ("root_id", "periodic_task_name")
_STAMPED = "stamped_headers"


def named(task_id: str) -> str:
    """Return the id as `_id`: itself, or a digest of what MongoDB cannot hold or index."""
    return stored_id(task_id, LONGEST_ID)


def write(document: Document) -> Row:
    """Return the document as it stands in the collection."""
    extended = settings.RESULT_EXTENDED
    result, ours = _content(document)
    ours["attempt"] = min(document.attempt, _LARGEST)
    ours["fence"] = min(fence(document.status, document.attempt, document.retries), _LARGEST)
    ours["stored"] = datetime.now(UTC)
    ended = _moment(document.date_done) if document.status in states.READY_STATES else None
    if ended is not None:
        ours["date_done"] = document.date_done  # the server keeps milliseconds
    row: Row = {
        "_id": named(document.task_id),
        "status": clean(document.status),
        "result": result,
        "traceback": clean(document.traceback),
        "children": _value(document.children, "children", ours),
        "date_done": ended,
    }
    if document.group_id:
        row["group_id"] = clean(document.group_id)
    if document.parent_id:
        row["parent_id"] = clean(document.parent_id)
    if extended:
        _extend(document, row, ours)
    row["djq"] = ours
    return row


def read(task_id: str, row: Mapping[str, Any]) -> Document:
    """Return the document that was written by us or by Celery.

    Raises:
        DecodeError: it is damaged.
    """
    ours = _ours(row)
    retries = _number(row.get("retries"))
    attempt = ours.get("attempt")
    if not isinstance(attempt, int):
        attempt = retries << 16
    result, content_type, encoding = _read_content(row.get("result"), ours)
    return Document(
        task_id,
        str(row.get("status") or states.PENDING),
        result,
        content_type,
        encoding,
        traceback=row.get("traceback"),
        children=_kept(row, "children", ours),
        date_done=ours.get("date_done") or _seconds(row.get("date_done")),
        date_started=ours.get("date_started"),
        attempt=attempt,
        retries=max(retries, attempt >> 16),
        name=row.get("name"),
        args=arguments.representation(_kept(row, "args", ours), tuple),
        kwargs=arguments.representation(_kept(row, "kwargs", ours), dict),
        worker=row.get("worker"),
        queue=row.get("queue"),
        group_id=row.get("group_id"),
        root_id=ours.get("root_id"),
        parent_id=row.get("parent_id"),
        periodic_task_name=ours.get("periodic_task_name"),
        stamps=_read_stamps(row),
    )


def replaceable_by(document: Document) -> Row:
    """Return a query for what the document may replace.

    Celery's documents have no fence: theirs is reckoned from state and retries, as `fence` does it.
    """
    attempt = min(document.attempt, _LARGEST)
    open_until = attempt >> 16  # so many retries a document may have that is open, or has ended, …
    failed_until = (attempt - 1) >> 16
    succeeded_until = open_until - 1
    ended = sorted(states.READY_STATES - {states.SUCCESS})
    choices: list[Row] = [
        {"djq.fence": {"$lte": attempt}},
        _theirs({"$nin": sorted(states.READY_STATES)}, open_until),
    ]
    if failed_until >= 0:
        choices.append(_theirs({"$in": ended}, failed_until))
    if succeeded_until >= 0:
        choices.append(_theirs(states.SUCCESS, succeeded_until))
    return {"_id": named(document.task_id), "$or": choices}


def write_group(group_id: str, members: Any) -> Row:
    """Return a group as it stands in its collection: Celery keeps the members' ids, and no more."""
    ids = [member[0][0] for member in members[1] or ()]
    _, encoding, body = serialization.dumps(ids, settings.RESULT_SERIALIZER)
    stored: Any = ids if _is_native() else _compressed(body)
    if isinstance(stored, bytes) and encoding == "utf-8" and not meta.is_compressed(stored):
        stored = stored.decode("utf-8", "backslashreplace")
    return {
        "_id": named(group_id),
        "result": stored,
        "date_done": datetime.now(UTC),
        "djq": {"members": json.dumps(members)},
    }


def read_group(group_id: str, row: Mapping[str, Any]) -> Any:
    """Return the group's members as `save_group` was given them.

    Raises:
        ContentDisallowed: its serializer is not accepted.
        DecodeError: it is damaged.
    """
    members = _ours(row).get("members")
    if isinstance(members, str):
        return json.loads(members)
    ids = row.get("result")
    if isinstance(ids, str | bytes):
        ids = meta.loads(ids.encode() if isinstance(ids, str) else ids)
    return [[group_id, None], [[[member, None], None] for member in ids or ()]]


def older_than(oldest: datetime) -> Row:
    """Return a query for what ended before that, or was last written then and never ended."""
    return {
        "$or": [
            {"date_done": {"$lt": oldest}},
            {"date_done": None, "djq.stored": {"$lt": oldest}},
        ]
    }


def _theirs(status: Any, retries: int) -> Row:
    return {"djq.fence": {"$exists": False}, "status": status, "retries": {"$not": {"$gt": retries}}}


def _extend(document: Document, row: Row, ours: Row) -> None:
    """Add what RESULT_EXTENDED asks for."""
    started = document.date_started
    if started is not None and math.isfinite(started):
        ours["date_started"] = started
    for name in _OURS:
        if value := getattr(document, name):
            ours[name] = clean(value)
    if document.name is None:
        return
    row["name"] = clean(document.name)
    row["args"] = _value(json.loads(arguments.args_json(document.args)), "args", ours)
    row["kwargs"] = _value(json.loads(arguments.kwargs_json(document.kwargs)), "kwargs", ours)
    row["worker"] = clean(document.worker)
    row["retries"] = max(0, min(document.retries, 2**31 - 1))
    row["queue"] = clean(document.queue)
    if document.stamps:
        taken = {*meta.KEYS, "_id"}
        stamps = {
            name: value
            for name, value in json.loads(document.stamps).items()
            if name not in taken and "." not in name and not name.startswith("$") and _fits({name: value})
        }
        row[_STAMPED] = list(stamps)
        row.update(stamps)


def _value(value: Any, name: str, ours: Row) -> Any:
    """Return a value as its field holds it. One that MongoDB cannot hold stands in `djq`, as JSON."""
    if value is None or _fits(value):
        return value
    ours[name] = json.dumps(value)
    return clean(value) if isinstance(value, str) else None


def _kept(row: Mapping[str, Any], name: str, ours: Mapping[str, Any]) -> Any:
    """Return what `_value` wrote."""
    return json.loads(ours[name]) if name in ours else row.get(name)


def _content(document: Document) -> tuple[Any, Row]:
    """Return the result as its field holds it, and what `djq` must tell of it."""
    kind, encoding, content = document.content_type, document.content_encoding, document.result
    expected, expected_encoding, _ = serialization.dumps(None, settings.RESULT_SERIALIZER)
    is_expected = (kind, encoding) == (expected, expected_encoding)
    if is_expected and (_is_native() or (kind == _PICKLE and document.status in states.EXCEPTION_STATES)):
        try:
            value = meta.value_of(document)
            if not _is_native():  # with pickle Celery keeps the exception itself
                return _compressed(serialization.dumps(value, "pickle")[2]), {}
            if _fits(value):
                return value, {}
            is_expected = False
        except (ContentDisallowed, DecodeError, EncodeError):
            is_expected = not _is_native()
    ours = {} if is_expected else {"content_type": clean(kind), "content_encoding": clean(encoding)}
    if isinstance(content, str):
        if kind == serialization.JSON_TYPE and not _fits(content):  # half characters, not escaped
            content = json.dumps(json.loads(content))
        raw = content.encode("utf-8", "surrogatepass")
        stored = _compressed(raw)
        return (content if stored is raw and _fits(content) else stored), ours
    return _compressed(content), ours


def _read_content(stored: Any, ours: Mapping[str, Any]) -> tuple[str | bytes, str, str]:
    if "content_type" in ours:
        kind, encoding = ours["content_type"], ours["content_encoding"]
    elif _is_native() or (stored is not None and not isinstance(stored, str | bytes)):
        kind, encoding, stored = serialization.dumps(stored, settings.RESULT_SERIALIZER)
    else:
        kind, encoding, _ = serialization.dumps(None, settings.RESULT_SERIALIZER)
    if stored is None:
        return "null", serialization.JSON_TYPE, "utf-8"
    if isinstance(stored, bytes):
        stored = meta.inflated(stored)
        return stored.decode("utf-8", "surrogatepass") if encoding == "utf-8" else stored, kind, encoding
    return stored if encoding == "utf-8" else stored.encode("utf-8", "surrogatepass"), kind, encoding


def _is_native() -> bool:
    """Return whether results are kept as values, as Celery does with a serializer called `bson`."""
    return bool(settings.RESULT_SERIALIZER == "bson")


def _compressed(raw: bytes) -> bytes:
    """Return the bytes as RESULT_COMPRESSION wants them, or the very same."""
    return meta.compressed(raw)


def _fits(value: Any) -> bool:
    """Return whether MongoDB can hold the value."""
    try:
        bson.encode({"value": value})
    except (*UNFIT, RecursionError):
        return False
    return isinstance(value, str) or _is_shallow(value, DEEPEST)


def _is_shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in value)


def _read_stamps(row: Mapping[str, Any]) -> str | None:
    names = row.get(_STAMPED)
    if not names or not isinstance(names, list):
        return None
    return json.dumps({str(name): row.get(str(name)) for name in names}, default=str)


def _ours(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found = row.get("djq")
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def _moment(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except NO_MOMENT:
        return None


def _seconds(moment: Any) -> float | None:
    """Return a moment as the client gives it: in UTC, and only with `tz_aware` saying so."""
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

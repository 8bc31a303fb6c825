"""Celery's form of a document, as key-value stores keep it: the task's meta, in RESULT_SERIALIZER.

A `Document` comes in and bytes leave, and the other way round. JSON is put together around the result's own
text, which is not read on the way. What Celery's form has no place for stands under the key `djq`, at the
end, where other readers pass over it; with RESULT_EXTENDED off there is none of it, unless it is needed.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

from djqueue import states
from djqueue.conf import settings
from djqueue.core import inflation, moments, serialization
from djqueue.core.wire_exceptions import exception_to_wire
from djqueue.exceptions import ContentDisallowed, DecodeError, EncodeError
from djqueue.result.documents import Document, accepted_contents, fence
from djqueue_results.backends import arguments

_quoted = json.encoder.encode_basestring_ascii
#: where the names of the stamps are
_STAMPED = "stamped_headers"
#: what no stamp may be called
KEYS = frozenset(
    {
        *("status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id"),
        *("name", "args", "kwargs", "worker", "retries", "queue", _STAMPED, "djq"),
    }
)
_COMPRESSED = b"\x00celery-compressed\x00"
#: what Document has and Celery's meta has not
_OURS = ("date_started", "root_id", "periodic_task_name")


def write(document: Document) -> bytes:
    """Return the document as it is stored."""
    if document.content_type == serialization.JSON_TYPE and isinstance(document.result, str):
        return _json(document, document.result, {})
    try:
        return _serialized(document)
    except (ContentDisallowed, DecodeError, EncodeError):
        return _json(document, "null", _packed(document))


def read(task_id: str, stored: bytes) -> Document:
    """Return the document that was stored, by us or by Celery; without an id, of the task it names.

    Raises:
        ContentDisallowed: neither RESULT_ACCEPT_CONTENT nor ACCEPT_CONTENT lists the serializer.
        DecodeError: it is damaged.
    """
    stored = inflated(stored)
    if stored.startswith(b"{"):
        return _from_json(task_id, stored)
    return _from_serialized(task_id, stored)


def loads(stored: bytes) -> Any:
    """Return anything else that is stored beside documents, JSON or written with RESULT_SERIALIZER.

    Raises as `read` does.
    """
    stored = inflated(stored)
    if stored[:1] in (b"{", b"["):
        return serialization.loads_json(stored)
    content_type, encoding, _ = serialization.dumps(None, settings.RESULT_SERIALIZER)
    return serialization.loads(stored, content_type, encoding, accepted_contents())


def compressed(written: bytes) -> bytes:
    """Return what is written as RESULT_COMPRESSION wants it, for stores that keep any bytes.

    What would inflate too far to be read again stays as it is.

    Raises:
        SerializerNotInstalled: there is no such compression.
    """
    name = settings.RESULT_COMPRESSION
    if not name:
        return written
    body, kind = serialization.compress(written, name)
    if len(written) > inflation.GRACE:
        try:
            serialization.decompress(body, kind)
        except DecodeError:
            return written
    return b"".join((_COMPRESSED, kind.encode(), b"\x00", body))


def is_compressed(stored: bytes) -> bool:
    """Return whether a store holds it compressed."""
    return stored.startswith(_COMPRESSED)


def inflated(stored: bytes) -> bytes:
    """Return what was compressed; anything else as it is. Raises DecodeError."""
    if not is_compressed(stored):
        return stored
    kind, _, compressed = stored[len(_COMPRESSED) :].partition(b"\x00")
    return serialization.decompress(compressed, kind.decode("ascii", "replace"))


def fence_of(task_id: str, stored: bytes) -> int:
    """Return the smallest attempt that may replace what is stored: any, if nobody here can read it."""
    try:
        kept = read(task_id, stored)
    except (ContentDisallowed, DecodeError):
        return 0
    return fence(kept.status, kept.attempt, kept.retries)


def value_of(document: Document) -> Any:
    """Return the value as it stands in what a serializer writes: only pickle carries exceptions."""
    value = document.value()
    is_pickled = serialization.serializer_of(document.content_type) == "pickle"
    return value if is_pickled else wired(value)


def wired(value: Any) -> Any:
    """Return an exception as every serializer writes it; other values as they are."""
    return exception_to_wire(value) if isinstance(value, BaseException) else value


def _json(document: Document, result: str, ours: dict[str, Any]) -> bytes:
    parts = [
        f'{{"status": {_quoted(document.status)}, "result": {result}',
        f', "traceback": {_text(document.traceback)}',
        f', "children": {_list(document.children)}, "date_done": {_text(_ended(document))}',
    ]
    if document.group_id:
        parts.append(f', "group_id": {_quoted(document.group_id)}')
    if document.parent_id:
        parts.append(f', "parent_id": {_quoted(document.parent_id)}')
    extended = settings.RESULT_EXTENDED
    if extended and document.name is not None:
        parts.append(
            f', "name": {_quoted(document.name)}, "args": {arguments.args_json(document.args)}'
            f', "kwargs": {arguments.kwargs_json(document.kwargs)}, "worker": {_text(document.worker)}'
            f', "retries": {document.retries}, "queue": {_text(document.queue)}'
        )
        if document.stamps:
            parts.append(_stamps(document.stamps))
    parts.append(f', "task_id": {_quoted(document.task_id)}')
    if extended or ours or document.attempt:
        parts.append(_under_our_key(document, ours, extended))
    parts.append("}")
    text = "".join(parts)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half characters in the result's own text
        return json.dumps(json.loads(text)).encode()


def _under_our_key(document: Document, ours: dict[str, Any], extended: bool) -> str:
    """Return our key with the attempt last: the script that compares attempts looks there."""
    # Put together by hand, because this is done for every task.
    parts = [f"{json.dumps(ours)[1:-1]}, "] if ours else []
    if extended:
        started = document.date_started
        if started is not None and math.isfinite(started):
            parts.append(f'"date_started": {started!r}, ')
        if document.root_id and document.root_id != document.task_id:
            parts.append(f'"root_id": {_quoted(document.root_id)}, ')
        if document.periodic_task_name:
            parts.append(f'"periodic_task_name": {_quoted(document.periodic_task_name)}, ')
    return f', "djq": {{{"".join(parts)}"attempt": {document.attempt}}}'


def _packed(document: Document) -> dict[str, Any]:
    """Return a result that Celery's form cannot hold, for our key."""
    packed: dict[str, Any] = {
        "content_type": document.content_type,
        "content_encoding": document.content_encoding,
    }
    if isinstance(document.result, bytes):
        return packed | {"content_base64": b64encode(document.result).decode("ascii")}
    return packed | {"content": document.result}


def _serialized(document: Document) -> bytes:
    """Return the meta with the value in it, written with the serializer that wrote the value."""
    serializer = serialization.serializer_of(document.content_type)
    if serializer is None:
        raise DecodeError(f"There is no serializer for {document.content_type!r}.")
    meta = document.as_meta() | {"date_done": _ended(document), "result": value_of(document)}
    return serialization.dumps(meta, serializer)[2]


def _from_json(task_id: str, stored: bytes) -> Document:
    try:
        meta = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"The result of task {task_id} is damaged: {error}") from None
    ours = meta.get("djq")
    if not isinstance(ours, dict):
        ours = {}
    document = _from_meta(task_id, meta, json.dumps(meta.get("result")))
    attempt = ours.get("attempt")
    if isinstance(attempt, int):
        document.attempt = attempt
        document.retries = max(document.retries, attempt >> 16)
    for name in _OURS:
        setattr(document, name, ours.get(name))
    if "content_type" in ours:
        document.content_type, document.content_encoding = ours["content_type"], ours["content_encoding"]
        packed = ours.get("content_base64")
        document.result = ours["content"] if packed is None else b64decode(packed)
    return document


def _from_serialized(task_id: str, stored: bytes) -> Document:
    content_type, encoding, _ = serialization.dumps(None, settings.RESULT_SERIALIZER)
    meta = serialization.loads(stored, content_type, encoding, accepted_contents())
    if not isinstance(meta, dict):
        raise DecodeError(f"The result of task {task_id} is damaged: it is no dictionary.")
    body = serialization.dumps(wired(meta.get("result")), settings.RESULT_SERIALIZER)[2]
    document = _from_meta(task_id, meta, body)
    document.content_type, document.content_encoding = content_type, encoding
    return document


def _from_meta(task_id: str, meta: dict[str, Any], result: str | bytes) -> Document:
    get = meta.get
    retries = get("retries")
    return Document(
        task_id or str(get("task_id")),
        str(get("status") or states.PENDING),
        result,
        traceback=get("traceback"),
        children=get("children"),
        date_done=_moment(get("date_done")),
        retries=retries if isinstance(retries, int) else 0,
        attempt=retries << 16 if isinstance(retries, int) and 0 <= retries < 2**31 else 0,
        name=get("name"),
        args=arguments.representation(get("args"), tuple),
        kwargs=arguments.representation(get("kwargs"), dict),
        worker=get("worker"),
        queue=get("queue"),
        group_id=get("group_id"),
        parent_id=get("parent_id"),
        stamps=_read_stamps(meta),
    )


def _read_stamps(meta: dict[str, Any]) -> str | None:
    names = meta.get(_STAMPED)
    return json.dumps({name: meta.get(name) for name in names}) if names and isinstance(names, list) else None


def _ended(document: Document) -> str | None:
    """Return when the task ended, as Celery writes it."""
    if document.date_done is None or document.status not in states.READY_STATES:
        return None
    try:
        return datetime.fromtimestamp(document.date_done, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _moment(value: Any) -> float | None:
    try:
        return moments.epoch(value) if value else None
    except (TypeError, ValueError, AttributeError):
        return None


def _text(value: str | None) -> str:
    return "null" if value is None else _quoted(value)


def _stamps(text: str) -> str:
    """Return the stamps as Celery keeps them: their names, and each under its own name.

    One that is called as a key of the document itself is left out; it came from outside.
    """
    stamps = {name: value for name, value in json.loads(text).items() if name not in KEYS}
    return ", " + json.dumps({_STAMPED: list(stamps), **stamps})[1:-1]


def _list(value: list[Any] | None) -> str:
    return "[]" if value == [] else json.dumps(value)

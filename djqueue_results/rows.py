"""Documents as rows of the table, and back: pure functions, no database.

A worker's document comes in with text of any kind; what leaves fits the columns of every database, and
turns back into the same document.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Any

from django.conf import settings as django_settings
from django.utils import timezone

from djqueue.result.documents import Document, fence
from djqueue_results.models import NAME_LENGTH, TaskResult

#: Columns of a written row, in order. What `KEPT` names is not wiped by a later write that does not know it.
COLUMNS = (
    "task_id",
    "date_created",
    "status",
    "result",
    "content_type",
    "content_encoding",
    "traceback",
    "meta",
    "date_done",
    "retries",
    "date_started",
    "task_name",
    "task_args",
    "task_kwargs",
    "worker",
    "queue",
    "group_id",
    "root_id",
    "parent_id",
    "periodic_task_name",
    "attempt",
    "fence",
)
KEPT = frozenset(COLUMNS[COLUMNS.index("date_started") : COLUMNS.index("attempt")])
FIRST = ("task_id", "date_created")
#: Columns that are read back.
READ = tuple(name for name in COLUMNS if name not in ("date_created", "fence"))

#: What a number that is no moment raises (NaN, the year 100,000): better no time than no result.
NO_MOMENT = (ValueError, OverflowError, OSError)

Row = tuple[Any, ...]
#: Makes what the database takes for a moment (seconds since the epoch), or None.
Moment = Callable[[float | None], Any]

_LARGEST = 2**62
_NO_CHILDREN = '{"children": []}'
_BASE64 = "+base64"


def stored_id(task_id: str, longest: int = NAME_LENGTH) -> str:
    """Return the id under which a task is kept: its own, or a digest if the column cannot hold that."""
    if len(task_id) <= longest and _is_storable(task_id):
        return task_id
    return "sha256:" + hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()


def to_row(document: Document, moment: Moment, created: Any) -> Row:
    """Return the values of `COLUMNS` for a document."""
    content, content_encoding = to_text(document.result, document.content_encoding)
    attempt = max(0, min(document.attempt, _LARGEST))
    retries = max(0, min(document.retries, 2**31 - 1))
    children = document.children
    return (
        stored_id(document.task_id),
        created,
        clean(document.status, 50),
        content,
        clean(document.content_type, 128),
        content_encoding,
        clean(document.traceback),
        None if children is None else json.dumps({"children": children}) if children else _NO_CHILDREN,
        moment(document.date_done),
        retries,
        moment(document.date_started),
        clean(document.name, NAME_LENGTH),
        None if document.args is None else encode_basestring_ascii(document.args),
        None if document.kwargs is None else encode_basestring_ascii(document.kwargs),
        clean(document.worker, NAME_LENGTH),
        clean(document.queue, NAME_LENGTH),
        document.group_id and stored_id(document.group_id),
        document.root_id and stored_id(document.root_id),
        document.parent_id and stored_id(document.parent_id),
        clean(document.periodic_task_name, NAME_LENGTH),
        attempt,
        fence(document.status, attempt, retries),
    )


def from_row(row: Iterable[Any], seconds: Callable[[Any], float | None]) -> Document:
    """Return the document that a row, read as the columns of `READ`, was written from."""
    values = dict(zip(READ, row, strict=True))
    result, content_encoding = from_text(values["result"], values["content_encoding"])
    return Document(
        task_id=values["task_id"],
        status=values["status"],
        result=result,
        content_type=values["content_type"],
        content_encoding=content_encoding,
        traceback=values["traceback"],
        children=children_of(values["meta"]),
        date_done=seconds(values["date_done"]),
        date_started=seconds(values["date_started"]),
        attempt=values["attempt"],
        retries=values["retries"],
        name=values["task_name"],
        args=representation(values["task_args"]),
        kwargs=representation(values["task_kwargs"]),
        worker=values["worker"],
        queue=values["queue"],
        group_id=values["group_id"],
        root_id=values["root_id"],
        parent_id=values["parent_id"],
        periodic_task_name=values["periodic_task_name"],
    )


def document_of(result: TaskResult) -> Document:
    """Return the document that a row, read through the ORM, was written from."""
    return from_row((getattr(result, name) for name in READ), lambda moment: moment and moment.timestamp())


def children_of(meta: str | None) -> list[Any] | None:
    """Return the children that a row's `meta` tells of, or None if it tells nothing."""
    try:
        found = json.loads(meta or "null")
    except ValueError:
        return None
    children = found.get("children") if isinstance(found, dict) else None
    return children if isinstance(children, list) else None


def representation(text: str | None) -> str | None:
    """Return the representation of arguments that a column keeps as a JSON string."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, str) else text


def as_datetime(seconds: float | None) -> datetime | None:
    """Return the moment as the project's models hold it: aware with USE_TZ, local time without."""
    if seconds is None:
        return None
    try:
        if django_settings.USE_TZ:
            return datetime.fromtimestamp(seconds, UTC)
        return datetime.fromtimestamp(seconds, timezone.get_default_timezone()).replace(tzinfo=None)
    except NO_MOMENT:
        return None


def _is_storable(text: str) -> bool:
    """Tell whether every database keeps the text as it is: not all take NUL, none a lone surrogate."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean(text: str | None, length: int | None = None) -> str | None:
    """Return text for people's eyes with what cannot be stored written as an escape, cut to `length`."""
    if text is None:
        return None
    if not _is_storable(text):
        text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return text[:length]


def to_text(content: str | bytes, encoding: str) -> tuple[str, str]:
    """Return the result as text, and what to call its encoding so that `from_text` can undo it."""
    encoding = clean(encoding, 64 - len(_BASE64)) or ""
    if encoding != "binary":
        text = content if isinstance(content, str) else _decoded(content, encoding)
        if text is not None and _is_storable(text):
            return text, encoding
        encoding += _BASE64
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return b64encode(raw).decode(), encoding


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def from_text(text: str | None, encoding: str) -> tuple[str | bytes, str]:
    if text is None:
        return "null", encoding
    if encoding == "binary":
        return b64decode(text), encoding
    if not encoding.endswith(_BASE64):
        return text, encoding
    content = b64decode(text)
    try:
        return content.decode("utf-8", "surrogatepass"), encoding.removesuffix(_BASE64)
    except UnicodeDecodeError:
        return content, encoding.removesuffix(_BASE64)

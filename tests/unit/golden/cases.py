"""The calls whose messages were recorded from a stock Celery, as both sides make them.

`record.py` publishes each through Celery and writes what came out; `test_protocol.py` encodes each with
djqueue and compares. A case says what `apply_async` is given; `canvas` is for what Celery sends from chains,
groups and chords, where our side gets the same as fields of a `Call`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

#: When all of them were published.
NOW = datetime(2030, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
TASK_ID = "11111111-2222-4333-8444-555555555555"
SECOND_ID = "22222222-2222-4333-8444-555555555555"
THIRD_ID = "33333333-2222-4333-8444-555555555555"
GROUP_ID = "99999999-2222-4333-8444-555555555555"
REPLY_TO = "d5cba9c1-3fcd-362c-8559-44c9cabaacc1"


def signature(task: str, *args: Any, **options: Any) -> dict[str, Any]:
    """Return a signature as the wire has it."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": False,
    }


@dataclass
class Case:
    """One call. `known` tells a registered task from one sent by name; `conf` are settings of both sides."""

    name: str
    args: Any = (2, 2)
    kwargs: Any = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    known: bool = True
    conf: dict[str, Any] = field(default_factory=dict)
    canvas: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


OSLO_WINTER = timezone(timedelta(hours=1))
NESTED = {"a": [1, (2, [3, [4, {"b": {"c": "d"}}]])], "e": {"f": {"g": {"h": 1}}}, "t": ((),), "n": None}
LINK = signature("golden.total")
ERRBACK = signature("golden.failed")

CASES = [
    Case("defaults"),
    Case("list_args", args=[2, 2]),
    Case("kwargs_only", args=None, kwargs={"x": 2, "y": 2}),
    Case("no_arguments", args=None, kwargs=None),
    Case("countdown", options={"countdown": 10}),
    Case("countdown_fraction", options={"countdown": 0.5}),
    Case("countdown_zero", options={"countdown": 0}),
    Case("countdown_negative", options={"countdown": -5}),
    Case("eta_aware", options={"eta": datetime(2030, 2, 1, 8, 30, tzinfo=UTC)}),
    Case("eta_other_offset", options={"eta": datetime(2030, 2, 1, 8, 30, 0, 5, tzinfo=OSLO_WINTER)}),
    Case("eta_naive", options={"eta": datetime(2030, 1, 1)}),
    Case("eta_text", options={"eta": "2030-02-01T08:30:00Z"}),
    Case("expires_seconds", options={"expires": 60}),
    Case("expires_fraction", options={"expires": 0.25}),
    Case("expires_aware", options={"expires": datetime(2030, 2, 2, tzinfo=UTC)}),
    Case("expires_naive", options={"expires": datetime(2030, 2, 2)}),
    Case("expires_text", options={"expires": "2030-02-02T00:00:00+00:00"}),
    Case("expires_past", options={"expires": datetime(2029, 2, 2, tzinfo=UTC)}),
    Case(
        "many_options",
        options={
            "countdown": 10,
            "expires": 60,
            "priority": 5,
            "shadow": "shad",
            "headers": {"h1": "v", "h2": {"deep": [1]}},
            "time_limit": 30,
            "soft_time_limit": 20,
            "ignore_result": True,
        },
    ),
    Case("soft_limit_only", options={"soft_time_limit": 1.5}),
    Case("priority_zero", options={"priority": 0}),
    Case("default_priority", conf={"task_default_priority": 3}),
    Case("transient", options={"delivery_mode": 1}),
    Case("transient_by_name", options={"delivery_mode": "transient"}),
    Case("ignored_result", options={"ignore_result": True}),
    Case("retried", options={"retries": 3}),
    Case("family", options={"root_id": SECOND_ID, "parent_id": THIRD_ID}),
    Case("group_options", options={"group_id": GROUP_ID, "group_index": 4}),
    Case("own_reprs", options={"argsrepr": "(<secret>)", "kwargsrepr": "{...}"}),
    Case("replaced", options={"replaced_task_nesting": 2}),
    Case("stamped", options={"stamped_headers": ["groups", "stamp1"], "groups": ["x", "y"], "stamp1": "A"}),
    Case("link", options={"link": LINK, "link_error": ERRBACK}),
    Case("links", options={"link": [LINK, LINK], "link_error": [ERRBACK]}),
    Case("by_name", known=False),
    Case("by_name_ignored", known=False, options={"ignore_result": True}),
    Case("explicit_exchange", options={"exchange": "feeds", "routing_key": "feeds.rss"}),
    Case("unicode", args=("blåbær 🫐", "\u2028", "naïve"), kwargs={"ключ": "значение"}),
    Case("quotes", args=("it's", 'say "hi"', "back\\slash", "new\nline", "tab\t"), kwargs={"it's": 1}),
    Case("nested", args=([1, [2, [3, [4, [5]]]]], NESTED), kwargs=NESTED),
    Case("long_text", args=("word " * 1000,)),
    Case("long_text_no_spaces", args=("x" * 5000, "y")),
    Case("long_list", args=(list(range(1000)),)),
    Case("long_dict", args=(), kwargs={f"key{number}": "value " * 5 for number in range(100)}),
    Case("many_args", args=tuple(range(500))),
    Case("nearly_too_long", args=("x" * 1018,), kwargs={"k": "y" * 1016}),
    Case("just_too_long", args=("x" * 1024, 1), kwargs={"k": "y" * 1020, "l": [1, [2]]}),
    Case("numbers", args=(0, -1, 1.5, 1e300, True, False, None, 10**30, float("inf"))),
    Case("singles", args=((1,), [1], {"a": (1,)}, (), [], {})),
    Case("shallow_reprs", args=([[1]], {"a": {"b": 1}}), conf={"task_repr_maxlevels": 1}),
    Case(
        "dates",
        args=(
            datetime(2020, 1, 1, tzinfo=UTC),
            datetime(2020, 1, 1, 2, 3, 4, 5),
            date(2020, 2, 29),
            time(12, 30),
            time(1, 2, 3, 4),
        ),
    ),
    Case("decimals", args=(Decimal("1.10"), Decimal("-0"), UUID(int=5))),
    Case("bytes", args=(b"text", b"\xff\xfe", b"")),
    Case("integer_keys", args=({1: "a", None: "b", False: "c", 1.5: "d"},)),
    Case("zlib", options={"compression": "zlib"}),
    Case("gzip", options={"compression": "gzip"}),
    Case("bzip2", options={"compression": "bzip2"}),
    Case("lzma", options={"compression": "lzma"}),
    Case("default_compression", conf={"task_compression": "zlib"}),
    Case("pickle", args=((1, 2), {3, 4}), options={"serializer": "pickle"}),
    Case("yaml", args=((1, 2), "x"), options={"serializer": "yaml"}),
    Case("default_serializer", conf={"task_serializer": "yaml"}),
    Case(
        "chain",
        args=(1, 1),
        canvas="chain",
        fields={
            "chain": [
                signature("golden.add", 3, task_id=THIRD_ID, reply_to=REPLY_TO),
                signature("golden.add", 2, task_id=SECOND_ID, reply_to=REPLY_TO),
            ]
        },
    ),
    Case("group_member", args=(1, 1), canvas="group", fields={"group": GROUP_ID, "group_index": 0}),
    Case(
        "chord_member",
        args=(1, 1),
        canvas="chord",
        fields={
            "group": GROUP_ID,
            "group_index": 0,
            "chord": signature("golden.total", task_id=SECOND_ID, reply_to=REPLY_TO, group_id=GROUP_ID),
        },
    ),
    Case("protocol_1", options={"countdown": 10, "link": LINK}, conf={"task_protocol": 1}),
    Case(
        "protocol_1_all",
        args=(1,),
        kwargs={"y": "é"},
        conf={"task_protocol": 1},
        options={
            "eta": datetime(2030, 1, 1),
            "expires": datetime(2030, 2, 2, tzinfo=UTC),
            "retries": 2,
            "time_limit": 30,
            "soft_time_limit": 20,
            "group_id": GROUP_ID,
            "group_index": 1,
            "link_error": ERRBACK,
            "headers": {"h1": "v"},
            "priority": 4,
            "compression": "zlib",
        },
    ),
    Case("protocol_1_by_name", known=False, conf={"task_protocol": 1}),
]

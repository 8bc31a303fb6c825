"""Messages as tests write them by hand: as short and as odd as foreign senders do.

`message` makes one of protocol 2 and `v1` one of protocol 1; `JSON` is any value that JSON can hold.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from djqueue.core.messages import WireMessage

ID = "11111111-2222-4333-8444-555555555555"
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
BODY = [[2, 2], {}, NOTHING]
SIGNATURE: dict[str, Any] = {
    "task": "t.next",
    "args": [],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("2030-01-01"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def message(body: Any = BODY, properties: Any = None, **headers: Any) -> WireMessage:
    """Return a message with the headers `task` and `id` and those given."""
    headers = {"task": "t.add", "id": ID, **headers}
    return WireMessage(headers, {} if properties is None else properties, json.dumps(body).encode())


def v1(body: Any, headers: Any = None, content_type: str = "application/json") -> WireMessage:
    """Return a message of protocol 1."""
    return WireMessage(headers, {"correlation_id": ID}, json.dumps(body).encode(), content_type)

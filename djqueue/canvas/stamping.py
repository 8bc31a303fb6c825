"""Stamps: headers that callers put on calls, to find, to group and to revoke them by.

They come from callers and from visitors; `merged` decides which value stays when there are several. Stamps
are options of a signature whose names stand in `stamped_headers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from djqueue.canvas.contract import Stamps

#: The option with the names of the stamps.
NAMES = "stamped_headers"


def merged(
    stamps: Mapping[str, Any], given: Mapping[str, Any] | None, own: Mapping[str, Any], append: bool
) -> Stamps:
    """Return the options that stamp a signature.

    `stamps` come from above, `given` from the visitor, `own` are the options the signature has; of several
    values of one name the visitor's stays, then the signature's own; with `append` all of them do, as a list.
    """
    sources = [_stamps_in(source) for source in (stamps, {**given} if given else {})]
    sources.append({name: own[name] for name in own.get(NAMES) or () if name in own})
    options = {name: value for name, value in (given or {}).items() if name != NAMES}
    result: Stamps = {}
    names: dict[str, None] = {}
    for source in sources:
        for name, value in source.items():
            names[name] = None
            if name not in result:
                result[name] = value
            elif append:
                result[name] = _joined(result[name], value)
            elif source is sources[1] or (source is sources[2] and name not in sources[1]):
                result[name] = value
    return {**options, **result, NAMES: sorted(names)}


def _stamps_in(headers: Mapping[str, Any]) -> Stamps:
    names = headers.get(NAMES)
    if names is None:
        return {name: value for name, value in headers.items() if name != NAMES}
    return {name: headers[name] for name in names if name in headers}


def _joined(first: Any, second: Any) -> list[Any]:
    values = list(first) if isinstance(first, list | tuple | set) else [first]
    for value in second if isinstance(second, list | tuple | set) else [second]:
        if value not in values:
            values.append(value)
    return values

"""Values to bytes and back: bodies, results, and their compression, with bounds on what is received.

JSON is written by one prepared encoder, byte for byte as kombu writes it, and carries a few types more;
every other serializer is kombu's, by kombu's names and content types. Reading refuses what ACCEPT_CONTENT
does not list, what is too large or nested too deeply, and what inflates out of proportion.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Any

from django.utils.duration import duration_iso_string
from kombu import compression as kombu_compression
from kombu.exceptions import KombuError
from kombu.exceptions import SerializerNotInstalled as KombuSerializerNotInstalled
from kombu.serialization import registry
from kombu.utils import json as kombu_json

from djqueue.core import inflation
from djqueue.core.reprs import safe_repr
from djqueue.exceptions import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled

JSON_TYPE = "application/json"
#: The largest body that is read, compressed or not, and the deepest JSON.
LARGEST = 64 * 1024 * 1024
DEEPEST = 500

#: kombu always lets these through: they are bytes or text, nothing is decoded.
_TRUSTED = frozenset({"application/data", "application/text"})
_registry: Any = registry
_compression: Any = kombu_compression


def _default(value: Any) -> Any:
    """Return a JSON form of what JSON does not know; called by the encoder."""
    if isinstance(value, timedelta):
        return duration_iso_string(value)
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        name = type(value).__name__
        raise EncodeError(
            f"An instance of the model {name} cannot be an argument or a result: pass its primary key "
            f"({name.lower()}.pk) and fetch it where it is needed, because it may have changed by then."
        )
    try:
        return _kombu_default(value)
    except TypeError:
        raise EncodeError(_advice(value)) from None


def _advice(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, set | frozenset):
        return f"A {name} cannot be written as JSON: pass a list, such as sorted(values)."
    if hasattr(value, "model") and hasattr(value, "values_list"):
        return f"A {name} cannot be written as JSON: pass list(queryset.values_list('pk', flat=True))."
    shown = safe_repr(value, 200)
    return f"A value of type {name} cannot be written as JSON: {shown}. Pass plain values instead."


_CONSTANTS = {None: b"null", True: b"true", False: b"false"}
_kombu_default: Callable[[Any], Any] = kombu_json.JSONEncoder().default
_encode_json = json.JSONEncoder(default=_default).encode
_plain_decoder = json.JSONDecoder().decode
_typed_decoder = json.JSONDecoder(object_hook=kombu_json.object_hook).decode


def dumps_json(value: Any) -> bytes:
    """Return the value as JSON.

    Raises:
        EncodeError: JSON cannot carry it.
    """
    if value is None or value is True or value is False:  # as most tasks return
        return _CONSTANTS[value]
    try:
        return _encode_json(value).encode()
    except EncodeError:
        raise
    except (TypeError, ValueError, OverflowError) as exc:
        raise EncodeError(f"The value cannot be written as JSON: {exc}") from exc
    except RecursionError:
        raise EncodeError("The value cannot be written as JSON: it is nested too deeply.") from None


def dumps(value: Any, serializer: str = "json") -> tuple[str, str, bytes]:
    """Return the content type, the content encoding and the bytes of `value`.

    Raises:
        EncodeError: the serializer cannot carry the value.
        SerializerNotInstalled: there is no such serializer.
    """
    if serializer == "json":
        return JSON_TYPE, "utf-8", dumps_json(value)
    try:
        content_type, encoding, data = _registry.dumps(value, serializer)
    except KombuSerializerNotInstalled:
        raise SerializerNotInstalled(_unknown_serializer(serializer)) from None
    except KombuError as exc:
        raise EncodeError(f"The value cannot be written with the serializer {serializer!r}: {exc}") from exc
    return content_type, encoding, data.encode() if isinstance(data, str) else data


def loads(
    body: bytes | str, content_type: str, encoding: str = "utf-8", accept: Iterable[str] | None = ("json",)
) -> Any:
    """Return the value that `body` holds. `accept` lists names or content types; None accepts every one.

    Raises:
        ContentDisallowed: the content type is not accepted.
        DecodeError: the body cannot be read, is too large or nested too deeply.
    """
    content_type = content_type or "application/data"
    if accept is not None and content_type not in _TRUSTED:
        accepted = tuple(accept)
        try:
            is_accepted = content_type in content_types(accepted)
        except SerializerNotInstalled as exc:
            raise ContentDisallowed(str(exc)) from None
        if not is_accepted:
            raise ContentDisallowed(
                f"Content of type {content_type!r} is not accepted; accepted are: {', '.join(accepted)}."
            )
    if len(body) > LARGEST:
        raise DecodeError(f"The body has {len(body)} bytes; at most {LARGEST} are read.")
    if content_type == JSON_TYPE:
        return loads_json(body)
    try:
        return _registry.loads(body, content_type, encoding, force=True)
    except Exception as exc:
        raise DecodeError(f"The body cannot be read as {content_type}: {exc}") from exc


def loads_json(body: bytes | str) -> Any:
    """Return the value that the JSON text holds.

    Raises:
        DecodeError: it is not JSON, or nested too deeply.
    """
    try:
        text = body if isinstance(body, str) else str(body, "utf-8")
        if not _is_shallow(text):
            raise DecodeError(f"The JSON is nested more than {DEEPEST} levels deep.")
        is_typed = "__type__" in text or "\\u005" in text
        return _typed_decoder(text) if is_typed else _plain_decoder(text)
    except DecodeError:
        raise
    except RecursionError:
        raise DecodeError("The JSON is nested too deeply.") from None
    except Exception as exc:  # decoders of types registered with kombu may raise anything
        raise DecodeError(f"The body cannot be read as JSON: {exc}") from exc


@lru_cache(maxsize=64)
def content_types(accept: tuple[str, ...]) -> frozenset[str]:
    """Return the content types of the serializers named (a content type names itself).

    Raises:
        SerializerNotInstalled: there is no such serializer.
    """
    found = set()
    for name in accept:
        known = name if "/" in name else _registry.name_to_type.get(name)
        if known is None:
            raise SerializerNotInstalled(_unknown_serializer(name))
        found.add(known)
    return frozenset(found)


def serializer_of(content_type: str) -> str | None:
    """Return the name of the serializer that writes this content type, or None."""
    name: str | None = _registry.type_to_name.get(content_type)
    return name


def compress(body: bytes, name: str) -> tuple[bytes, str]:
    """Return the compressed body and the content type of the compression, for the header `compression`.

    Raises:
        SerializerNotInstalled: there is no such compression.
    """
    try:
        compressed, content_type = _compression.compress(body, name)
    except KeyError:
        known = ", ".join(sorted(_compression._aliases))
        raise SerializerNotInstalled(f"There is no compression {name!r} here; there are {known}.") from None
    return compressed, content_type


def decompress(body: bytes, content_type: str) -> bytes:
    """Return the body as it was before `compress`.

    Raises:
        DecodeError: unknown compression, broken data, or data that inflates out of proportion.
    """
    if len(body) > LARGEST:
        raise DecodeError(f"The compressed body has {len(body)} bytes; at most {LARGEST} are read.")
    known = _compression._aliases.get(content_type, content_type)
    if known in inflation.STREAMS:
        return inflation.inflate(body, known, LARGEST)
    if known not in _compression._decoders:
        raise DecodeError(f"The body is compressed as {content_type!r}, which is not installed here.")
    try:
        inflated: bytes = _compression.decompress(body, known)
    except Exception as exc:
        raise DecodeError(f"The body cannot be decompressed as {content_type!r}: {exc}") from exc
    if len(inflated) > LARGEST:
        raise DecodeError(f"The body inflates to more than {LARGEST} bytes.")
    return inflated


# A string that never ends goes to the end of the text, lest it is looked for from each of its quotes.
_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _is_shallow(text: str) -> bool:
    """Tell whether the JSON is nested at most DEEPEST levels, without parsing it."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return True
    brackets = _STRINGS.sub("", text).encode("ascii", "ignore").translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(array("b", brackets)), default=0) <= DEEPEST


def _unknown_serializer(name: str) -> str:
    return f"There is no serializer {name!r} here; there are {', '.join(sorted(_registry.name_to_type))}."

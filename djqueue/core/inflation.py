"""Decompression that stops in time: bodies are fed and inflate piece by piece, up to a size and a ratio.

`serialization.decompress` comes in with the bytes and the content type of the compression; the inflated
bytes leave, or a `DecodeError` for broken data and for bombs.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from djqueue.exceptions import DecodeError

#: A body may inflate to this many times its size, once it is larger than GRACE bytes.
RATIO = 200
GRACE = 1024 * 1024
#: and so do its parts: what has inflated so far may be so large, bytes, or RATIO times what was fed so far
LEAP = 16 * 1024 * 1024
_PIECE = 256 * 1024
_MORSEL = 64 * 1024
_LZMA_MEMORY = 128 * 1024 * 1024


class _Zlib:
    """zlib's decompressor with the face of the other two; reads gzip files as well."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=47)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail or data, max_length)


#: How a decompressor is made, by content type.
STREAMS: dict[str, Callable[[], Any]] = {
    "application/x-gzip": _Zlib,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY),
}


def inflate(body: bytes, content_type: str, largest: int) -> bytes:
    """Return the inflated body, of `largest` bytes at most.

    Raises:
        DecodeError: the data is broken, too large, or inflates out of proportion.
    """
    stream = STREAMS[content_type]()
    bound = min(largest, max(GRACE, len(body) * RATIO))
    pieces: list[bytes] = []
    size = fed = 0
    while not stream.eof:
        morsel = body[fed : fed + _MORSEL] if stream.needs_input else b""
        fed += len(morsel)
        try:
            piece = stream.decompress(morsel, _PIECE)
        except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as exc:
            raise DecodeError(f"The body cannot be decompressed as {content_type}: {exc}") from exc
        if not piece and not stream.eof and stream.needs_input and fed >= len(body):
            raise DecodeError(f"The body cannot be decompressed as {content_type}: its end is missing.")
        size += len(piece)
        if size > min(bound, max(LEAP, fed * RATIO)):
            raise DecodeError(
                f"The body of {len(body)} bytes inflates to more than {size - len(piece)}: at most {RATIO} "
                f"times its size are read, and {largest} bytes in all."
            )
        pieces.append(piece)
    return b"".join(pieces)

"""Result stores as somebody else might write them, over a plain client of Redis.

`PlainStore` has the verbs and nothing more; `FencedStore` also lets no two processes write at once. Tests
name them by dotted path, or announce them as a package would.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from djqueue_results.keyvalue import Decide, KeyValueBackend, KeyValueError


class PlainStore(KeyValueBackend):
    """Keeps results in Redis, one key after the other."""

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._place = f"redis://{url.partition('://')[2]}"
        self._client: Any = redis.Redis.from_url(self._place)

    def as_uri(self) -> str:
        """Return the address, which has no password."""
        return self._place

    def get(self, key: str) -> bytes | None:
        """Return the value."""
        found: bytes | None = self._client.get(_raw(key))
        return found

    def set(self, key: str, value: bytes) -> None:
        """Keep the value."""
        self._client.set(_raw(key), value)

    def delete(self, key: str) -> None:
        """Delete the key."""
        self._client.delete(_raw(key))

    def incr(self, key: str) -> int:
        """Add one."""
        return int(self._client.incr(_raw(key)))

    def expire(self, key: str, seconds: int) -> None:
        """Give the key so much time."""
        self._client.expire(_raw(key), seconds)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def after_fork(self) -> None:
        """Leave the parent's connections alone."""
        super().after_fork()
        self._client = redis.Redis.from_url(self._place)


class FencedStore(PlainStore):
    """The same for many processes at once."""

    def mget(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return the values in one step."""
        found: list[bytes | None] = self._client.mget([_raw(key) for key in keys])
        return found

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        """Change the key if nobody else did meanwhile, else look again."""
        while True:
            try:
                with self._client.pipeline() as pipe:
                    pipe.watch(_raw(key))
                    value = decide(pipe.get(_raw(key)))
                    if value is None:
                        return
                    pipe.multi()
                    pipe.set(_raw(key), value, ex=seconds or None)
                    pipe.execute()
                    return
            except redis.WatchError:
                continue
            except redis.RedisError as error:
                raise KeyValueError(str(error)) from error


def announce(directory: Path, scheme: str, target: str) -> None:
    """Write what a package with such an entry point would leave on the path."""
    info = directory / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[djqueue.result_backends]\n{scheme} = {target}\n")


def _raw(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")

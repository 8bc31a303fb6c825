"""Results as files in one directory, as Celery's filesystem store keeps them: `file:///var/lib/results`.

Each document is a file whose name is its key. It is written beside its place and then renamed, so whoever
reads finds the old one or the new one; locks, which the system takes back from processes that die, keep two
who write at once from undoing each other. All processes must see the same directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.exceptions import BackendStoreError, ImproperlyConfigured
from djqueue_results.backends.keyvalue.contract import Decide, DocumentStore, KeyValueError, TooLarge, digest

#: what the names of our own files begin with: locks, and what is being written
OWN = ".djq-"
#: so many locks are shared by all keys
LOCKS = 64
#: file systems take names of 255 bytes; Celery's prefixes and one of the project's must fit, too
LONGEST_NAME = 150


class FileBackend(DocumentStore):
    """Keeps documents in a directory, from which `celery.backend_cleanup` deletes old ones."""

    compresses = True

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        self._directory = _directory(url)
        if "/" in self._prefix:
            raise ImproperlyConfigured(
                "RESULT_BACKEND_TRANSPORT_OPTIONS['global_keyprefix'] becomes part of file names with "
                f"{self.as_uri()}, so there can be no slash in it; it makes {self._prefix!r}."
            )
        self._try_out()

    def as_uri(self) -> str:
        """Return the address."""
        return f"file://{self._directory}"

    def named(self, task_id: str) -> str:
        """Return the id as it stands in a file's name: itself, or a digest if no file can be called so."""
        try:
            fits = len(task_id.encode()) <= LONGEST_NAME and not {"/", "\0"} & set(task_id)
        except UnicodeEncodeError:  # half characters
            fits = False
        return task_id if fits else digest(task_id)

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found = {}
        for key in keys:
            value = self._content(key)
            if value:
                found[key] = value
        return found

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        with _own_errors(), self._locked(key):
            value = decide(self._content(key))
            if value is None:
                return
            beside = self._path(f"{OWN}{new_id()}")
            try:
                with open(beside, "xb") as file:
                    file.write(value)
                os.replace(beside, self._path(key))
            except BaseException:
                with suppress(OSError):
                    os.unlink(beside)
                raise

    def remove(self, keys: Sequence[str]) -> None:
        with _own_errors():
            for key in keys:
                with suppress(FileNotFoundError):
                    os.unlink(self._path(key))

    def clean_up(self) -> int:
        """Delete what was last written RESULT_EXPIRES ago, and what writers left behind that were killed."""
        if not settings.RESULT_EXPIRES:
            return 0
        oldest = time.time() - settings.RESULT_EXPIRES
        count = 0
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    name = entry.name
                    is_document = name.startswith(self._prefix)
                    if is_document or name.startswith(self._group_prefix):
                        count += self._delete_if_older(name, oldest) and is_document
                    elif name.startswith(OWN) and not name.startswith(f"{OWN}lock-"):
                        self._delete_if_older(name, oldest)
        except OSError as error:
            raise BackendStoreError(
                f"Old results could not be deleted from {self.as_uri()}: {error}"
            ) from error
        return count

    def _delete_if_older(self, name: str, oldest: float) -> bool:
        with self._locked(name), suppress(FileNotFoundError):  # or a newer document may just take its place
            if os.stat(self._path(name)).st_mtime < oldest:
                os.unlink(self._path(name))
                return True
        return False

    def _content(self, key: str) -> bytes | None:
        """Return what the file holds; Celery, which writes in place, may just have emptied it."""
        with _own_errors(), suppress(FileNotFoundError), open(self._path(key), "rb") as file:
            return file.read() or None
        return None

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        number = zlib.crc32(os.fsencode(key)) % LOCKS
        lock = os.open(self._path(f"{OWN}lock-{number}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _try_out(self) -> None:
        """Write, read and delete a file, so that what is wrong with the directory shows at once."""
        path = self._path(f"{OWN}{new_id()}")
        try:
            with open(path, "xb") as file:
                file.write(b"tried")
            with open(path, "rb") as file:
                file.read()
            os.unlink(path)
        except OSError as error:
            raise ImproperlyConfigured(
                f"Results are to be kept in the directory {self._directory!r}, and a file cannot be written "
                f"there: {error.strerror}. The directory must exist, and this user be allowed to write in it."
            ) from error


def _directory(url: str) -> str:
    """Return the path in the URL; as in Celery it is taken as it is written."""
    path = url.partition("://")[2].removeprefix("localhost")
    if not path.startswith("/"):
        raise ImproperlyConfigured(
            f"RESULT_BACKEND must name a directory by its whole path, as in 'file:///var/lib/results'; it is "
            f"{url!r}."
        )
    return path.rstrip("/") or "/"


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise TooLarge("files may not become so large here (ulimit -f).") from error
        raise KeyValueError(str(error)) from error

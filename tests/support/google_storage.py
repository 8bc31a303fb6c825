"""Runs what stands in for Google's storage: `python google_storage.py PORT`, on the loopback, in memory.

The emulator from PyPI takes a write whatever generation it is to replace, and does not tell generations with
what is read. Both are added here as Google documents them, so that stores can be tried with several writers.
An upload in parts is judged when it begins, by Google when it ends as well.
"""

from __future__ import annotations

import http.server
import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from threading import Lock
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

#: one request at a time changes anything
_lock = Lock()


def generation(storage: Any, bucket: str, name: str) -> str:
    """Return which version stands there, "0" for none."""
    try:
        return str(storage.get_file_obj(bucket, name)["generation"])
    except NotFound:
        return "0"


def insert(request: Any, response: Any, storage: Any, **_: Any) -> None:
    """Take an object, if what it is to replace is what stands there."""
    bucket = request.params["bucket_name"]
    told = request.query.get("ifGenerationMatch")
    if told and "upload_id" not in request.query:
        names = request.query.get("name")
        said = request.data.get("meta", request.data) if isinstance(request.data, dict) else {}
        if generation(storage, bucket, names[0] if names else said["name"]) != told[0]:
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json({"error": {"code": 412, "message": "conditionNotMet"}})
            return
    objects.insert(request, response, storage)


def download(request: Any, response: Any, storage: Any, **_: Any) -> None:
    """Give an object and tell its generation."""
    response["X-Goog-Generation"] = generation(
        storage, request.params["bucket_name"], request.params["object_id"]
    )
    objects.download(request, response, storage)


def alone(handle: Callable[..., None]) -> Callable[..., None]:
    """Let one request at a time do that; what it says is read before."""

    def handle_alone(request: Any, response: Any, storage: Any) -> None:
        request.data  # noqa: B018 (it is read from the socket now)
        with _lock:
            handle(request, response, storage)

    return handle_alone


def main() -> None:
    """Serve until somebody ends the process."""
    ours = {objects.insert: insert, objects.download: download}
    server.HANDLERS = tuple(
        (path, {method: alone(ours.get(handle, handle)) for method, handle in handlers.items()})
        for path, handlers in server.HANDLERS
    )
    http.server.HTTPServer = http.server.ThreadingHTTPServer  # type: ignore[misc]
    server.RequestHandler.protocol_version = "HTTP/1.1"  # a connection takes more than one request
    server.RequestHandler.disable_nagle_algorithm = (
        True  # else each answer waits 40 ms for an acknowledgement
    )
    logging.getLogger().setLevel(logging.CRITICAL)
    server.create_server("127.0.0.1", int(sys.argv[1]), True).run()


if __name__ == "__main__":
    main()

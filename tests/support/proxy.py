"""A TCP proxy in front of a server, to break connections in every way a network can.

A test connects to `proxy.url` instead of the server's and says what is to happen: bytes are passed on, kept
back, thrown away, or the connection is cut before the next reply comes through.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

#: how long a thread waits for bytes before it looks whether the proxy was closed, seconds
_TICK = 0.05


class Proxy:
    """Between clients and the server at `url`. Passes everything on until told otherwise."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = f"{parts.scheme}://127.0.0.1:{port}{parts.path}"
        self._hole = False
        self._refuses = False
        self._after: list[bytes] = []
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._run(self._accept)

    def turn_to(self, url: str) -> None:
        """Close every connection, and lead new ones to another server."""
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self.cut()

    def hole(self) -> None:
        """Throw away every byte, both ways, from now on; connections stay open."""
        self._hole = True

    def heal(self) -> None:
        """Pass everything on again. What was thrown away does not come back."""
        self._hole = self._refuses = False
        self._after = []

    def cut(self, *, refuse: bool = False) -> None:
        """Close every connection; `refuse`: and close new ones at once, until healed."""
        self._refuses = refuse
        with self._lock:
            links, self._links = self._links, []
        for pair in links:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def lose_reply_to(self, *words: bytes) -> None:
        """Let the next request with these words in it through, and cut the connection instead of the reply.

        When there are several, then the next after that with the second of them in it, and so on.
        """
        self._after = list(words)

    @property
    def has_lost_one(self) -> bool:
        """Whether all the requests that `lose_reply_to` waits for have come by."""
        return not self._after

    def close(self) -> None:
        """Stop, and close everything."""
        self._closed = True
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._links.append((client, server))
            loses_reply = threading.Event()
            self._run(self._requests, client, server, loses_reply)
            self._run(self._replies, server, client, loses_reply)

    def _requests(self, client: socket.socket, server: socket.socket, loses_reply: threading.Event) -> None:
        while (data := self._read(client)) is not None:
            if self._after and self._after[0] in data:
                del self._after[0]
                loses_reply.set()
            if data and not self._hole:
                with suppress(OSError):
                    server.sendall(data)
        self._end(client, server)

    def _replies(self, server: socket.socket, client: socket.socket, loses_reply: threading.Event) -> None:
        while (data := self._read(server)) is not None:
            if data and loses_reply.is_set():
                break
            if data and not self._hole:
                with suppress(OSError):
                    client.sendall(data)
        self._end(client, server)

    def _read(self, end: socket.socket) -> bytes | None:
        """Return what came, nothing if nothing came for a moment, None at the end."""
        try:
            end.settimeout(_TICK)
            return end.recv(65536) or None
        except TimeoutError:
            return None if self._closed else b""
        except OSError:
            return None

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _run(self, work: object, *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]

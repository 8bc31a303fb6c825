"""RabbitMQ for tests: a node of their own, or a virtual host in the one at the standard port.

A node of their own can be killed, frozen and asked by rabbitmqctl, and has as many virtual hosts as are
wanted; it takes some seconds to start, so a run shares it.
"""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kombu.connection import Connection

from tests.support.private import PrivateServer, Server, free_port


class PrivateRabbit(PrivateServer):
    """A RabbitMQ node with a name, database and cookie of its own."""

    program = "rabbitmq-server"
    # The one on Debian's PATH insists on the system's directories.
    also_at = ("/usr/lib/rabbitmq/bin",)
    #: the lines of its rabbitmq.conf
    configuration: Sequence[str] = ()

    def __init__(self) -> None:
        self._distribution_port = free_port()
        self._vhosts: set[str] = set()
        super().__init__()

    @property
    def node(self) -> str:
        """The Erlang node's name."""
        return f"djqueue-{self.port}@localhost"

    def address(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def launch(self) -> subprocess.Popen[bytes]:
        (self.directory / "rabbitmq.conf").write_text("".join(f"{line}\n" for line in self.configuration))
        return self._run(str(self.binary()), **self._environment())

    def vhost(self, name: str) -> str:
        if name not in self._vhosts:
            self.control("add_vhost", name)
            self.control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
            self._vhosts.add(name)
        return f"{self.url.removesuffix('//')}/{name}"

    def drop_vhost(self, name: str) -> None:
        """Delete the virtual host with all that is in it; connections to it are closed."""
        self.control("delete_vhost", name)
        self._vhosts.discard(name)

    def control(self, *words: str) -> str:
        """Run rabbitmqctl, and return what it printed."""
        program = str(Path(str(self.binary())).with_name("rabbitmqctl"))
        done = subprocess.run(
            [program, "--quiet", *words],
            env={**os.environ, **self._environment()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def _environment(self) -> dict[str, str]:
        directory = str(self.directory)
        return {
            "HOME": directory,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": directory,
            "RABBITMQ_LOG_BASE": directory,
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/plugins",
            "RABBITMQ_PID_FILE": f"{directory}/pid",
        }

    def is_ours(self) -> bool:
        connection = Connection(self.url, connect_timeout=2)
        with suppress(OSError), connection:
            properties = connection.connection.server_properties
            return bool(properties["cluster_name"].startswith(self.node.split("@")[0]))
        return False


class PrivateTlsRabbit(PrivateRabbit):
    """A node that is also there over TLS, at `tls_port`; `strict`: for clients with a certificate only."""

    def __init__(self, certificates: Path, *, strict: bool) -> None:
        self.tls_port = free_port()
        self.configuration = (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
            f"ssl_options.cacertfile = {certificates}/ca.crt",
            f"ssl_options.certfile = {certificates}/server.crt",
            f"ssl_options.keyfile = {certificates}/server.key",
            "ssl_options.verify = verify_peer",
            f"ssl_options.fail_if_no_peer_cert = {str(strict).lower()}",
        )
        super().__init__()


class LocalRabbit(Server):
    """A virtual host of our own in the RabbitMQ at the standard port, made through its management port."""

    def __init__(self) -> None:
        self._vhost = f"djqueue-{os.getpid()}"
        self._manage("PUT")
        super().__init__(f"amqp://guest:guest@127.0.0.1:5672/{self._vhost}")

    def close(self) -> None:
        self._manage("DELETE")

    def _manage(self, method: str) -> None:
        address = f"http://127.0.0.1:15672/api/vhosts/{self._vhost}"
        # "Z3Vlc3Q6Z3Vlc3Q=" is guest:guest, RabbitMQ's own default.
        headers = {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=", "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(address, method=method, headers=headers), timeout=5)

"""Brokers of other makes that kombu speaks to: private ones only, started and removed by the test run.

SQS is moto's server, which is S3 and DynamoDB for result stores as well; ZooKeeper and etcd are Debian's; a
directory of files and a database through SQLAlchemy need none.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.support.private import PrivateServer, free_port
from tests.support.servers import missing


class PrivateAmazon(PrivateServer):
    """What looks like all of Amazon's services, in memory."""

    program = "moto_server"
    also_at = (str(Path(sys.executable).parent),)

    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        return self._run(str(self.binary()), "-H", "127.0.0.1", "-p", str(self.port))

    def is_ours(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


class PrivateSqs(PrivateAmazon):
    """What looks like Amazon's SQS."""

    def address(self) -> str:
        return f"sqs://key:secret@127.0.0.1:{self.port}"

    @staticmethod
    def options() -> dict[str, Any]:
        """Return what BROKER_TRANSPORT_OPTIONS must hold: times so short that tests need not wait."""
        return {
            "region": "us-east-1",
            "is_secure": False,
            "wait_time_seconds": 1,
            "polling_interval": 0.1,
            "visibility_timeout": 5,
        }


class PrivateZooKeeper(PrivateServer):
    """A single ZooKeeper."""

    program = "java"
    jar = Path("/usr/share/java/zookeeper.jar")

    def address(self) -> str:
        return f"zookeeper://127.0.0.1:{self.port}/djqueue"

    def launch(self) -> subprocess.Popen[bytes]:
        (self.directory / "zoo.cfg").write_text(
            f"dataDir={self.directory}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "tickTime=500\nadmin.enableServer=false\n4lw.commands.whitelist=ruok\n"
        )
        main = "org.apache.zookeeper.server.ZooKeeperServerMain"
        return self._run(str(self.binary()), "-cp", str(self.jar), main, "zoo.cfg")

    def is_ours(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
            asked.sendall(b"ruok")
            return asked.recv(16) == b"imok"
        return False


class PrivateEtcd(PrivateServer):
    """A single etcd that speaks version 2 of its interface, the one that kombu knows."""

    program = "etcd"

    def __init__(self) -> None:
        self._peer = f"http://127.0.0.1:{free_port()}"
        super().__init__()

    def address(self) -> str:
        return f"etcd://127.0.0.1:{self.port}/"

    def launch(self) -> subprocess.Popen[bytes]:
        here = f"http://127.0.0.1:{self.port}"
        return self._run(
            *(str(self.binary()), "--name=one", f"--data-dir={self.directory}/data", "--enable-v2=true"),
            *(f"--listen-client-urls={here}", f"--advertise-client-urls={here}"),
            *(f"--listen-peer-urls={self._peer}", f"--initial-advertise-peer-urls={self._peer}"),
            f"--initial-cluster=one={self._peer}",
        )

    def is_ours(self) -> bool:
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}/v2/stats/self", timeout=1) as answer:
            return bool(json.load(answer)["name"] == "one")
        return False

    def empty(self) -> None:
        """Delete all queues."""
        every = Request(f"http://127.0.0.1:{self.port}/v2/keys/kombu?recursive=true", method="DELETE")
        with suppress(HTTPError), urlopen(every, timeout=5):
            pass


def amazon() -> PrivateAmazon:
    """Return private services of Amazon's, or skip the test."""
    if PrivateAmazon.binary() is None:
        missing("No Amazon to test with: pip install 'moto[server]'.")
    return PrivateAmazon()


def sqs() -> PrivateSqs:
    """Return a private SQS, or skip the test."""
    if PrivateSqs.binary() is None:
        missing("No SQS to test with: pip install 'moto[server]'.")
    return PrivateSqs()


def zookeeper() -> PrivateZooKeeper:
    """Return a private ZooKeeper, or skip the test."""
    if shutil.which("java") is None or not PrivateZooKeeper.jar.exists():
        missing("No ZooKeeper to test with: apt-get install zookeeper.")
    return PrivateZooKeeper()


def etcd() -> PrivateEtcd:
    """Return a private etcd, or skip the test."""
    if PrivateEtcd.binary() is None:
        missing("No etcd to test with: apt-get install etcd-server.")
    return PrivateEtcd()

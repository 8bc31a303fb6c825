"""What stands in for the storage of Azure and Google, and a corner of it for each test.

Azurite is Microsoft's own emulator; npm installs it below this directory, once. Google's is from PyPI, with
what `google_storage.py` adds. Settings of result stores leave, and those of a stock Celery.
"""

from __future__ import annotations

import base64
import fcntl
import json
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from djqueue.core.names import new_id
from tests.support.private import PrivateServer
from tests.support.servers import missing

AZURITE = Path(__file__).parent / "azurite"
ACCOUNT = "shop"
#: the key of the account, which is never to be seen
SECRET = base64.b64encode(b"not for logs: the key of the account").decode()
#: the variable by which Google's client finds another server
EMULATOR = "STORAGE_EMULATOR_HOST"
#: seconds; a test may take 60
INSTALLED_WITHIN = 50


class PrivateAzurite(PrivateServer):
    """What looks like Azure's blob storage, in memory."""

    program = "azurite-blob"
    also_at = (str(AZURITE / "node_modules" / ".bin"),)

    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        return self._run(
            *(str(self.binary()), "--silent", "--disableTelemetry", "--inMemoryPersistence"),
            # The client that pip finds may be newer than what npm is told to install.
            *("--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
            AZURITE_ACCOUNTS=f"{ACCOUNT}:{SECRET}",
        )

    def is_ours(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def azurite() -> PrivateAzurite:
    """Return a private Azurite, installed if need be, or skip the test."""
    with (AZURITE / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # several Pythons may be tried at the same time
        if PrivateAzurite.binary() is None:
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(command, cwd=AZURITE, capture_output=True, timeout=INSTALLED_WITHIN)
    if PrivateAzurite.binary() is None:
        missing("No Azure to test with: apt-get install npm && npm install --prefix tests/support/azurite.")
    return PrivateAzurite()


class PrivateGoogleStorage(PrivateServer):
    """What looks like Google's storage, in memory."""

    program = "python"

    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        return self._run(sys.executable, str(Path(__file__).with_name("google_storage.py")), str(self.port))

    def is_ours(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def google_storage() -> PrivateGoogleStorage:
    """Return a private Google storage, or skip the test."""
    if find_spec("gcp_storage_emulator") is None:
        missing("No Google storage to test with: pip install gcp-storage-emulator.")
    return PrivateGoogleStorage()


def connection_string(url: str) -> str:
    """Return what leads to the account on that server."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={SECRET};"
        f"BlobEndpoint={url}/{ACCOUNT};"
    )


def azure_settings(url: str) -> dict[str, Any]:
    """Return settings that lead to a container that is not there yet."""
    return {
        "RESULT_BACKEND": f"azureblockblob://{connection_string(url)}",
        "AZUREBLOCKBLOB_CONTAINER_NAME": f"results-{new_id()}",
        "AZUREBLOCKBLOB_BASE_PATH": "some/where/",
        # A store that is away is told of soon.
        "AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS": 0,
    }


def google_settings(url: str, query: str = "") -> dict[str, Any]:
    """Make an empty bucket and return the settings that lead there, if EMULATOR names the server."""
    bucket = f"results-{new_id()}"
    told = json.dumps({"name": bucket}).encode()
    asked = Request(f"{url}/storage/v1/b?project=shop", told, {"Content-Type": "application/json"})
    with urlopen(asked, timeout=5):
        return {"RESULT_BACKEND": f"gs://{bucket}/some/where?gcs_project=shop{query}"}


def as_celery_has_it(address: str) -> str:
    """Return what a stock Celery is to be told of the store.

    Its class for `gs://` asks Google's Firestore how long counters of chords live before it does anything,
    and that has no emulator here. The class below it keeps results in the same way, and counts no chords.
    """
    return f"celery.backends.gcs:GCSBackendBase+{address}" if address.startswith("gs://") else address

"""Certificates for servers that tests start: an authority, a server, a client, and a strange authority.

`make(directory)` fills a directory with `ca.crt`, with `server.crt` for 127.0.0.1 and `client.crt`, both
signed by that authority, with their keys, and with `stranger.crt`, which has signed nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.servers import missing

_AUTHORITY = """
    openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name} \
        -addext keyUsage=critical,keyCertSign,cRLSign
"""
_SIGNED = """
    openssl req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} &&
    echo subjectAltName=IP:127.0.0.1 > names && echo authorityKeyIdentifier=keyid >> names &&
    openssl x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 \
        -extfile names
"""


def make(directory: Path) -> Path:
    """Make them all and return the directory, or skip the test."""
    for recipe, name in (
        (_AUTHORITY, "ca"),
        (_AUTHORITY, "stranger"),
        (_SIGNED, "server"),
        (_SIGNED, "client"),
    ):
        run = ["sh", "-c", recipe.format(name=name)]
        made = subprocess.run(run, cwd=directory, capture_output=True, check=False)
        if made.returncode:
            missing("No certificates: apt-get install openssl.")
    for key in directory.glob("*.key"):
        key.chmod(0o644)  # servers of other users read them, too
    return directory

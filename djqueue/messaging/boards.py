"""Where start boards lie: files of this user, in a directory of this machine that other users cannot enter.

A worker's name comes in and the path of its board leaves; whoever finds the worker dead finds the board.
Names come from the broker, so a name never leads out of the directory.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote


def path_of(name: str) -> Path | None:
    """Return the path of the board of the worker called `name`; None where there is no safe place for it."""
    directory = Path(tempfile.gettempdir()) / f"djqueue-{os.getuid()}"
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        pass  # whoever makes the board makes it, for this user only
    except OSError:
        return None
    else:
        others = stat.S_IRWXG | stat.S_IRWXO
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & others:
            return None
    return directory / f"{quote(name, safe='@ ')[:200]}.board"

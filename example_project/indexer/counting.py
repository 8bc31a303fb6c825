"""Looking into one file: how many lines, words, definitions or messages it holds.

A path comes in, a dictionary of counts leaves. `add_up` makes one out of many.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

#: How a message begins in a gettext file; the first has an empty name and holds the headers.
MESSAGE = re.compile(r"^msgid ", re.MULTILINE)


def count(path: Path) -> dict[str, int]:
    """Return what is in a Python or gettext file."""
    text = path.read_bytes().decode()
    counts = {"files": 1, "lines": text.count("\n"), "words": len(text.split())}
    if path.suffix == ".py":
        nodes = Counter(type(node) for node in ast.walk(ast.parse(text)))
        counts["functions"] = nodes[ast.FunctionDef] + nodes[ast.AsyncFunctionDef]
        counts["classes"] = nodes[ast.ClassDef]
    else:
        counts["messages"] = len(MESSAGE.findall(text))
    return counts


def add_up(many: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the sums."""
    total: Counter[str] = Counter()
    for counts in many:
        total.update(counts)
    return dict(total)

"""Writes the pages of the documentation that are made from the code.

Run by `make docs`. The settings come in from `djqueue.conf`; `reference/settings.md` leaves. A test fails
when a page is not what this would write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from djqueue.conf import as_markdown

DOCS = Path(__file__).resolve().parent

#: page → what makes it
PAGES: dict[str, Callable[[], str]] = {"reference/settings.md": as_markdown}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(make())
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()

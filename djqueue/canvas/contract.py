"""The seam to those who stamp: a visitor that walks through a canvas and says what each part is stamped with.

Users subclass it and give an instance to `signature.stamp`; `stamping` decides what becomes of the answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

Stamps = dict[str, Any]


class StampingVisitor(ABC):
    """Says what the parts of a canvas are stamped with: each hook returns a dictionary of stamps.

    With the key `stamped_headers` in it, only the names listed there are stamps; other keys are options.
    """

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> Stamps:
        """Return the stamps of one task."""

    def on_group_start(self, group: Any, **headers: Any) -> Stamps:
        """Return the stamps of everything in a group."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        """Know that a group is done."""

    def on_chain_start(self, chain: Any, **headers: Any) -> Stamps:
        """Return the stamps of everything in a chain."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        """Know that a chain is done."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> Stamps:
        """Return the stamps of everything in a chord: those of its header as a group, unless overridden."""
        return self.on_group_start(sig.header_group(), **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """Know that a chord's header is done."""
        self.on_group_end(sig.header_group(), **header)

    def on_chord_body(self, sig: Any, **header: Any) -> Stamps:
        """Return the stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> Stamps:
        """Return the stamps of what follows a task that returned."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> Stamps:
        """Return the stamps of what follows a task that failed."""
        return {}

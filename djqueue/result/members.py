"""A list of handles, each of a task or of a group: what sets of results have in common.

Handles come in from whoever sent the tasks; `ResultSet` asks and waits for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from djqueue.result.handles import AsyncResult

Handle = Any  # an AsyncResult or a GroupResult


class Members:
    """Handles in order."""

    def __init__(self, results: Iterable[Handle] = ()) -> None:
        self.results: list[Handle] = list(results)

    def add(self, result: Handle) -> None:
        """Put a result at the end, unless it is there already."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Handle | str) -> None:
        """Take a result, or that of the task with this id, out of the set.

        Raises:
            KeyError: it is not there.
        """
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Handle | str) -> None:
        """Take a result out of the set, if it is there."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[Handle]) -> None:
        """Add each of the results that is not there already."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Take all results out of the set."""
        self.results.clear()

    def leaves(self) -> list[AsyncResult[Any]]:
        """Return the handles of the single tasks, those of groups among them included."""
        found: list[AsyncResult[Any]] = []
        for result in self.results:
            found.extend(result.leaves() if isinstance(result, Members) else (result,))
        return found

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Handle:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return self.results == other.results if isinstance(other, Members) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result) for result in self.results)}]>"

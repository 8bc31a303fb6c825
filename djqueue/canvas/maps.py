"""One task for many items: all in one message, or in messages of `n` items each.

`task.map(it)` and `task.starmap(it)` run the task on each item, one after the other, in one worker;
`task.chunks(it, n)` makes a group of such messages. They go where the task itself would go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from djqueue.canvas import sending
from djqueue.canvas.group import group as group_of
from djqueue.canvas.signature import Signature, maybe_signature


class _Mapped(Signature):
    """A task and its items; takes no arguments from anybody."""

    task_name = ""

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        content = {"task": maybe_signature(task), "it": list(it)}
        super().__init__(
            self.task_name, (), content, options, subtask_type=type(self).__name__, immutable=True
        )

    def apply_async(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Send the message to where the task's own would go."""
        return super().apply_async(
            **{**sending.place_of(self.mapped, {**self.options, **options}), **options}
        )

    @property
    def mapped(self) -> Any:
        """The signature of the task that is run on the items."""
        return maybe_signature(self["kwargs"]["task"])


@Signature.register_type()
class xmap(_Mapped):  # noqa: N801  (Celery's name)
    """`[task(item) for item in it]`, as one task."""

    task_name = "celery.map"

    def __repr__(self) -> str:
        return f"[{self.mapped.task}(x) for x in {self.kwargs['it']!r:.100}]"


@Signature.register_type()
class xstarmap(_Mapped):  # noqa: N801  (Celery's name)
    """`[task(*item) for item in it]`, as one task."""

    task_name = "celery.starmap"

    def __repr__(self) -> str:
        return f"[{self.mapped.task}(*x) for x in {self.kwargs['it']!r:.100}]"


@Signature.register_type()
class chunks(Signature):  # noqa: N801  (Celery's name)
    """Calls of a task with the tuples of `it` as arguments, `n` of them in each message."""

    def __init__(self, task: Any, it: Iterable[Any], n: int, **options: Any) -> None:
        if n < 1:
            raise ValueError(f"A chunk has at least one item; n is {n!r}.")
        content = {"task": maybe_signature(task), "it": list(it), "n": n}
        super().__init__("celery.chunks", (), content, options, subtask_type="chunks", immutable=True)

    def __call__(self, **options: Any) -> Any:
        """Send the chunks, as in Celery."""
        return self.apply_async(**options)

    def apply_async(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Send a message for each chunk, and return the handle of the group."""
        return self.group().apply_async(args, kwargs, **self._merged((), None, options)[2])

    def apply(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run all chunks here and now."""
        return self.group().apply(args, kwargs, **self._merged((), None, options)[2])

    def group(self) -> group_of:
        """Return the chunks as a group."""
        task, items, size = self.kwargs["task"], iter(self.kwargs["it"]), self.kwargs["n"]
        return group_of(xstarmap(task, part) for part in iter(lambda: list(islice(items, size)), []))

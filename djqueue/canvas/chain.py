"""Tasks one after the other, each with the result of the one before as its first argument.

`a | b | c` or `chain(a, b, c)` makes one; sending it sends the first task, whose message carries the rest
backwards, as Celery does. All ids are known then, and the handle returned is the last task's, with the
others as its parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID, uuid5

from djqueue import states
from djqueue.canvas.signature import Signature, maybe_signature
from djqueue.conf import settings
from djqueue.result.eager import EagerResult
from djqueue.result.handles import AsyncResult

#: Ids derived from other ids are version 5 UUIDs in this namespace.
DERIVED = UUID("5bd0a2c9-6f5a-4a52-9a0c-3f3a3a1d8f41")
#: Options of a chain that are meant for its last task.
_FOR_THE_LAST = ("task_id", "group_id", "group_index", "chord")


def derived_id(task_id: str, position: str | int) -> str:
    """Return the id of what follows a task at this position: the same whenever it is asked for."""
    return str(uuid5(DERIVED, f"{task_id}:{position}"))


@Signature.register_type("chain")
class Chain(Signature):
    """Signatures in the order they run."""

    def __init__(self, tasks: Iterable[Signature] = (), **options: Any) -> None:
        super().__init__("celery.chain", (), {"tasks": list(tasks)}, options, subtask_type="chain")

    @classmethod
    def of(cls, *signatures: Signature) -> Chain:
        """Return the chain of these; chains among them are taken apart."""
        steps: list[Signature] = []
        for one in signatures:
            steps.extend(one.unchain_tasks() if isinstance(one, Chain) else [one.clone()])
        return cls(steps)

    @property
    def tasks(self) -> list[Signature]:
        """The signatures, first one first."""
        tasks: list[Signature] = self["kwargs"]["tasks"]
        return tasks

    def unchain_tasks(self) -> list[Signature]:
        """Return copies of the signatures that do alone what they do in this chain."""
        steps = [step.clone() for step in self.tasks]
        if steps and self.args:
            steps[0] = steps[0].clone(self.args)
        for errback in _listed(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        for callback in _listed(self.options.get("link")) if steps else ():
            steps[-1].link(callback)
        return steps

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the chain, as in Celery; an empty one does nothing."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send the first task with these arguments; return the handle of the last one.

        `task_id` becomes the id of the last task, `link` follows it, `link_error` follows whichever fails;
        other options are those of the first task.
        """
        if settings.TASK_ALWAYS_EAGER:
            return self.apply(args, kwargs, **options)
        given = {**self.options, **{name: value for name, value in options.items() if value is not None}}
        steps, handles = self._prepare(args, kwargs, given)
        rest = [*_listed(given.pop("chain", None)), *reversed(steps[1:])]
        first = steps[0].apply_async(**given, chain=rest or None)
        if len(steps) == 1:
            return first
        handles[1].parent = first
        for handle in handles[1:]:
            handle.sent_with(first)
        return handles[-1]

    def apply(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Run the tasks here, one after the other, until one of them does not return."""
        given = {**self.options, **{name: value for name, value in options.items() if value is not None}}
        steps, handles = self._prepare(args, kwargs, given)
        given.pop("chain", None)
        done = steps[0].apply(**given)
        for step in steps[1:]:
            if done.state != states.SUCCESS:
                return _stopped(done, handles[-1])
            following = step.apply((done.result,))
            following.parent, done = done, following
        return done

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> AsyncResult[Any]:
        """Decide the ids of all tasks now, and return the handle of the last one."""
        last: AsyncResult[Any] | None = None
        for position, step in enumerate(self.tasks):
            if step is self.tasks[-1]:
                handle = step.freeze(_id, group_id, chord, root_id, group_index=group_index)
            else:
                handle = step.freeze(derived_id(_id, position) if _id else None, root_id=root_id)
            handle.parent, last = last, handle
        if last is None:
            raise ValueError("An empty chain has no result: there is nothing to run.")
        if parent_id:
            self.tasks[0].options["parent_id"] = parent_id
        self.options["task_id"] = last.id
        return last

    def _copy(self, content: Mapping[str, Any]) -> None:
        super()._copy(content)
        self.kwargs["tasks"] = [maybe_signature(step, clone=True) for step in self.kwargs.get("tasks") or ()]

    def _prepare(
        self, args: Any, kwargs: Mapping[str, Any] | None, given: dict[str, Any]
    ) -> tuple[list[Signature], list[AsyncResult[Any]]]:
        """Take what is not the first task's out of `given`; return the tasks to send and their handles."""
        if not self.tasks:
            raise ValueError("An empty chain cannot be sent: there is nothing to run.")
        whole = Chain(step.clone() for step in self.tasks)
        if not self.immutable:
            whole.tasks[0] = whole.tasks[0].clone((*(args or ()), *self.args), kwargs)
        whole.options.update({name: given.pop(name) for name in ("link", "link_error") if name in given})
        for_last = {name: given.pop(name) for name in _FOR_THE_LAST if name in given}
        last = whole.freeze(
            for_last.get("task_id"),
            for_last.get("group_id"),
            for_last.get("chord"),
            group_index=for_last.get("group_index"),
        )
        handles = [last]
        while handles[0].parent is not None:
            handles.insert(0, handles[0].parent)
        return whole.unchain_tasks(), handles

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks))


def chain(*tasks: Any) -> Any:
    """Return the tasks (or an iterable of them) as a chain; one task alone is returned as it is."""
    if len(tasks) == 1 and not isinstance(tasks[0], Mapping):
        tasks = tuple(tasks[0])
    return reduce(or_, map(maybe_signature, tasks)) if tasks else Chain()


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _stopped(done: AsyncResult[Any], last: AsyncResult[Any]) -> AsyncResult[Any]:
    """Return the handle of a chain's last task when an earlier one, `done`, did not return."""
    return EagerResult(last.id, done.result, done.state, done.traceback, last.name, parent=done)

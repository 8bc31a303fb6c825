"""Tasks one after the other, each with the result of the one before as its first argument.

`a | b | c` or `chain(a, b, c)` makes one; sending it sends the first task, whose message carries the rest
backwards, as Celery does. All ids are known then, and the handle returned is the last task's, with the
others as its parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from djqueue.canvas import sending, stamping
from djqueue.canvas.composing import composed, split
from djqueue.canvas.content import listed
from djqueue.canvas.contract import StampingVisitor
from djqueue.canvas.group import derived_id, group
from djqueue.canvas.signature import Signature, maybe_signature
from djqueue.conf import settings
from djqueue.result.eager import EagerResult


class _Folding(type):
    """Makes `chain(a, b, c)` the same as `a | b | c`, which need not be a chain."""

    def __call__(cls, *tasks: Any, **options: Any) -> Any:
        if len(tasks) == 1 and not isinstance(tasks[0], Mapping):
            tasks = tuple(tasks[0])
        made = _made_of([maybe_signature(task) for task in tasks]) if tasks else cls.of(())  # type: ignore[attr-defined]
        return made.set(**options) if options else made


@Signature.register_type()
class chain(Signature, metaclass=_Folding):  # noqa: N801  (Celery's name)
    """Signatures in the order they run; one alone is returned as it is."""

    @classmethod
    def of(cls, steps: Iterable[Any]) -> Self:
        """Return the chain of exactly these steps."""
        made = cls.__new__(cls)
        Signature.__init__(made, "celery.chain", (), {"tasks": list(steps)}, subtask_type="chain")
        return made

    # -- sending -------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the chain, as in Celery; an empty one does nothing."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Send the first task with these arguments; return the handle of the last one.

        `task_id` becomes the id of the last task, `link` follows it, `link_error` follows whichever fails;
        other options are those of the first task.
        """
        if settings.TASK_ALWAYS_EAGER:
            return self.apply(args, kwargs, **options)
        given = self._merged((), None, options)[2]
        steps, handles, roots = self._prepared(args, kwargs, given)
        rest = [*listed(given.pop("chain", None)), *reversed(steps[1:])]
        with sending.together(given.pop("on_commit", None), given.pop("using", None)) as batch:
            first = steps[0].apply_async(**given, chain=rest or None)
            if len(steps) == 1:
                return first
            roots[1].parent = first
            batch.handles += handles[1:]
        return handles[-1]

    def apply(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the tasks here, one after the other, until one of them does not return."""
        given = self._merged((), None, options)[2]
        steps, handles, _ = self._prepared(args, kwargs, given)
        given.pop("chain", None)
        done = steps[0].apply(**given)
        for step in steps[1:]:
            if not done.successful():
                return _stopped(done, handles[-1])
            following = step.apply((_value(done),))
            _root_of(following).parent, done = done, following
        return done

    # -- changing ------------------------------------------------------------------------------------

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **stamps: Any
    ) -> Self:
        """Put stamps on all tasks."""
        given = None if visitor is None else visitor.on_chain_start(self, **stamps) or {}
        stamps = stamping.merged(stamps, given, self.options, append_stamps)
        self._stamp_links(visitor, append_stamps, stamps)
        for step in self.tasks:
            step.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chain_end(self, **stamps)
        return self

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Decide the ids of all tasks now, and return the handle of the last one.

        Groups that something follows become chords by that.
        """
        handles, _ = self._frozen(_id, group_id, chord, root_id, group_index)
        if parent_id:
            self.tasks[0].options["parent_id"] = parent_id
        self.options["task_id"] = handles[-1].id
        return handles[-1]

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Any]:
        """The signatures, first one first."""
        tasks: list[Any] = self["kwargs"]["tasks"]
        return tasks

    @property
    def size(self) -> int:
        """How many ends a chord has to wait for when this is in its header: those of what runs last."""
        return next((step.size for step in reversed(self.tasks) if step.size), 0)

    def unchain_tasks(self) -> list[Any]:
        """Return copies of the signatures that do alone what they do in this chain."""
        steps = [step.clone() for step in self.tasks]
        if steps and self.args:
            steps[0] = steps[0].clone(self.args)
        for errback in listed(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        for callback in listed(self.options.get("link")) if steps else ():
            steps[-1].link(callback)
        return steps

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return the chain whose first call gets these arguments, as one writes it."""
        if not self.tasks:
            return "<empty chain>"
        first, *rest = self.tasks
        return " | ".join([first.reprcall(*args, **kwargs), *map(repr, rest)])

    def _copy(self, content: Mapping[str, Any]) -> None:
        super()._copy(content)
        self.kwargs["tasks"] = [maybe_signature(step, clone=True) for step in self.kwargs.get("tasks") or ()]

    def _frozen(
        self,
        _id: str | None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        group_index: int | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """Decide all ids; return the handle of each step's end, and the first handle of each step."""
        self.kwargs["tasks"] = steps = split(composed(_flat(self.tasks)))
        if not steps:
            raise ValueError("An empty chain has no result: there is nothing to run.")
        handles: list[Any] = []
        roots: list[Any] = []
        for position, step in enumerate(steps):
            if position == len(steps) - 1:
                handle = step.freeze(_id, group_id, chord, root_id, group_index=group_index)
            else:
                handle = step.freeze(derived_id(_id, position) if _id else None, root_id=root_id)
            roots.append(_root_of(handle))
            roots[-1].parent = handles[-1] if handles else None
            handles.append(handle)
        return handles, roots

    def _prepared(
        self, args: Any, kwargs: Mapping[str, Any] | None, given: dict[str, Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Take what is not the first task's out of `given`; return the tasks to send and their handles."""
        whole = self.clone()
        whole["args"], whole["options"] = (), {}
        place = {name: given.pop(name, None) for name in ("group_id", "chord", "group_index")}
        handles, roots = whole._frozen(given.pop("task_id", None), **place)
        if not self.immutable:
            whole.tasks[0] = whole.tasks[0].clone((*(args or ()), *self.args), kwargs)
        whole.options.update({name: given.pop(name) for name in ("link", "link_error") if name in given})
        return whole.unchain_tasks(), handles, roots


def _made_of(parts: list[Any]) -> Any:
    """Return what runs the parts one after the other: a chain, unless one of them is all there is."""
    if len(parts) == 1:
        return parts[0]
    if unfit := [part for part in parts if not isinstance(part, Signature)]:
        raise TypeError(f"A chain is made of signatures; it was given {unfit[0]!r}.")
    steps = composed(_flat(parts))
    return steps[0] if len(steps) == 1 else chain.of(steps)


def _compose(first: Signature, second: Signature) -> Any:
    return _made_of([first, second])


Signature.compose = staticmethod(_compose)


def _flat(steps: Iterable[Any]) -> list[Any]:
    """Return the steps with the chains among them taken apart; groups of one are what they have in them."""
    flat: list[Any] = []
    for step in steps:
        step = step.unrolled() if isinstance(step, group) else step
        flat.extend(_flat(step.unchain_tasks()) if isinstance(step, chain) else [step])
    return flat


def _root_of(handle: Any) -> Any:
    """Return the first of what was made for one step: a chord's is the handle of its header."""
    return handle if handle.parent is None else _root_of(handle.parent)


def _value(done: Any) -> Any:
    return done.get(disable_sync_subtasks=False)


def _stopped(done: Any, last: Any) -> Any:
    """Return the handle of a chain's last task when an earlier one, `done`, did not return."""
    if not isinstance(done, EagerResult):
        return done
    name = getattr(last, "name", None)
    return EagerResult(last.id, done.result, done.state, done.traceback, name, parent=done)

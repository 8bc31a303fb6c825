"""A call that has not been made yet: what to run, with what, and how to send it.

Tasks make signatures (`task.s`, `task.si`); callers complete, combine and send them. A signature is a
dictionary with Celery's six keys, so it travels inside messages as it is. Kinds of signatures made of others
(chains) register under their `subtask_type`, and `signature` gives every dictionary its right class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, ClassVar, Self

from djqueue.canvas import sending
from djqueue.core.calls import Plan
from djqueue.core.names import new_id, thread_oid
from djqueue.core.registry import tasks
from djqueue.result.handles import AsyncResult

#: Options that a signature keeps, whatever it is called with.
_KEPT = frozenset({"group_id", "stamped_headers"})


class Signature(dict[str, Any]):
    """One task with arguments and options; `|` makes chains of them.

    `task` is a name, a task, or another signature (a dictionary) to copy. Options are those of `apply_async`.
    """

    #: classes by `subtask_type`
    TYPES: ClassVar[dict[str, type[Signature]]] = {}

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        **more_options: Any,
    ) -> None:
        if isinstance(task, Mapping):
            self._copy(task)
            return
        super().__init__(
            task=task if isinstance(task, str) else _name_of(task),
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more_options},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def register_type(cls, name: str) -> Callable[[type[Signature]], type[Signature]]:
        """Return a decorator that makes the class the one of dictionaries with this `subtask_type`."""

        def register(kind: type[Signature]) -> type[Signature]:
            cls.TYPES[name] = kind
            return kind

        return register

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Signature:
        """Return the signature that a dictionary describes, a copy, in the class its type asks for."""
        kind = Signature.TYPES.get(content.get("subtask_type") or "", Signature)
        made = kind.__new__(kind)
        made._copy(content)
        return made

    # -- sending -------------------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Send the task; arguments given here come before those of the signature."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send the task with more arguments and options."""
        args, kwargs, options = self._merged(args, kwargs, options)
        task = tasks.get(self["task"])
        if task is None:
            return sending.send_with(Plan.for_name(self["task"]), args, kwargs, options)
        handle: AsyncResult[Any] = task.apply_async(args, kwargs, **options)
        return handle

    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Do as `delay` does, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Do as `apply_async` does, without blocking the event loop."""
        return await sending.in_thread(self.apply_async, args, kwargs, **options)

    def apply(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Run the task here and now, and return a handle that has its result."""
        args, kwargs, options = self._merged(args, kwargs, options)
        handle: AsyncResult[Any] = self.type.apply(args, kwargs, **options)
        return handle

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function here, as a function."""
        args, kwargs, _ = self._merged(args, kwargs, {})
        return self.type(*args, **kwargs)

    def __invert__(self) -> Any:
        """Send the task and wait for its result."""
        return self.apply_async().get()

    # -- changing ------------------------------------------------------------------------------------

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Change options in place."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Take arguments from nobody any more (True), or take them again (False)."""
        self["immutable"] = immutable

    def clone(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """Return a copy with more arguments and options."""
        merged_args, merged_kwargs, merged_options = self._merged(args, kwargs, options)
        merged = {"args": merged_args, "kwargs": merged_kwargs, "options": merged_options}
        return Signature.from_dict({**self, **merged})

    partial = clone

    def replace(
        self,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Signature:
        """Return a copy in which these parts are other ones."""
        copy = self.clone()
        for part, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[part] = value
        return copy

    def link(self, callback: Signature) -> Signature:
        """Let `callback` follow when the task has returned, with its result as first argument."""
        return self._append("link", callback)

    def link_error(self, errback: Signature) -> Signature:
        """Let `errback` follow when the task has failed."""
        return self._append("link_error", errback)

    def on_error(self, errback: Signature) -> Self:
        """Do as `link_error` does, and return this signature."""
        self.link_error(errback)
        return self

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> AsyncResult[Any]:
        """Decide the task's id now, if nobody did, and return the handle of what will be sent."""
        options = self.options
        task_id = options.setdefault("task_id", _id or new_id())
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        options.setdefault("reply_to", thread_oid())
        if group_id:
            options.setdefault("group_id", group_id)
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        return AsyncResult(task_id, task_name=self["task"])

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def type(self) -> Any:
        """The registered task."""
        return tasks[self["task"]]

    @property
    def task(self) -> str:
        """The task's name."""
        name: str = self["task"]
        return name

    name = task

    @property
    def args(self) -> Any:
        """The positional arguments."""
        return self["args"]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        kwargs: dict[str, Any] = self["kwargs"]
        return kwargs

    @property
    def options(self) -> dict[str, Any]:
        """The options of `apply_async`."""
        options: dict[str, Any] = self["options"]
        return options

    @property
    def subtask_type(self) -> str | None:
        """What kind of signature this is; None for one task."""
        kind: str | None = self["subtask_type"]
        return kind

    @property
    def immutable(self) -> bool:
        """Whether arguments given later are ignored."""
        return bool(self["immutable"])

    @property
    def id(self) -> str | None:
        """The task's id, if it is decided."""
        return self.options.get("task_id")

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sent this one, if it is decided."""
        return self.options.get("parent_id")

    @property
    def root_id(self) -> str | None:
        """The id of the first task of all, if it is decided."""
        return self.options.get("root_id")

    # -- as a value ----------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        """Return the chain of this signature and `other`."""
        if not isinstance(other, Signature) or "chain" not in self.TYPES:
            return NotImplemented
        return self.TYPES["chain"].of(self, other)  # type: ignore[attr-defined]

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        memo[id(self)] = copy = Signature.from_dict(self)
        return copy

    def __copy__(self) -> Signature:
        return self.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        return Signature.from_dict, (dict(self),)

    def __repr__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task}({', '.join(given)})"

    def _copy(self, content: Mapping[str, Any]) -> None:
        """Take over what a dictionary describes; arguments are not copied, they may be iterators."""
        self.update(
            task=content.get("task"),
            args=content.get("args") or (),
            kwargs=dict(content.get("kwargs") or {}),
            options=deepcopy(content.get("options") or {}),
            subtask_type=content.get("subtask_type"),
            immutable=bool(content.get("immutable")),
        )

    def _merged(
        self, args: Any, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Return arguments and options of a call: given arguments first, given keywords and options win."""
        own = self.options
        merged = dict(own)
        if options:
            kept = _KEPT.union(own.get("stamped_headers") or ())
            for name, value in options.items():
                if value is not None and not (name in kept and name in own):
                    merged[name] = value
        if self.immutable:
            return tuple(self.args), self.kwargs, merged
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, merged

    def _append(self, option: str, other: Signature) -> Signature:
        linked = self.options.get(option) or []
        if isinstance(linked, Mapping):
            linked = [linked]
        if other not in linked:
            self.options[option] = [*linked, other]
        return other


def signature(task: Any, args: Any = None, kwargs: Mapping[str, Any] | None = None, **how: Any) -> Signature:
    """Return the signature of a task, or of a name; of a dictionary, a copy of the right class.

    `how` takes what the constructor of `Signature` takes besides.
    """
    if isinstance(task, Mapping):
        return Signature.from_dict(task)
    return Signature(task, args, kwargs, **how)


def maybe_signature(content: Any, clone: bool = False) -> Any:
    """Return a dictionary as a signature; None and signatures as they are (a copy with `clone`)."""
    if isinstance(content, Signature):
        return content.clone() if clone else content
    return Signature.from_dict(content) if isinstance(content, Mapping) else content


def _name_of(task: Any) -> str:
    name = getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"A signature is made of a task or its name; it was given {task!r}.")
    return name

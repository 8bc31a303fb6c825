"""A call that has not been made yet: what to run, with what, and how to send it.

Tasks make signatures (`task.s`, `task.si`); callers complete, combine, stamp and send them. Those made of
others are in `chain`, `group`, `chord` and `maps`; each does what is told here in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from djqueue.canvas import sending, stamping
from djqueue.canvas.content import Content, listed
from djqueue.canvas.contract import StampingVisitor
from djqueue.core.calls import Plan
from djqueue.core.names import new_id, reply_address
from djqueue.core.registry import tasks
from djqueue.result.handles import AsyncResult

#: Options that a signature keeps, whatever it is called with.
_KEPT = frozenset({"group_id", "stamped_headers"})


@Content.register_type("")
class Signature(Content):
    """One task with arguments and options; `|` makes it a part of something larger."""

    #: what `|` makes of two signatures; `composing` puts it here
    compose: ClassVar[Callable[[Any, Any], Any]]

    # -- sending -------------------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task; arguments given here come before those of the signature."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Send the task with more arguments and options, and return its handle."""
        args, kwargs, options = self._merged(args, kwargs, options)
        task = tasks.get(self["task"])
        if task is None:
            return sending.send_with(Plan.for_name(self["task"]), args, kwargs, options)
        return task.apply_async(args, kwargs, **options)

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """Do as `delay` does, without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Do as `apply_async` does, without blocking the event loop."""
        return await sending.in_thread(self.apply_async, args, kwargs, **options)

    def apply(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the task here and now, and return a handle that has its result."""
        args, kwargs, options = self._merged(args, kwargs, options)
        return self.type.apply(args, kwargs, **options)

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
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Take arguments from nobody any more (True), or take them again (False)."""
        self["immutable"] = immutable

    def clone(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
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
    ) -> Any:
        """Return a copy in which these parts are other ones."""
        copy = self.clone()
        for part, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[part] = value
        return copy

    def link(self, callback: Any) -> Any:
        """Let `callback` follow when the task has returned, with its result as first argument."""
        return self._append("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Let `errback` follow when the task has failed."""
        return self._append("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """Do as `link_error` does, and return this signature."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Any]:
        """Return this signature, what follows it, and what follows that, however deep."""
        found = [self]
        for callback in listed(self.options.get("link")):
            found.extend(maybe_signature(callback).flatten_links())
        return found

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **stamps: Any
    ) -> Self:
        """Put stamps, headers that say something about the task, on it and on everything under it.

        The visitor gives each part its own. A stamp that is there already stays, unless the visitor gives
        it; with `append_stamps` several values of one name become a list.
        """
        self._stamp_links(visitor, append_stamps, stamps)
        given = None if visitor is None else visitor.on_signature(self, **stamps) or {}
        return self.set(**stamping.merged(stamps, given, self.options, append_stamps))

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Decide the task's id now, if nobody did, and return the handle of what will be sent."""
        options = self.options
        task_id = options.setdefault("task_id", _id or new_id())
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        options.setdefault("reply_to", reply_address())
        if group_id:
            options.setdefault("group_id", group_id)
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        return AsyncResult(task_id, task_name=self["task"])

    @property
    def size(self) -> int:
        """How many ends a chord has to wait for when this is in its header."""
        return 1

    # -- as a value ----------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        """Return what runs this signature and then `other`."""
        return type(self).compose(self, other) if isinstance(other, Signature) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

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

    def _append(self, option: str, other: Any) -> Any:
        linked = listed(self.options.get(option))
        if other not in linked:
            self.options[option] = [*linked, other]
        return other

    def _stamp_links(self, visitor: Any, append_stamps: bool, stamps: Mapping[str, Any]) -> None:
        """Stamp what follows; links have their own stamps, and none of this signature's."""
        for option, hook in (("link", "on_callback"), ("link_error", "on_errback")):
            linked = [maybe_signature(one) for one in listed(self.options.get(option))]
            for one in linked:
                given = None if visitor is None else getattr(visitor, hook)(one, **stamps) or {}
                one.stamp(visitor, append_stamps, **stamping.merged(stamps, given, {}, append_stamps))
            if linked:
                self.options[option] = linked


def signature(task: Any, args: Any = None, kwargs: Mapping[str, Any] | None = None, **how: Any) -> Any:
    """Return the signature of a task, or of a name; of a dictionary, a copy of the right class.

    `how` takes what the constructor of `Signature` takes besides.
    """
    if isinstance(task, Mapping):
        return Signature.from_dict(task)
    return Signature(task, args, kwargs, **how)


subtask = signature  # Celery's old name


def maybe_signature(content: Any, clone: bool = False) -> Any:
    """Return a dictionary as a signature; None and signatures as they are (a copy with `clone`)."""
    if isinstance(content, Signature):
        return content.clone() if clone else content
    return Signature.from_dict(content) if isinstance(content, Mapping) else content


def signatures(wanted: Any, whole: str) -> list[Any]:
    """Return copies of the signatures, one or an iterable, that something called `whole` is made of.

    Raises:
        TypeError: something else is among them.
    """
    if isinstance(wanted, Mapping | str) or not isinstance(wanted, Iterable):
        wanted = (wanted,)  # what is no signature is refused below
    made = [maybe_signature(one, clone=True) for one in wanted]
    for one in made:
        if not isinstance(one, Signature):
            raise TypeError(f"A {whole} is made of signatures, such as task.s(1); it was given {one!r:.80}.")
    return made

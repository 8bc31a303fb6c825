"""Tasks that run at the same time: sent together, and one handle for all of them.

A group is flat: groups in it are taken apart. Sending it decides the ids of all members, collects their
messages and lets them leave in one go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self
from uuid import UUID, uuid5

from djqueue.canvas import sending, stamping
from djqueue.canvas.content import listed
from djqueue.canvas.contract import StampingVisitor
from djqueue.canvas.signature import Signature, maybe_signature, signatures
from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.result.groups import GroupResult

#: Ids derived from other ids are version 5 UUIDs in this namespace.
DERIVED = UUID("5bd0a2c9-6f5a-4a52-9a0c-3f3a3a1d8f41")
#: Options of a group that say where it belongs, and are not to replace those of its members.
_OWN = ("task_id", "group_id", "group_index", "chord")


def derived_id(task_id: str, position: str | int) -> str:
    """Return the id of what follows a task at this position: the same whenever it is asked for."""
    return str(uuid5(DERIVED, f"{task_id}:{position}"))


@Signature.register_type()
class group(Signature):  # noqa: N801  (Celery's name)
    """Signatures that run at the same time, given one by one or as one iterable, which is read at once.

    Options are those of each member.
    """

    def __init__(self, *tasks: Any, **options: Any) -> None:
        wanted: Any = tasks[0] if len(tasks) == 1 else tasks
        made = signatures(wanted.tasks if isinstance(wanted, group) else wanted, "group")
        super().__init__("celery.group", (), {"tasks": made}, options, subtask_type="group")

    # -- sending -------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send the group, as in Celery; arguments given here come before those of each member."""
        return self.apply_async(args, **options)

    def apply_async(
        self,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        add_to_parent: bool = True,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> GroupResult:
        """Send all members with these arguments and options, in one go, and return their handle.

        Raises:
            TypeError: `link` or `link_error` is given: nothing can follow a group but the body of a chord.
        """
        if link is not None or link_error is not None:
            raise TypeError(
                "Nothing can be linked to a group when it is sent: make it a chord (group | task), or link "
                "to its tasks (group.link_error)."
            )
        if settings.TASK_ALWAYS_EAGER:
            return self.apply(args, kwargs, **options)
        with sending.together(options.pop("on_commit", None), options.pop("using", None)) as batch:
            result = self.sent(args, kwargs, **options)
            batch.handles.append(result)
        result = _unwrapped(result)
        if add_to_parent:
            sending.note_child(result)
        return result

    def sent(self, args: Any = None, kwargs: Any = None, **options: Any) -> GroupResult:
        """Send the members as part of what is being sent together."""
        whole, given = self._whole(options)
        task_id, outer = given.pop("task_id"), given.pop("group_id", None)
        given.pop("group_index", None)
        whole.freeze(task_id, group_id=outer or task_id)
        return GroupResult(
            task_id,
            [member.apply_async(args, kwargs, add_to_parent=False, **given) for member in whole.tasks],
        )

    def apply(self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> GroupResult:
        """Run all members here and now, one after the other."""
        whole, given = self._whole(options)
        task_id = given["task_id"]
        for name in _OWN:
            given.pop(name, None)
        return _unwrapped(
            GroupResult(task_id, [member.apply(args, kwargs, **given) for member in whole.members()])
        )

    # -- changing ------------------------------------------------------------------------------------

    def link(self, callback: Any) -> Any:
        """Let `callback`, which gets no result, follow the first member."""
        members = self.tasks
        return members[0].link(callback.clone().set(immutable=True)) if members else callback

    def link_error(self, errback: Any) -> Any:
        """Let `errback` follow each member that fails; return the signatures that were linked."""
        errback = maybe_signature(errback)
        return tuple(member.link_error(errback.clone()) for member in self.tasks)

    def set_immutable(self, immutable: bool) -> None:
        """Let no member take arguments from anybody any more (True), or take them again (False)."""
        for member in self.tasks:
            member.set_immutable(immutable)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Let the members start one after the other: after `start` seconds, and `step` more each time.

        From `stop` on the last one is repeated.
        """
        countdown = start
        for member in self.tasks:
            member.set(countdown=countdown)
            if stop is None or countdown + step < stop:
                countdown += step
        return self

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **stamps: Any
    ) -> Self:
        """Put stamps on all members."""
        given = None if visitor is None else visitor.on_group_start(self, **stamps) or {}
        stamps = stamping.merged(stamps, given, self.options, append_stamps)
        for member in self.tasks:
            member.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_group_end(self, **stamps)
        return self

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> GroupResult:
        """Decide the ids of all members now, if nobody did, and return the handle of the group.

        `group_id` and `chord` are those of the chord in whose header the members count.
        """
        options = self.options
        own_id: str = options.setdefault("task_id", _id or new_id())
        about = {"group_id": group_id, "chord": chord, "group_index": group_index}
        options.update({name: value for name, value in about.items() if value is not None})
        self.kwargs["tasks"] = members = list(self.members())
        return GroupResult(
            own_id,
            [
                member.freeze(
                    derived_id(own_id, f"member:{index}"),
                    group_id=group_id,
                    root_id=root_id,
                    parent_id=parent_id,
                    group_index=index,
                )
                for index, member in enumerate(members)
            ],
        )

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Any]:
        """The members."""
        members: list[Any] = self["kwargs"]["tasks"]
        return members

    @property
    def size(self) -> int:
        """How many ends a chord has to wait for when this is in its header: all of its members'."""
        return sum(member.size for member in self.tasks)

    def members(self) -> Iterator[Any]:
        """Yield the members; in place of groups theirs, and nothing for what has nothing to run."""
        for member in self.tasks:
            if isinstance(member, group):
                inherited = {name: value for name, value in member.options.items() if name not in _OWN}
                for one in member.members():
                    one["options"] = {**inherited, **one.options}
                    yield one
            elif getattr(member, "tasks", True):
                yield member

    def unrolled(self) -> Any:
        """Return the only member of a group of one with the group's options; other groups as they are."""
        members = list(self.members())
        if len(members) != 1 or "task_id" in self.options:
            return self
        (only,) = members
        return only.clone(**{name: value for name, value in self.options.items() if name not in _OWN})

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True  # a signature, whatever it has in it

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.tasks))})" if self.tasks else "group(<empty>)"

    def _copy(self, content: Mapping[str, Any]) -> None:
        super()._copy(content)
        self.kwargs["tasks"] = [
            maybe_signature(member, clone=True) for member in self.kwargs.get("tasks") or ()
        ]

    def _whole(self, options: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return a copy of the group with everything its members have from it, and the options for each."""
        whole = self.clone()
        given = {**self._merged((), None, options)[2]}
        for errback in listed(given.pop("link_error", None)):
            whole.link_error(errback)
        for callback in listed(given.pop("link", None)):
            whole.link(callback)
        whole["args"] = ()
        if self.args:
            whole.kwargs["tasks"] = [member.clone(self.args) for member in whole.tasks]
        whole["options"] = {}
        given["task_id"] = given.get("task_id") or new_id()
        return whole, given


def _unwrapped(result: GroupResult) -> GroupResult:
    """Return the only member's result if that is a group's, too."""
    is_wrapped = len(result) == 1 and isinstance(result[0], GroupResult)
    return result[0] if is_wrapped else result

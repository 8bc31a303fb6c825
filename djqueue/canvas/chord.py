"""A group and what follows when all of it has ended: the body gets the list of the header's results.

Where the result store counts, the chord is opened with its size when it is sent, and the worker that ends the
last part sends the body. With other stores a task asks again and again whether the header has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from djqueue.canvas import sending, stamping
from djqueue.canvas.content import listed
from djqueue.canvas.contract import StampingVisitor
from djqueue.canvas.group import derived_id, group
from djqueue.canvas.signature import Signature, maybe_signature, signatures
from djqueue.conf import settings
from djqueue.core.names import new_id
from djqueue.result import backends
from djqueue.result.chords import ChordOpening
from djqueue.result.groups import GroupResult

#: The task that asks whether a header has ended.
UNLOCK = "celery.chord_unlock"
#: Options that the body does not share with the header: where the whole chord belongs, and what follows it.
_OF_BODY = ("link", "link_error", "chain", "chord", "group_id", "group_index")
#: Options that the header does not share with the body: when it starts, and who sent it.
_OF_HEADER = ("countdown", "eta", "parent_id")


@Signature.register_type()
class chord(Signature):  # noqa: N801  (Celery's name)
    """A header, tasks that run at the same time, and the body that gets their results.

    `header` is a group, or signatures; the body can be given when the chord is called as well.
    """

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        content = {"kwargs": dict(kwargs or {}), "header": _members(header), "body": maybe_signature(body)}
        super().__init__(task, args, content, options, subtask_type="chord")

    # -- sending -------------------------------------------------------------------------------------

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send the chord with this body."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    def apply_async(
        self,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        add_to_parent: bool = True,
        **options: Any,
    ) -> Any:
        """Send the header with these arguments; return the handle of the body, the header is its parent.

        `task_id` is the body's. `link` and `link_error` are for the body, `countdown` and `eta` for the
        header, `interval` (seconds) and `max_retries` for the task that asks for the end where the store
        does not count; other options hold for header and body.

        Raises:
            NotImplementedError: no store is configured, or results cannot be read by whoever needs them.
        """
        kwargs = dict(kwargs or {})
        body = maybe_signature(kwargs.pop("body", None)) or self.body
        if body is None:
            raise TypeError("A chord without a body cannot be sent: chord(header)(body), or use a group.")
        how = {name: options.pop(name, None) for name in ("on_commit", "using", "interval", "max_retries")}
        given = self._merged((), None, options)[2]
        own_id = given.pop("task_id", None) or (self._header_id(task_id) if task_id else new_id())
        body = _with_options(body, given)
        args = () if self.immutable else (*(args or ()), *self.args)
        kwargs = {**self.kwargs.get("kwargs", {}), **kwargs}
        if settings.TASK_ALWAYS_EAGER:
            return _applied(body, self.header_group().apply(args, kwargs, **_for_header(given)), task_id)
        store = backends.backend()
        store.check_chords()
        body_result = body.freeze(
            task_id or derived_id(own_id, "body"), group_id=None if isinstance(body, group) else own_id
        )
        _first(body_result).parent = result = GroupResult(own_id)
        with sending.together(how["on_commit"], how["using"]) as batch:
            header = self.header_group()
            if header.size:
                counted = {"chord_size": header.size} if store.joins_documents else {}  # as Celery counts
                part_of = {**sending.plain(body), **counted}
                sent = header.sent(args, kwargs, task_id=own_id, chord=part_of, **_for_header(given, store))
                result.results = sent.results
                if store.counts_chords:
                    batch.openings.append(_opening(sent, header.size))
                else:
                    _unlock(sent, body, how["interval"], how["max_retries"])
            else:
                body.apply_async(([],), add_to_parent=False)
            batch.handles += (result, body_result)
        if add_to_parent:
            sending.note_child(result)
        return body_result

    def apply(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, *, body: Any = None, **options: Any
    ) -> Any:
        """Run the header and then the body here and now; an exception in the header is raised."""
        task_id = options.pop("task_id", None)
        given = self._merged((), None, options)[2]
        given.pop("task_id", None)
        body = _with_options(maybe_signature(body) or self.body, given)
        args = () if self.immutable else (*(args or ()), *self.args)
        kwargs = {**self.kwargs.get("kwargs", {}), **(kwargs or {})}
        return _applied(body, self.header_group().apply(args, kwargs, **_for_header(given)), task_id)

    # -- changing ------------------------------------------------------------------------------------

    def link(self, callback: Any) -> Any:
        """Let `callback` follow the body."""
        return self.body.link(callback)

    def link_error(self, errback: Any) -> Any:
        """Let `errback` follow when the body fails, or cannot run because a part of the header failed.

        With TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER it follows each part that fails as well.
        """
        errback = maybe_signature(errback)
        for member in self.tasks:
            if settings.TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER:
                member.link_error(errback.clone())
            elif isinstance(member, chord):
                member.link_error(errback)
        self.body.link_error(errback)
        return errback

    def set_immutable(self, immutable: bool) -> None:
        """Let no task of the header take arguments from anybody any more (True), or take them again."""
        for member in self.tasks:
            member.set_immutable(immutable)

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **stamps: Any
    ) -> Self:
        """Put stamps on the header's tasks and on the body."""
        given = None if visitor is None else visitor.on_chord_header_start(self, **stamps) or {}
        stamps = stamping.merged(stamps, given, self.options, append_stamps)
        for member in self.tasks:
            member.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chord_header_end(self, **stamps)
        if self.body is not None:
            given = None if visitor is None else visitor.on_chord_body(self, **stamps) or {}
            stamps = stamping.merged(stamps, given, {}, append_stamps)
            self.body.stamp(visitor, append_stamps, **stamps)
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
        """Decide the ids of header and body now; return the handle of the body, with the header as parent.

        `group_id`, `chord` and `group_index` say where the body counts as a part.
        """
        own_id = self.options.setdefault("task_id", self._header_id(_id) if _id else new_id())
        header = self.header_group()
        header_result = header.freeze(own_id, group_id=own_id, root_id=root_id, parent_id=parent_id)
        self.kwargs["header"] = header.tasks
        if self.body is None:
            return header_result
        body_result = self.body.freeze(
            _id or derived_id(own_id, "body"), group_id, chord, root_id, group_index=group_index
        )
        _first(body_result).parent = header_result
        return body_result

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Any]:
        """The tasks of the header."""
        members: list[Any] = self["kwargs"]["header"]
        return members

    @property
    def body(self) -> Any:
        """What follows the header."""
        return self["kwargs"]["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self["kwargs"]["body"] = body

    @property
    def size(self) -> int:
        """How many ends another chord has to wait for when this is in its header: those of the body."""
        size: int = 1 if self.body is None else self.body.size
        return size

    def header_group(self) -> group:
        """Return the header's tasks as a group, copies."""
        return group(self.tasks)

    def _header_id(self, body_id: str) -> str:
        """Return the header's id when the body is to end under this one; a chord in the body gets another."""
        depth, last = 0, self.body
        while last is not None and last.subtask_type in ("chain", "chord"):
            depth += last.subtask_type == "chord"
            last = last.body if last.subtask_type == "chord" else (last.tasks or [None])[-1]
        return derived_id(body_id, f"header:{depth}")

    def __length_hint__(self) -> int:
        return sum(member.size for member in self.tasks)

    def __repr__(self) -> str:
        if self.body is None:
            return f"<chord without body: {self.tasks!r}>"
        return f"%{self.body.reprcall(self.tasks)}"

    def _copy(self, content: Mapping[str, Any]) -> None:
        super()._copy(content)
        kwargs = self.kwargs
        kwargs["header"] = _members(kwargs.get("header") or ())
        kwargs["body"] = maybe_signature(kwargs.get("body"), clone=True)
        kwargs.setdefault("kwargs", {})


def _members(header: Any) -> list[Any]:
    """Return copies of the signatures that a header is given as."""
    header = maybe_signature(header) if isinstance(header, Mapping) else header
    return (
        list(header.clone().members()) if isinstance(header, group) else signatures(header, "chord's header")
    )


def _with_options(body: Any, given: Mapping[str, Any]) -> Any:
    """Return a copy of the body with what it has from the chord."""
    body = body.clone()
    for callback in listed(given.get("link")):
        body.link(maybe_signature(callback, clone=True))
    for errback in listed(given.get("link_error")):
        body.link_error(maybe_signature(errback, clone=True))
    taken = ("link", "link_error", *_OF_HEADER)
    for name, value in given.items():
        if name not in taken and not (name == "group_id" and name in body.options):
            body.options[name] = value
    return body


def _for_header(given: Mapping[str, Any], store: Any = None) -> dict[str, Any]:
    options = {name: value for name, value in given.items() if name not in _OF_BODY}
    if store is not None and (store.joins_documents or not store.counts_chords):
        options["ignore_result"] = False  # they are read when the header has ended
    return options


def _first(result: Any) -> Any:
    """Return the first of a handle's parents."""
    return result if result.parent is None else _first(result.parent)


def _opening(header: GroupResult, size: int) -> ChordOpening:
    is_flat = not any(isinstance(one, GroupResult) for one in header.results)
    members = None if is_flat else header.as_tuple()
    return ChordOpening(header.id or "", size, members, [leaf.id for leaf in header.leaves()])


def _applied(body: Any, header: GroupResult, task_id: str | None) -> Any:
    values = header.get(disable_sync_subtasks=False)
    result = body.apply((values,), **({"task_id": task_id} if task_id else {}))
    _first(result).parent = header
    return result


def _unlock(header: GroupResult, body: Any, interval: float | None, max_retries: int | None) -> None:
    """Send the task that asks whether the header has ended, to where the body goes."""
    wait = settings.RESULT_CHORD_RETRY_INTERVAL if interval is None else interval
    Signature(
        UNLOCK,
        (header.id, body),
        {
            "result": [one.as_tuple() for one in header.results],
            "interval": interval,
            "max_retries": max_retries,
        },
        immutable=True,
        task_id=derived_id(header.id or "", "unlock"),
        countdown=wait,
        **sending.place_of(body),
    ).apply_async(add_to_parent=False)

"""What a running task can do about the canvas it is a part of: be replaced, or add to its chord.

What it asks for leaves with the outcome of its run, under ids that are the same if the run is repeated.
"""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

from djqueue import states
from djqueue.canvas.chain import chain
from djqueue.canvas.continuation import FollowUp
from djqueue.canvas.group import derived_id, group
from djqueue.canvas.signature import Signature, maybe_signature
from djqueue.core.requests import Request
from djqueue.exceptions import Ignore, ImproperlyConfigured
from djqueue.result import backends
from djqueue.result.chords import ChordOpening
from djqueue.tasks.outcome import Outcome
from djqueue.tasks.running import Running

P = ParamSpec("P")
R = TypeVar("R")

#: The task that hands on the results of a group that replaced a task.
ACCUMULATE = "celery.accumulate"


class Replacing(Running[P, R]):
    """The part of every task that changes the canvas around it."""

    def replace(self, sig: Signature) -> Any:
        """Let this signature take the place of the running task: its id, chain, chord, links and callbacks.

        A group gives the list of its results. Run eagerly, the value is returned; a worker ends the task
        here, so write `return self.replace(…)`.

        Raises:
            djqueue.exceptions.Ignore: always, in a worker; it must not be caught.
            djqueue.exceptions.ImproperlyConfigured: it is in a chord already, or an empty chain.
        """
        request = self.request
        if request.called_directly:
            raise RuntimeError(f"{self.name} was called as a function: there is nothing to replace.")
        sig = maybe_signature(sig, clone=True)
        if "chord" in sig.options:
            raise ImproperlyConfigured("What replaces a task must not be a part of a chord.")
        if isinstance(sig, chain) and not sig.tasks:
            raise ImproperlyConfigured("A task cannot be replaced by an empty chain.")
        if isinstance(sig, group) or (isinstance(sig, chain) and isinstance(sig.tasks[-1], group)):
            sig = sig | Signature(ACCUMULATE, kwargs={"index": 0})
        nesting = request.replaced_task_nesting + 1
        steps = sig.tasks if isinstance(sig, chain) else [sig]
        for step in steps:
            step.options["replaced_task_nesting"] = nesting
        for callback in request.callbacks or ():
            sig.link(maybe_signature(callback, clone=True))
        for errback in request.errbacks or ():
            sig.link_error(maybe_signature(errback, clone=True))
        sig.options.update(_place_of(request))
        return self.on_replace(sig)

    def on_replace(self, sig: Signature) -> Any:
        """Send what replaces this task, or run it eagerly. Overrides end with `super().on_replace(sig)`."""
        request = self.request
        if request.is_eager:
            options = {name: value for name, value in sig.options.items() if name != "chain"}
            sig["options"] = options
            result = sig.apply(task_id=request.id)
            return result.get(disable_sync_subtasks=False)
        _ask(request, FollowUp(sig, (), {"task_id": request.id, "root_id": request.root_id}))
        request.__dict__["replaced"] = True
        raise Ignore("Replaced by new task")

    def add_to_chord(self, sig: Signature, lazy: bool = False) -> Any:
        """Add a task to the chord whose header the running one is in; it is sent when this run ends.

        With `lazy` it is only prepared: the caller sends the signature that is returned.

        Raises:
            ValueError: the task is in no chord.
            NotImplementedError: the result store does not count chords.
        """
        request, store = self.request, backends.backend()
        if not request.chord or not request.group:
            raise ValueError(f"{self.name}[{request.id}] is in no chord, so nothing can be added to it.")
        if store.joins_documents or not store.counts_chords:
            raise NotImplementedError(
                f"{store.as_uri()} does not know the parts of chords: none can be added."
            )
        brought: Outcome = request.__dict__.setdefault("brought_about", Outcome(states.IGNORED))
        position = len(brought.openings)
        sig.set(**_place_of(request, with_chain=False))
        sig.freeze(derived_id(request.id, f"added:{position}"))
        for _ in range(sig.size):
            added = derived_id(request.id, f"added:{len(brought.openings)}")
            brought.openings.append(ChordOpening(request.group, 0, added=added))
        if lazy:
            return sig
        _ask(request, FollowUp(sig, (), {"parent_id": request.id}))
        return self.AsyncResult(sig.id)  # type: ignore[attr-defined]


def _ask(request: Request, follow_up: FollowUp) -> None:
    request.__dict__.setdefault("follow_ups_asked", []).append(follow_up)


def _place_of(request: Request, *, with_chain: bool = True) -> dict[str, Any]:
    """Return the options that put a signature where the running task is."""
    place = {
        "chord": request.chord,
        "group_id": request.group,
        "group_index": request.group_index,
        "root_id": request.root_id,
        "chain": request.chain if with_chain else None,
    }
    names = request.stamped_headers
    if names:
        stamps = request.stamps or {}
        place |= {"stamped_headers": list(names), **{name: stamps.get(name) for name in names}}
    return {name: value for name, value in place.items() if value is not None}

"""What becomes of signatures that follow one another: the rules of `|`.

Chains are taken apart, a group before something becomes a chord, what comes after a chord belongs to its
body. Steps come in, as few steps as possible leave; `chain` makes one signature of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from djqueue.canvas.chord import chord
from djqueue.canvas.group import group


def composed(steps: Iterable[Any]) -> list[Any]:
    """Return the steps, which are no chains, as those that are sent one after the other; copies."""
    done: list[Any] = []
    for step in steps:
        _follow(done, (step.unrolled() if isinstance(step, group) else step).clone())
    return done


def split(steps: Iterable[Any]) -> list[Any]:
    """Return the steps with the bodies of chords that are chains led by a task taken apart.

    Every task of a header carries the body; so it carries the first task of it, and the others once.
    """
    done: list[Any] = []
    for step in steps:
        tasks = step.body.unchain_tasks() if isinstance(step, chord) and _is_chain(step.body) else ()
        if tasks and not isinstance(tasks[0], group | chord):
            first, *rest = tasks
            kept = {name: value for name, value in step.body.options.items() if name in ("priority", "queue")}
            step = step.clone()
            step.body = first.clone(**kept)
            done += [step, *split(rest)]
        else:
            done.append(step)
    return done


def _follow(done: list[Any], step: Any) -> None:
    """Put a step after those that are done."""
    if isinstance(step, group) and not list(step.members()) and done:
        return  # nothing to run
    last = done[-1] if done else None
    if isinstance(last, group):
        done[-1] = chord(last, step)
        if len(done) > 1 and isinstance(done[-2], chord):
            second = done.pop()
            done[-1].body = done[-1].body | second
    elif isinstance(last, chord) and last.body is not None and not isinstance(step, chord):
        last.body = last.body | step
    else:
        done.append(step)


def _is_chain(body: Any) -> bool:
    return body is not None and body.subtask_type == "chain"

"""What is said about an exception that came out of running a task although nothing may come out of it.

Pools hand in whatever was raised; a short text for people leaves, whatever the exception's own text does.
"""

from __future__ import annotations

LONGEST = 500


def describe(error: BaseException) -> str:
    """Return one line about an exception that ended a child, a thread or a run."""
    try:
        text = str(error)
    except BaseException:  # a text that cannot be made must not hide what happened
        text = "(its text cannot be made)"
    name = type(error).__name__
    named = f"{name}: {text}"[:LONGEST] if text else name
    return f"{named} came out of the task"

"""What a forked process does about itself before it takes a job: family, signals, memory, connections.

Nursery and children begin with `die_with_parent`. Each child calls `grow_up` and is then ready to run user
code: it hears no signal that is meant for the parent, and shares no connection with anyone.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from djqueue.messaging import brokers
from djqueue.result import backends
from djqueue.tasks import unit_of_work

_PR_SET_PDEATHSIG = 1
#: when memory runs out, children go before the parent, which would redeliver what they ran
_OOM_SCORE = "500"
#: sent to whole groups and control groups, but meant for the parent
_FOR_THE_PARENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread of process `parent` that forked it ends.

    Only Linux can; elsewhere the end of the line to the parent has to do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it was asked
        os._exit(1)


def grow_up() -> None:
    """Make the forked process a child that can run tasks."""
    _hear_no_group_signals()
    with suppress(PermissionError):
        os.setpgid(0, 0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with suppress(OSError, RuntimeError, ValueError, AttributeError):  # stderr may be anything by now
        faulthandler.enable()
    os.register_at_fork(after_in_child=_hear_signals)
    for forget in (brokers.after_fork, backends.after_fork, unit_of_work.after_fork):
        forget()


def _hear_no_group_signals() -> None:
    # A handler that does nothing, not SIG_IGN: programs that a task starts would inherit being deaf.
    for signum in _FOR_THE_PARENT:
        signal.signal(signum, _ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _hear_signals() -> None:
    """Give a process that a task forked the signals back: whoever forked it may want to stop it."""
    for signum in _FOR_THE_PARENT:
        if signal.getsignal(signum) is _ignore:
            signal.signal(signum, signal.SIG_DFL)


def _ignore(signum: int, frame: object) -> None:
    """Let a signal pass that is meant for the parent."""

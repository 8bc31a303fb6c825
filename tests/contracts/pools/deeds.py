"""What the jobs of these tests do, and the `perform` that does it in whatever child, thread or loop.

A job names its deed in the header `task` and gives the arguments in a JSON body. The answer is the outcome's
summary as JSON, so that a test can see where and with what the deed was done.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from djqueue.core.messages import WireMessage
from djqueue.core.requests import Request, running
from djqueue.exceptions import SoftTimeLimitExceeded
from djqueue.result.documents import Document
from djqueue.tasks.outcome import Outcome
from djqueue.worker.pools.contract import Job

Report = Callable[[Document], None]


def perform(
    message: WireMessage, *, delivery_info: dict[str, Any], starts: int, worker: str, report: Report
) -> Outcome:
    """Do the deed that the message names."""
    arguments = json.loads(message.body)
    began = time.monotonic()
    name = message.headers["task"]
    request = Request(id=message.headers["id"], task=name, called_directly=False)
    with running(request):
        if name == "wait_before":  # what surrounds the task takes long, not the task
            wait_for(*arguments)
        request.in_user_code = True
        if name == "echo":
            answer: Any = [message.headers, delivery_info, starts, worker]
        elif name == "report":
            answer = report_states(message.headers["id"], report, *arguments)
        else:
            answer = DEEDS[name](*arguments)
        request.in_user_code = False
    document = Document(message.headers["id"], "SUCCESS", json.dumps(answer, default=str))
    return Outcome(
        "SUCCESS", document, runtime=time.monotonic() - began, summary=json.dumps(answer, default=str)
    )


def job(number: int, deed: str, *arguments: Any, **options: Any) -> Job:
    """Return a job that does the deed; `headers` are added to the message's, other options are the job's."""
    headers = {"id": f"id-{number}", "task": deed, **options.pop("headers", {})}
    message = WireMessage(headers, {"priority": 0}, json.dumps(arguments).encode())
    return Job(number, f"tag-{number}", deed, message, {"queue": "default"}, **options)


def answer(outcome: Outcome) -> Any:
    """Return what the deed returned."""
    return json.loads(outcome.summary)


def report_states(task_id: str, report: Report, path: str, count: int) -> str:
    """Set `count` states, then wait for the file."""
    for at in range(count):
        report(Document(task_id, "PROGRESS", json.dumps(at)))
    return wait_for(path)


def nothing() -> int:
    return os.getpid()


def knows(module: str) -> bool:
    """Tell whether the module was imported, in whatever process this is."""
    return module in sys.modules


def note(path: str, text: str) -> None:
    """Append a line, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def wait_for(path: str) -> str:
    """Run until somebody makes the file: a long job that ends when the test says so."""
    while not os.path.exists(path):
        time.sleep(0.002)
    return path


def touch(path: str) -> str:
    Path(path).touch()
    return path


def touch_and_wait_for(mark: str, path: str) -> str:
    touch(mark)
    return wait_for(path)


def wait_before(path: str) -> str:
    """Do nothing; `perform` has waited for the file before."""
    return path


def wait_or_be_stopped(path: str) -> str:
    """Run until somebody makes the file, or the soft limit is raised."""
    try:
        return wait_for(path)
    except SoftTimeLimitExceeded:
        return "stopped"


def ignore_the_soft_limit(path: str) -> int:
    """Count how often the soft limit is raised until somebody makes the file."""
    raised = 0
    while not os.path.exists(path):
        try:
            wait_for(path)
        except SoftTimeLimitExceeded:
            raised += 1
    return raised


def raise_(name: str, *arguments: Any) -> None:
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}[
        name
    ](*arguments)


def kill_self(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(60)


def exit_at_once(status: int) -> None:
    os._exit(status)


def segfault() -> None:
    sys.stderr = sys.__stderr__
    ctypes.string_at(0)


def spin_in_c() -> None:
    """Stay in C code, where no Python signal handler runs."""
    sum(itertools.repeat(1))


def hold_memory(mib: int) -> int:
    held = bytearray(mib << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    KEPT.append(held)
    return os.getpid()


def close_descriptors() -> None:
    os.closerange(0, 200)


def write_into_descriptors() -> None:
    """Write into every socket this process has."""
    for number in open_descriptors():
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                os.write(number, b"\xff" * 64)
        except OSError:
            continue


def fork_and_return() -> int:
    """Fork, and let both return from here."""
    pid = os.fork()
    return pid or os.getpid()


def fork_and_linger(path: str) -> int:
    """Leave a process behind that holds all our descriptors, then die."""
    if os.fork() == 0:
        wait_for(path)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def start_program(path: str, mark: str) -> None:
    """Run a program that outlives us unless it is killed, and wait for it."""
    code = f"import os, time; open({mark!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=False)


def about_me() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "random": random.random(),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "wakeup_fd": signal.set_wakeup_fd(-1),
        "sockets": count_sockets(),
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text().strip(),
    }


def count_sockets() -> int:
    return sum(1 for number in open_descriptors() if "socket:" in _link(f"/proc/self/fd/{number}"))


def open_descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


KEPT: list[bytearray] = []
DEEDS: dict[str, Callable[..., Any]] = {
    deed.__name__: deed
    for deed in (
        *(nothing, knows, note, touch, wait_for, touch_and_wait_for, wait_before),
        *(wait_or_be_stopped, ignore_the_soft_limit),
        *(raise_, kill_self, exit_at_once, segfault, spin_in_c, hold_memory, close_descriptors),
        *(write_into_descriptors, fork_and_return, fork_and_linger, start_program, about_me),
    )
}

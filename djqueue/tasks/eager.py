"""Running a task here and now, with the same steps as in a worker.

`Task.apply` and TASK_ALWAYS_EAGER come in with a call; an `EagerResult` leaves. Retries and what follows run
at once as well; nothing is deferred, and no database connection is closed, so that tests keep their
transactions.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from djqueue import states
from djqueue.canvas.continuation import FollowUp
from djqueue.core.calls import Call
from djqueue.core.reprs import safe_repr
from djqueue.core.requests import Request, current_request, running, task_request
from djqueue.exceptions import Retry
from djqueue.result import backends, records
from djqueue.result.eager import EagerResult
from djqueue.tasks.execution import Run
from djqueue.tasks.following import Following
from djqueue.tasks.running import Running


def run(task: Running[Any, Any], call: Call, throw: bool) -> EagerResult[Any]:
    """Run the call, until it is no longer retried, and return the handle of its end; raise with `throw`."""
    request = _request(task, call)
    once = EagerRun(task, request)
    with running(request):
        once.run_task()
        once.announce_end()
    outcome = once.outcome
    if outcome.document is not None and once.is_stored:
        backends.backend().store_many([outcome.document])
    for retry in once.retries:
        again: EagerResult[Any] = retry.sig.apply(throw=throw)
        if retry is once.value:
            return again
    if throw and isinstance(once.value, BaseException) and outcome.state in states.PROPAGATE_STATES:
        raise once.value
    handle: EagerResult[Any] = EagerResult(
        request.id, once.value, outcome.state, outcome.traceback, task.name, children=request.children
    )
    parent = task_request()
    if parent is not None and parent.children is not None:
        parent.children.append(handle)
    return handle


class EagerRun(Run):
    """A run whose follow-ups run at once instead of becoming messages; `retries` are left to the caller."""

    __slots__ = ("is_stored", "retries")

    def __init__(self, task: Running[Any, Any], request: Request) -> None:
        super().__init__(task, request)
        self.is_stored = task.option("store_eager_result")
        self.retries: list[Retry] = []

    def collect(self, following: Iterable[FollowUp], retries: Iterable[Retry] = ()) -> Following:
        """Run what follows now; their failures are their own."""
        self.retries.extend(retries)
        for one in following:
            one.signature.apply(one.args, **one.options, throw=False)
        return Following()

    def set_state(self, state: str, meta: Any) -> None:
        """Store a state that the task sets, if eager results are stored."""
        if self.is_stored:
            encoded = records.encode_state(state, meta)
            backends.backend().store_many([records.record(self.request, state, encoded, started=self.began)])


def _request(task: Running[Any, Any], call: Call) -> Request:
    parent = current_request()
    plan = call.plan
    hard, soft = call.timelimit or (plan.time_limit, plan.soft_time_limit)
    return Request(
        id=call.id,
        task=task.name,
        args=call.args,
        kwargs=call.kwargs,
        retries=call.retries,
        root_id=call.root_id or call.id,
        parent_id=call.parent_id,
        callbacks=call.callbacks,
        errbacks=call.errbacks,
        group=call.group,
        group_index=call.group_index,
        headers=dict(call.headers or {}),
        shadow=call.shadow,
        ignore_result=call.ignore_result,
        stamped_headers=call.stamped_headers,
        stamps=call.stamps,
        time_limit=hard,
        soft_time_limit=soft,
        argsrepr=safe_repr(call.args) if call.argsrepr is None else call.argsrepr,
        kwargsrepr=safe_repr(call.kwargs) if call.kwargsrepr is None else call.kwargsrepr,
        is_eager=True,
        called_directly=False,
        hostname=socket.gethostname(),
        delivery_info={
            "is_eager": True,
            "exchange": call.exchange or plan.exchange,
            "routing_key": call.routing_key or plan.routing_key,
            "priority": plan.priority if call.priority is None else call.priority,
        },
        enclosing=parent,
    )

"""Our events beside those of a stock worker, as stock Celery receives them: the same fields, in both layouts.

kombu publishes events on Redis under one channel for each type, or, without `fanout_patterns`, under one
for all. RabbitMQ knows one layout only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kombu.pools
import pytest
from celery import Celery, uuid

from tests.support.fleet import OURS, THEIRS, Fleet
from tests.support.waiting import wait_until
from tests.wire import stock
from tests.wire.stock import NAMES

pytestmark = pytest.mark.wire

WAIT = 30.0
OVER_RABBIT = True
LAYOUTS: dict[str, dict[str, Any]] = {
    "a channel for each type": {},
    "one channel for all": {"fanout_patterns": False, "fanout_prefix": False},
}
Event = dict[str, Any]


@contextmanager
def captured(app: Celery) -> Iterator[list[Event]]:
    """Collect what stock Celery's receiver hears while the block runs."""
    found: list[Event] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": found.append})
        # Heartbeats of the workers make it look whether to stop.
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None})
        thread.start()
        yield found
        receiver.should_stop = True
        thread.join(WAIT)


@pytest.fixture(params=LAYOUTS)
def app(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Celery]:
    layout = LAYOUTS[request.param]
    if layout and fleet.is_rabbit:
        pytest.skip("RabbitMQ knows one layout only")
    made = stock.client(
        fleet.broker, **fleet.stock_settings, task_send_sent_event=True, broker_transport_options=layout
    )
    yield made
    made.backend.result_consumer.stop()
    made.backend.client.close()
    kombu.pools.reset()
    made.close()


def send_in_vain(app: Celery, queue: str) -> None:
    """Send a task that ends as revoked: one that has expired, or, as RabbitMQ drops those, a revoked one."""
    if app.connection().transport.driver_type == "amqp":
        task_id = uuid()
        app.control.revoke(task_id, reply=True)
        app.send_task(f"{NAMES}add", (1, 2), queue=queue, task_id=task_id)
    else:
        app.send_task(f"{NAMES}add", (1, 2), queue=queue, expires=-1)


KINDS = ("received", "started", "succeeded", "failed", "retried", "revoked")


def test_every_event_has_the_fields_that_celerys_have(fleet: Fleet, app: Celery) -> None:
    options = app.conf.broker_transport_options
    theirs = fleet.celery("-E", broker_transport_options=options)
    with captured(app) as found:

        def of(side: str, kind: str) -> list[Event]:
            return [one for one in found if one["type"] == kind and one["hostname"].startswith(side)]

        def wait_for(side: str, kind: str) -> None:
            wait_until(lambda: of(side, kind), WAIT, f"{kind} of {side}")

        wait_for("stock@", "worker-heartbeat")  # so the receiver listens
        ours = fleet.djqueue("-E", BROKER_TRANSPORT_OPTIONS=options)
        other = fleet.celery("-E", name="stock2", queue="nobody", broker_transport_options=options)
        for side, queue in (("djqueue@", OURS), ("stock@", THEIRS)):
            app.send_task(f"{NAMES}add", (1, 2), queue=queue)
            app.send_task(f"{NAMES}fail", ("ink",), queue=queue)
            app.send_task(f"{NAMES}succeed_on_try", (2,), queue=queue)
            send_in_vain(app, queue)
            for kind in KINDS:
                wait_for(side, f"task-{kind}")
        wait_for("djqueue@", "worker-heartbeat")
        wait_for("stock2@", "worker-online")
        ours.terminate(within=30)
        wait_for("djqueue@", "worker-offline")
    for worker in (theirs, other):
        worker.terminate(within=30)
    for kind in (*(f"task-{one}" for one in KINDS), "worker-heartbeat", "worker-online"):
        fields = [{frozenset(event) for event in of(side, kind)} for side in ("djqueue@", "stock")]
        assert fields[0] <= fields[1], kind  # an extra heartbeat says less
    # Celery's goodbye has the fields of its greeting, and does not always arrive.
    assert set(of("djqueue@", "worker-offline")[0]) == set(of("stock2@", "worker-online")[0])
    retried = [of(side, "task-retried")[0]["exception"] for side in ("djqueue@", "stock@")]
    assert retried[0] == retried[1]
    assert len({one["uuid"] for one in found if one["type"] == "task-sent"}) == 8


def test_remote_control_works_in_both_layouts(fleet: Fleet, app: Celery) -> None:
    worker = fleet.djqueue(name="laid-out", BROKER_TRANSPORT_OPTIONS=app.conf.broker_transport_options)

    def answers() -> list[Any]:
        return [one for reply in app.control.ping(timeout=1) for one in reply if one.startswith("laid-out@")]

    wait_until(answers, WAIT, "an answer")
    worker.terminate()

"""Workers that are steered while they work: queues, the pool's size, new children, revoking by stamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djqueue import app, control, inspect
from djqueue.messaging import brokers
from djqueue.models import Revocation
from tests.project import tasks
from tests.support.processes import Command, Processes
from tests.support.waiting import wait_until

WAIT = 20.0


def start(processes: Processes, *flags: str, path: Path | None = None, **settings: Any) -> Command:
    """Start a worker and wait until it listens; modules in `path` can be imported there."""
    environment = {"PYTHONPATH": str(path)} if path else {}
    words = ("runworker", "-n", "one@test", *(flags if "--autoscale" in flags else ("-c", "2", *flags)))
    worker = processes.start(*words, settings=settings, **environment)
    worker.wait_for_line("djq.worker.ready")
    wait_until(lambda: control.ping(["one@test"], timeout=1), WAIT, "the worker to hear remote control")
    return worker


def ask(command: str, **arguments: Any) -> Any:
    """Return what the worker replies."""
    return inspect("one@test", timeout=5).ask(command, **arguments)


def names(queues: list[dict[str, Any]]) -> list[str]:
    return [queue["name"] for queue in queues]


def size() -> int:
    return int(ask("stats")["pool"]["max-concurrency"])


# Queues


def test_queues_are_taken_on_and_given_up_while_the_worker_runs(processes: Processes) -> None:
    start(processes)
    result = tasks.add.apply_async((1, 2), queue="mails")
    assert ask("add_consumer", queue="mails") == {"ok": "add consumer mails"}
    assert ask("add_consumer", queue="mails") == {"ok": "add consumer mails"}
    assert result.get(timeout=WAIT) == 3
    assert names(ask("active_queues")) == ["default", "mails"]
    assert control.cancel_consumer("default", reply=True, destination="one@test") == [
        {"one@test": {"ok": "no longer consuming from default"}}
    ]
    assert ask("cancel_consumer", queue="never") == {"ok": "no longer consuming from never"}
    assert names(ask("active_queues")) == ["mails"]
    left = tasks.add.delay(1, 2)
    assert tasks.add.apply_async((2, 2), queue="mails").get(timeout=WAIT) == 4
    assert brokers.broker().size("default") == 1
    control.add_consumer("default", destination="one@test")
    assert left.get(timeout=WAIT) == 3


def test_what_runs_when_its_queue_is_given_up_ends_as_ever(processes: Processes, tmp_path: Path) -> None:
    start(processes)
    go = tmp_path / "go"
    results = [tasks.wait_for_file.delay(str(go)) for _ in range(3)]
    wait_until(lambda: len(ask("active")) == 2, WAIT, "two of them to run")
    assert "ok" in ask("cancel_consumer", queue="default")
    go.touch()
    assert results[0].get(timeout=WAIT) == str(go)
    assert results[1].get(timeout=WAIT) == str(go)
    assert ask("active_queues") == []


@pytest.mark.parametrize("server", ["", "redis_server"])
def test_a_queue_taken_on_is_bound_to_the_exchange_that_was_named(
    processes: Processes, request: pytest.FixtureRequest, settings: Any, server: str
) -> None:
    if server:
        url = request.getfixturevalue(server).url
        settings.DJQUEUE = {"BROKER_URL": url, "RESULT_BACKEND": url}
    start(processes, **settings.DJQUEUE)
    (said,) = control.add_consumer(
        "steered", "events", "topic", "order.#", {"durable": False}, destination="one@test", reply=True
    ) or [None]
    assert said == {"one@test": {"ok": "add consumer steered"}}
    queue = ask("active_queues")[1]
    assert (queue["name"], queue["exchange"]["name"], queue["exchange"]["type"]) == (
        "steered",
        "events",
        "topic",
    )
    assert (queue["routing_key"], queue["durable"]) == ("order.#", False)
    sent = tasks.add.apply_async((1, 2), exchange="events", routing_key="order.paid")
    assert sent.get(timeout=WAIT) == 3
    again = ask("add_consumer", queue="steered", exchange="events", exchange_type="direct")
    assert "is declared already, and not with {'exchange_type': 'direct'}" in again["error"]


def test_a_queue_needs_a_name_and_options_that_exist(processes: Processes) -> None:
    start(processes)
    assert "A queue has no option colour" in ask("add_consumer", queue="new", colour="red")["error"]
    assert "no exchanges of type 'round'" in ask("add_consumer", queue="new", exchange_type="round")["error"]
    assert "A queue has a name" in ask("add_consumer", queue="")["error"]
    assert "A queue has a name" in ask("cancel_consumer", queue=5)["error"]
    assert "TypeError" in ask("add_consumer")["error"]
    assert names(ask("active_queues")) == ["default"]


# The pool


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_pool_grows_and_shrinks_and_what_runs_is_not_cut_short(
    processes: Processes, tmp_path: Path, pool: str
) -> None:
    worker = start(processes, "-P", pool)
    go = tmp_path / "go"
    results = [tasks.wait_for_file.delay(str(go)) for _ in range(4)]
    wait_until(lambda: len(ask("active")) == 2, WAIT, "two of them to run")
    assert ask("pool_grow", n=2) == {"ok": "pool will grow"}
    wait_until(lambda: len(ask("active")) == 4, WAIT, "all of them to run")
    assert ask("pool_shrink", n=3) == {"ok": "pool will shrink"}
    assert size() == 1
    assert len(ask("active")) == 4
    go.touch()
    assert [result.get(timeout=WAIT) for result in results] == [str(go)] * 4
    if pool == "prefork":
        wait_until(lambda: len(ask("stats")["pool"]["processes"]) == 1, WAIT, "the others to end")
    assert tasks.add.delay(1, 2).get(timeout=WAIT) == 3
    assert "djq.child.lost" not in worker.log()
    assert worker.terminate() == 0


def test_a_size_that_is_none_is_answered_and_changes_nothing(processes: Processes) -> None:
    start(processes)
    assert "give a number of at least 1" in ask("pool_grow", n=0)["error"]
    assert "give a number of at least 1" in ask("pool_shrink", n="two")["error"]
    assert "cannot shrink by 3" in ask("pool_shrink", n=3)["error"]
    assert "cannot grow by 100000" in ask("pool_grow", n=100_000)["error"]
    assert "Autoscale not enabled" in ask("autoscale", max=3, min=1)["error"]
    assert "Pool restarts not enabled" in ask("pool_restart")["error"]
    assert size() == 2


def test_a_worker_with_autoscale_fits_its_pool_to_the_work(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes, "--autoscale", "4,0", WORKER_AUTOSCALE_KEEPALIVE=1)
    assert "prefork x 0 to 4" in worker.log()
    assert size() == 0
    go = tmp_path / "go"
    results = [tasks.wait_for_file.delay(str(go)) for _ in range(6)]
    wait_until(lambda: len(ask("active")) == 4, WAIT, "as many to run as may")
    grow = {"error": "pool_grow is not supported with autoscale. Adjust autoscale range instead."}
    shrink = {"error": "pool_shrink is not supported with autoscale. Adjust autoscale range instead."}
    assert (ask("pool_grow"), ask("pool_shrink")) == (grow, shrink)
    assert ask("autoscale", max=6, min=1) == {"ok": "autoscale now max=6 min=1"}
    wait_until(lambda: len(ask("active")) == 6, WAIT, "all of them to run")
    told = ask("stats")["autoscaler"]
    assert told == {"max": 6, "min": 1, "current": 6, "qty": 6}
    go.touch()
    assert [result.get(timeout=WAIT) for result in results] == [str(go)] * 6
    wait_until(lambda: size() == 1, WAIT, "the pool to shrink")
    assert "ValueError" in ask("autoscale", max=1, min=2)["error"]
    assert tasks.add.delay(1, 2).get(timeout=WAIT) == 3
    assert "djq.child.lost" not in worker.log()


def test_new_children_run_the_code_as_it_is_now(processes: Processes, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    code = "from djqueue import shared_task\n@shared_task\ndef version():\n    return {}\n"
    module.write_text(code.format(1))
    worker = start(processes, path=tmp_path, IMPORTS=["changing"], WORKER_POOL_RESTARTS=True)
    go = tmp_path / "go"
    busy = tasks.wait_for_file.delay(str(go))
    wait_until(lambda: ask("active"), WAIT, "it to run")

    def version() -> int:  # this process does not know the task
        return int(app.send_task("changing.version").get(timeout=WAIT))

    assert version() == 1
    module.write_text(code.format(2222))  # another size: the clock of files is coarse
    assert ask("pool_restart", modules=["changing"], reload=True) == {"ok": "reload started"}
    wait_until(lambda: version() == 2222, WAIT, "a new child to answer")
    go.touch()
    assert busy.get(timeout=WAIT) == str(go)
    assert "No module named 'no_such'" in ask("pool_restart", modules=["no_such"])["error"]
    assert version() == 2222
    assert "djq.child.lost" not in worker.log()


# Stamps


def stamped(path: Path, seconds: float = 0.0, countdown: float = 0.0, **stamps: Any) -> Any:
    return tasks.record.apply_async(
        (str(path), seconds), countdown=countdown or None, stamped_headers=list(stamps), **stamps
    )


def test_tasks_with_a_revoked_stamp_never_run_whoever_was_up_to_hear_it(
    processes: Processes, tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    before = stamped(path, customer=["A", "B"])
    control.revoke_by_stamped_headers({"customer": ["A"]})
    worker = start(processes)
    wait_until(lambda: before.state == "REVOKED", WAIT, "the task to end as revoked")
    said = ask("revoke_by_stamped_headers", headers={"mail": "x"})
    assert said == {"ok": "headers {'mail': 'x'} flagged as revoked, but not terminated"}
    revoked = [stamped(path, customer="A"), stamped(path, mail=["x", "y"], customer="C")]
    for result in revoked:
        wait_until(lambda result=result: result.state == "REVOKED", WAIT, "the task to end as revoked")
    assert not path.exists()
    assert stamped(path, customer="C").get(timeout=WAIT) == "recorded"
    assert ask("revoked") == []  # those are ids
    assert ask("hello", from_node="other@test")["revoked"] == []
    worker.terminate()
    start(processes)
    again = stamped(path, mail="x")
    wait_until(lambda: again.state == "REVOKED", WAIT, "another worker to keep to it")
    assert Revocation.objects.count() == 2


def test_running_tasks_are_killed_by_their_stamps(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes)
    path = tmp_path / "ledger"
    victim, other = stamped(path, 60, customer=["A", "B"]), stamped(path, 1, customer="C")
    wait_until(lambda: len(ask("active")) == 2, WAIT, "both to run")
    assert ask("revoke_by_stamped_headers", headers={"customer": "Z"}, terminate=True) == {
        "ok": "headers {'customer': 'Z'} were not terminated"
    }
    (said,) = control.revoke_by_stamped_headers(
        ["customer=B"], terminate=True, reply=True, destination="one@test"
    ) or [None]
    assert said == {"one@test": {"ok": "headers {'customer': ['B']} revoked"}}
    wait_until(lambda: victim.state == "REVOKED", WAIT, "the killed task to end as revoked")
    assert other.get(timeout=WAIT) == "recorded"
    worker.wait_for_line(f"{victim.id}\\] revoked: terminated")

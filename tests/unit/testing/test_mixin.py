"""Plain Django tests with the mixin: what was sent, on commit too, and what running it does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

import tests.project.tasks  # noqa: F401  (so that a worker finds nothing to import in the middle of a test)
from djqueue import app, chain, shared_task
from djqueue.conf import settings
from djqueue.exceptions import BackendStoreError
from djqueue.messaging import brokers
from djqueue.result import backends
from djqueue.result.documents import Document
from djqueue.testing import InProcessWorker, TaskTestMixin
from djqueue.testing.sent import URL, memory
from tests.support.in_process import DictStore

User = get_user_model()


class Expected(Exception):
    pass


class Undo(Exception):
    pass


@shared_task(name="testing.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@shared_task(name="testing.enrol", rate_limit="1/h")
def enrol(name: str) -> int:
    return int(User.objects.create_user(name).pk)


@shared_task(name="testing.fail")
def fail(message: str = "as asked") -> None:
    raise Expected(message)


@shared_task(name="testing.invite")
def invite(name: str) -> None:
    with transaction.atomic():
        enrol.delay(name)
        transaction.on_commit(partial(enrol.delay, f"{name}'s friend"))


@shared_task(name="testing.again", bind=True, max_retries=None)
def again(self: Any, countdown: float = 0) -> None:
    raise self.retry(countdown=countdown)


class SharedTests(TaskTestMixin):
    """What holds in a transaction around the test, and without one."""

    def test_what_is_sent_is_known_with_its_arguments_as_given(self) -> None:
        result = add.delay((1, 2), y=timedelta(days=1))
        add.apply_async((3, 4), queue="slow", headers={"of": "the test"})
        call = self.assertTaskSent(add, args=[(1, 2)], kwargs={"y": timedelta(days=1)})
        assert (call.task, call.id, call.queue) == ("testing.add", result.id, "default")
        newest = self.assertTaskSent("testing.add")
        assert (newest.args, newest.queue, newest.headers["of"]) == ((3, 4), "slow", "the test")

    def test_what_is_not_sent_fails_the_test_and_says_what_was_sent(self) -> None:
        with pytest.raises(AssertionError, match="Nothing was sent") as nothing:
            self.assertTaskSent(add)
        assert "captureTasks" in str(nothing.value)
        add.delay(1, y=2)
        with pytest.raises(AssertionError, match=r"args=\(2,\).*\n.*add\(args=\(1,\), kwargs=\{'y': 2"):
            self.assertTaskSent(add, args=(2,))
        assert self.sentTasks.calls(fail) == []

    def test_nothing_runs_until_the_test_says_so(self) -> None:
        result = enrol.delay("ada")
        assert not User.objects.exists()
        assert self.runTasks() == 1
        assert result.get() == User.objects.get().pk
        assert self.runTasks() == 0

    def test_every_queue_is_served_and_no_rate_is_kept(self) -> None:
        for number in range(3):
            enrol.apply_async((f"user {number}",), queue=f"queue {number}")
        assert self.runTasks() == 3

    def test_what_follows_runs_too_and_is_sent_too(self) -> None:
        result = chain(add.s(1, 2), add.s(3)).delay()
        assert self.runTasks() == 2
        assert result.get() == 6
        assert [call.args for call in self.sentTasks.calls(add)] == [(1, 2), (3, 3)]

    def test_what_a_task_sends_when_it_commits_runs_as_well(self) -> None:
        invite.delay("ada")
        assert self.runTasks() == 3
        assert sorted(User.objects.values_list("username", flat=True)) == ["ada", "ada's friend"]

    def test_what_is_rolled_back_is_not_sent(self) -> None:
        with pytest.raises(Undo), transaction.atomic():
            add.delay(1, 2)
            raise Undo
        with transaction.atomic():
            add.delay(3, 4)
            assert self.sentTasks.calls() == []
        assert [call.args for call in self.sentTasks.calls()] == [(3, 4)]
        assert self.runTasks() == 1

    def test_a_block_gives_what_was_sent_in_it_by_callbacks_of_the_commit_too(self) -> None:
        add.delay(0, 0)
        with self.captureTasks() as calls, transaction.atomic():
            transaction.on_commit(partial(add.delay, 1, 2))
            add.delay(3, 4)
        assert sorted(call.args for call in calls) == [(1, 2), (3, 4)]
        with self.captureTasks(run=True) as calls:
            transaction.on_commit(partial(enrol.delay, "ada"))
        assert (len(calls), User.objects.count()) == (1, 1)

    def test_a_failure_reaches_the_test_when_the_others_have_run(self) -> None:
        failed = fail.delay()
        enrol.delay("ada")
        with pytest.raises(Expected, match="as asked") as caught:
            self.runTasks()
        assert caught.value.__notes__ == [f"It ended the task testing.fail[{failed.id}]."]
        assert User.objects.count() == 1
        fail.delay()
        assert self.runTasks(throw=False) == 1
        assert failed.state == "FAILURE"

    def test_a_message_that_nobody_can_run_reaches_the_test(self) -> None:
        app.send_task("testing.no_such_task")
        with pytest.raises(AssertionError, match=r"dead letter \(unknown_task\).*testing\.no_such_task"):
            self.runTasks()
        app.send_task("testing.no_such_task")
        assert self.runTasks(throw=False) == 0

    def test_a_retry_waits_for_its_countdown(self) -> None:
        result = again.delay(countdown=60)
        assert self.runTasks() == 1
        assert result.state == "RETRY"
        assert self.runTasks() == 0

    def test_what_has_an_eta_runs_when_the_clock_was_moved(self) -> None:
        add.apply_async((1, 2), countdown=60)
        assert self.runTasks() == 0
        later = time.time() + 61
        with patch("time.time", lambda: later):
            assert self.runTasks() == 1

    def test_work_without_end_is_noticed(self) -> None:
        again.delay()
        with pytest.raises(RuntimeError, match="20 tasks ran, and more wait"):
            self.runTasks(limit=20)

    @override_settings(DJQUEUE={"TASK_ALWAYS_EAGER": True, "WORKER_MAX_TASKS_PER_CHILD": 1})
    def test_settings_of_the_project_do_not_get_in_the_way(self) -> None:
        add.delay(1, 2)
        self.assertTaskSent(add)
        assert self.runTasks() == 1


class InsideTransactionTests(SharedTests, TestCase):
    def test_a_task_that_breaks_the_tests_transaction_is_named(self) -> None:
        @shared_task(name="testing.twice")
        def twice() -> None:
            with transaction.atomic(savepoint=False):
                User.objects.create(username="ada")
                User.objects.create(username="ada")

        twice.delay()
        with pytest.raises(IntegrityError) as caught:
            self.runTasks()
        assert "testing.twice" in caught.value.__notes__[0]
        connection.set_rollback(False)

    def test_callbacks_that_django_captured_are_not_sent_twice(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            add.delay(1, 2)
            transaction.on_commit(partial(add.delay, 3, 4))
        assert len(self.sentTasks.calls()) == 2
        assert self.runTasks() == 2


class StumblingStore(DictStore):
    """Cannot be written the first two times."""

    stumbles = 2

    def store_many(self, documents: Sequence[Document]) -> None:
        self.stumbles -= 1
        if self.stumbles >= 0:
            raise BackendStoreError("it is locked")
        super().store_many(documents)


class OutsideTransactionsTests(SharedTests, TransactionTestCase):
    def test_a_worker_beside_the_test_runs_what_comes_while_the_block_lasts(self) -> None:
        with InProcessWorker().running():
            assert add.delay(1, 2).get(timeout=10) == 3
            assert add.apply_async((3, 4), queue="slow", countdown=0.1).get(timeout=10) == 7
            last = enrol.delay("ada")
        assert last.get() == User.objects.get().pk
        add.delay(5, 6)
        assert self.runTasks() == 1

    def test_a_store_that_stumbles_is_tried_again_beside_a_test_and_told_on_demand(self) -> None:
        with settings.override(RESULT_BACKEND=f"{__name__}.StumblingStore"):
            with InProcessWorker().running():
                assert add.delay(1, 2).get(timeout=10) == 3
            store = backends.backend()
            assert isinstance(store, StumblingStore)
            store.stumbles = 1
            add.delay(1, 2)
            with pytest.raises(BackendStoreError, match="it is locked"):
                self.runTasks()


class WithoutDatabaseTests(TaskTestMixin, SimpleTestCase):
    def test_what_is_sent_is_known(self) -> None:
        add.delay(1, 2)
        self.assertTaskSent(add, (1, 2), {})

    def test_when_the_test_is_over_everything_is_as_before(self) -> None:
        add.delay(1, 2)
        assert brokers.broker() is memory()
        self.doCleanups()
        assert settings.BROKER_URL != URL
        assert memory().queues() == []


# What the two classes share is no test of its own.
del SharedTests

"""Which queues a worker consumes: those of the command line, or all that are declared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kombu.entity import Exchange, Queue

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging import brokers
from djqueue.worker.options import worker_options

QUEUES = ["default", "mails", Queue("imports", Exchange("i", type="topic"), routing_key="i.#", alias="imp")]


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    settings.update(TASK_QUEUES=QUEUES)
    yield
    settings.reset()


def queues(**given: Any) -> tuple[str, ...]:
    """Return the queues of a worker that was started so."""
    return worker_options({"hostname": "w1@host", **given}).queues


def test_without_names_all_that_are_declared_are_consumed() -> None:
    assert queues() == ("default", "mails", "imports")


def test_names_and_aliases_choose_and_unknown_ones_are_made() -> None:
    assert queues(queues="mails,imp") == ("mails", "imports")
    assert queues(queues="new") == ("new",)
    assert brokers.queues().get("new").exchange.name == "new"


def test_some_are_left_out() -> None:
    assert queues(exclude_queues="mails") == ("default", "imports")
    assert queues(exclude_queues="imp,mails") == ("default",)
    assert queues(queues="mails,imports", exclude_queues="mails") == ("imports",)


def test_leaving_out_what_would_not_be_consumed_is_a_mistake() -> None:
    with pytest.raises(ImproperlyConfigured, match="--exclude-queues names nothing-such"):
        queues(exclude_queues="nothing-such")
    with pytest.raises(ImproperlyConfigured, match="leaves no queue"):
        queues(queues="mails", exclude_queues="mails")


def test_an_unknown_queue_is_a_mistake_when_none_may_be_made() -> None:
    settings.update(TASK_CREATE_MISSING_QUEUES=False)
    assert queues(queues="mails") == ("mails",)
    with pytest.raises(ImproperlyConfigured, match=r"--queues: .* no queue 'mials'.* mean 'mails'"):
        queues(queues="mials")


def test_the_queue_of_its_own_comes_on_top() -> None:
    settings.update(WORKER_DIRECT=True)
    assert queues(queues="mails", hostname="w1@host") == ("mails", "w1@host.dq2")
    assert brokers.queues().get("w1@host.dq2").exchange.name == "C.dq2"

"""Doorbells: who is woken by whom, over long paths, and when nobody is there.

Rings go into a directory; doorbells say what they heard.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from djqueue.messaging.transports.database.doorbell import Doorbell, ring


@pytest.fixture(params=["short", "long" * 50])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.mkdir()
    return path


@pytest.fixture
def bell(directory: Path) -> Iterator[Doorbell]:
    bell = Doorbell(directory, "worker")
    bell.open()
    yield bell
    bell.close()


def is_ringing(bell: Doorbell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_a_ring_is_heard_by_those_it_is_for(directory: Path, bell: Doorbell) -> None:
    assert not is_ringing(bell)
    ring(directory, ["mails", "default"])
    assert is_ringing(bell)
    assert bell.rang_for(["default"])
    assert not is_ringing(bell)
    ring(directory, ["mails"])
    assert not bell.rang_for(["default"])


def test_many_rings_are_taken_at_once(directory: Path, bell: Doorbell) -> None:
    for _ in range(1000):
        ring(directory, ["default"])
    assert bell.rang_for(["default"])
    assert not is_ringing(bell)


def test_a_ring_for_more_queues_than_fit_is_for_everyone(directory: Path, bell: Doorbell) -> None:
    ring(directory, [f"queue-{number:04}" for number in range(1000)])
    assert bell.rang_for(["default"])


def test_ringing_where_nobody_listens_is_fine(tmp_path: Path) -> None:
    ring(tmp_path / "nowhere", ["default"])
    ring(tmp_path, ["default"])
    (tmp_path / "a file.bell").write_text("")
    bell = Doorbell(tmp_path, "dead")
    bell.open()
    bell.forget()  # as if its process had died: the socket's file stays
    ring(tmp_path, ["default"])


def test_a_closed_doorbell_leaves_nothing(directory: Path, bell: Doorbell) -> None:
    assert bell.path.exists()
    bell.close()
    bell.close()
    assert bell.fileno() == -1
    assert not bell.path.exists()
    assert not bell.rang_for(["default"])


def test_a_doorbell_can_be_hung_up_again(directory: Path, bell: Doorbell) -> None:
    bell.open()
    ring(directory, ["default"])
    assert bell.rang_for(["default"])

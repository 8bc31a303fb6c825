"""Signals are Django's, decorate, and tell senders by name apart."""

from __future__ import annotations

import gc
import inspect
from typing import Any

import celery.signals
import pytest
from django.dispatch import Signal

from djqueue import signals
from djqueue.signals import TaskSignal

NAMES = [name for name, value in vars(signals).items() if isinstance(value, Signal)]


@pytest.mark.parametrize("name", NAMES)
def test_each_signal_has_a_name_celery_knows(name: str) -> None:
    assert hasattr(celery.signals, name)


def test_a_receiver_can_be_connected_by_decoration() -> None:
    signal, seen = TaskSignal(), []

    @signal.connect
    def bare(**named: Any) -> None:
        seen.append(("bare", named["sender"]))

    @signal.connect(sender="a")
    def only_a(**named: Any) -> None:
        seen.append(("only a", named["sender"]))

    assert inspect.isfunction(bare)
    signal.send(sender="b")
    signal.send_robust(sender="a")
    assert seen == [("bare", "b"), ("bare", "a"), ("only a", "a")]


def test_senders_given_as_text_are_compared_as_text() -> None:
    signal, seen = TaskSignal(), []

    def receiver(**named: Any) -> None:
        seen.append(named["value"])

    signal.connect(receiver, sender="".join(["shop", ".tasks"]))
    gc.collect()
    assert signal.has_listeners("".join(["sh", "op.tasks"]))
    signal.send(sender="".join(["sho", "p.tasks"]), value=1)
    signal.send(sender="other", value=2)
    assert seen == [1]
    assert signal.disconnect(receiver, sender="".join(["s", "hop.tasks"]))
    assert not signal.has_listeners("shop.tasks")


def test_senders_that_are_objects_work_as_in_django() -> None:
    signal, seen = TaskSignal(), []
    one, other = object(), object()

    def receiver(sender: Any, **named: Any) -> None:
        seen.append(sender)

    signal.connect(receiver, sender=one)
    signal.send(sender=one)
    signal.send(sender=other)
    assert seen == [one]


def test_an_error_in_a_receiver_reaches_the_sender_only_when_it_asks() -> None:
    signal = TaskSignal()

    def failing(**named: Any) -> None:
        raise ZeroDivisionError

    signal.connect(failing)
    with pytest.raises(ZeroDivisionError):
        signal.send(sender=None)
    ((_, error),) = signal.send_robust(sender=None)
    assert isinstance(error, ZeroDivisionError)


def test_without_receivers_nothing_happens() -> None:
    signal = TaskSignal()
    assert signal.send(sender="x") == signal.send_robust(sender=None) == []
    assert not signal.has_listeners("x")

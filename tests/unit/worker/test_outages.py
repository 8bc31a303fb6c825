"""An outage is told once when it begins and once when it ends, with growing pauses between tries."""

from __future__ import annotations

from djqueue.worker.outages import FIRST_PAUSE, LONGEST_PAUSE, Outage


def test_an_outage_is_told_once_and_its_end_with_its_length() -> None:
    told: list[object] = []
    outage = Outage(lambda error: told.append(str(error)), told.append)
    outage.note(ConnectionError("refused"), now=10.0)
    outage.note(ConnectionError("refused"), now=11.0)
    outage.over(now=14.0)
    outage.over(now=15.0)
    assert told == ["refused", 4.0]


def test_no_try_before_the_pause_is_over_and_pauses_stay_bounded() -> None:
    outage = Outage(lambda error: None, lambda waited: None)
    now = 0.0
    for _ in range(20):
        outage.note(ConnectionError(), now)
        left = outage.seconds_left(now)
        assert 0 < left <= LONGEST_PAUSE
        assert not outage.may_try(now)
        now += left
        assert outage.may_try(now)


def test_without_an_outage_trying_is_always_right() -> None:
    outage = Outage(lambda error: None, lambda waited: None)
    assert outage.may_try(0.0)
    assert outage.seconds_left(0.0) == 0.0


def test_pauses_go_on_growing_for_one_that_is_away_again_at_once() -> None:
    outage = Outage(lambda error: None, lambda waited: None)
    pauses = []
    for tenths in range(50):
        outage.note(ConnectionError(), now=tenths / 10)
        pauses.append(outage.seconds_left(tenths / 10))
        outage.over(now=tenths / 10 + 0.05)
    assert pauses[0] <= FIRST_PAUSE
    assert FIRST_PAUSE < max(pauses) <= LONGEST_PAUSE
    outage.note(ConnectionError(), now=60.0)
    assert outage.seconds_left(60.0) <= FIRST_PAUSE

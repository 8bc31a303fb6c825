"""Groups are kept and chords are counted alike in every store that can.

What is told of a chord twice counts once, one process at a time completes it, and it closes once. As workers
do, tests store the result of a part before they count it.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from djqueue import GroupResult, states
from djqueue.conf import settings
from djqueue.result.chords import ChordCount, ChordOpening, ChordPart, arranged
from djqueue.result.contract import ResultBackend
from djqueue.result.documents import encode_exception, encode_value
from tests.contracts.backends.stores import in_thread
from tests.support.waiting import wait_until


def opening(group_id: str, size: int, **more: Any) -> ChordOpening:
    return ChordOpening(group_id, size, ids=[f"{group_id}-{number}" for number in range(size)], **more)


def part(group_id: str, number: int, value: Any = None, state: str = states.SUCCESS) -> ChordPart:
    encoded = encode_exception(value) if isinstance(value, BaseException) else encode_value(value)
    return ChordPart(group_id, f"{group_id}-{number}", number, state, *encoded)


def counted(store: ResultBackend, parts: list[ChordPart]) -> list[ChordCount]:
    """Store what the parts returned, then count them."""
    store.store_many([one.document() for one in parts])
    return store.count_parts(parts)


def values(count: ChordCount) -> list[Any]:
    return arranged(count.parts or (), count.members)


@pytest.fixture
def store(store: ResultBackend) -> ResultBackend:
    if not store.counts_chords:
        pytest.skip("it does not count")
    return store


def test_the_last_part_gets_all_of_them_in_order(store: ResultBackend) -> None:
    store.open_chords([opening("g", 3)])
    assert counted(store, [part("g", 2, "c")]) == []
    assert counted(store, [part("g", 0, "a")]) == []
    (count,) = counted(store, [part("g", 1, {"b": [1, None]})])
    assert (count.group_id, values(count)) == ("g", ["a", {"b": [1, None]}, "c"])


def test_parts_of_several_chords_may_come_together(store: ResultBackend) -> None:
    store.open_chords([opening("g", 2), opening("h", 1), opening("i", 2)])
    counts = counted(store, [part("g", 0), part("h", 0, "h"), part("i", 0), part("g", 1)])
    assert sorted(count.group_id for count in counts) == ["g", "h"]


def test_a_part_counts_once_however_often_it_comes(store: ResultBackend) -> None:
    store.open_chords([opening("g", 2)])
    for value in ("a", "a", "another run gave this"):
        assert counted(store, [part("g", 0, value), part("g", 0, value)]) == []
    (count,) = counted(store, [part("g", 1, "b")])
    assert values(count) == ["a", "b"]


def test_whoever_counted_the_last_part_may_ask_again_until_it_is_closed(store: ResultBackend) -> None:
    store.open_chords([opening("g", 1)])
    first, again = (counted(store, [part("g", 0, "a")]) for _ in range(2))
    assert values(first[0]) == values(again[0]) == ["a"]
    store.close_chords(["g"])
    assert counted(store, [part("g", 0, "a")]) == []
    store.close_chords(["g"])


def test_a_failure_is_a_part_like_any_other(store: ResultBackend) -> None:
    store.open_chords([opening("g", 2)])
    counted(store, [part("g", 0, KeyError("k"), states.FAILURE)])
    (count,) = counted(store, [part("g", 1, "b")])
    assert [one.state for one in count.parts or ()] == [states.FAILURE, states.SUCCESS]
    found = (count.parts or ())[0].value()
    assert (type(found), found.args) == (KeyError, ("k",))


def test_parts_of_chords_that_nobody_opened_are_passed_over(store: ResultBackend) -> None:
    assert counted(store, [part("g", 0)]) == []
    assert counted(store, []) == []


def test_results_come_in_the_shape_that_was_asked_for(store: ResultBackend) -> None:
    members = [
        ["g", None],
        [[["g-0", None], None], [["inner", None], [[["g-1", None], None], [["g-2", None], None]]]],
    ]
    store.open_chords([opening("g", 3, members=members)])
    (count,) = counted(store, [part("g", number, number) for number in (2, 1, 0)])
    assert values(count) == [0, [1, 2]]


def test_a_chord_waits_for_what_is_added(store: ResultBackend) -> None:
    if store.joins_documents:
        with pytest.raises(NotImplementedError):
            store.open_chords([ChordOpening("g", 0, added="x")])
        return
    store.open_chords([opening("g", 1)])
    for _ in range(2):
        store.open_chords([ChordOpening("g", 0, added="x")])
    assert counted(store, [part("g", 0, "a")]) == []
    (count,) = counted(store, [part("g", 7, "added")])
    assert values(count) == ["a", "added"]


def test_opening_again_forgets_no_part(store: ResultBackend) -> None:
    store.open_chords([opening("g", 2)])
    counted(store, [part("g", 0, "a")])
    store.open_chords([opening("g", 2)])
    (count,) = counted(store, [part("g", 1, "b")])
    assert values(count) == ["a", "b"]


def test_one_process_at_a_time_completes_a_chord(shared_store: ResultBackend) -> None:
    if not (shared_store.counts_chords and shared_store.is_shared):
        pytest.skip("it does not count for several")
    other = type(shared_store)(shared_store.url)
    shared_store.open_chords([opening("g", 1)])
    (mine,) = counted(shared_store, [part("g", 0, "a")])
    (theirs,) = counted(other, [part("g", 0, "a")])
    assert mine.parts is not None
    assert theirs.parts is None
    shared_store.close_chords(["g"])
    assert counted(other, [part("g", 0, "a")]) == []
    other.close()


def test_if_the_process_dies_another_one_takes_over(
    shared_store: ResultBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (shared_store.counts_chords and shared_store.is_shared):
        pytest.skip("it does not count for several")
    for module in ("redis_groups", "database_groups", "keyvalue.chords"):
        monkeypatch.setattr(f"djqueue_results.backends.{module}.CLAIMED", 0.5)
    other = type(shared_store)(shared_store.url)
    shared_store.open_chords([opening("g", 1)])
    assert counted(shared_store, [part("g", 0, "a")])[0].parts

    def taken_over() -> Any:
        return counted(other, [part("g", 0, "a")])[0].parts

    assert wait_until(taken_over, 10, "for the claim to run out")
    other.close()


def test_threads_that_count_at_once_complete_it_once(shared_store: ResultBackend) -> None:
    if not (shared_store.counts_chords and shared_store.is_shared):
        pytest.skip("it does not count for several")
    stores = [type(shared_store)(shared_store.url) for _ in range(4)]
    shared_store.open_chords([opening("g", 40)])
    complete: list[int] = []
    errors: list[BaseException] = []

    def count(number: int) -> None:
        try:
            for turn in range(number, 40, 4):
                counts = counted(
                    stores[number], [part("g", turn, turn), part("g", (turn + 1) % 40, turn + 1)]
                )
                complete.extend(len(one.parts) for one in counts if one.parts)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=in_thread, args=[lambda number=number: count(number)]) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(complete) == {40}
    for one in stores:
        one.close()


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_parts_are_kept_with_any_serializer(store: ResultBackend, serializer: str) -> None:
    with settings.override(RESULT_SERIALIZER=serializer, RESULT_ACCEPT_CONTENT=[serializer, "json"]):
        store.open_chords([opening("g", 2)])
        counted(store, [part("g", 0, {"a": (1, 2)})])
        (count,) = counted(store, [part("g", 1, ValueError("x"), states.FAILURE)])
        found = [one.value() for one in count.parts or ()]
    assert found[0]["a"] in ((1, 2), [1, 2])
    assert type(found[1]) is ValueError


# Groups


def test_a_group_is_kept_and_found_again(store: ResultBackend) -> None:
    members = [["g", ["p", None]], [[["a", None], None], [["b", None], None]]]
    assert store.restore_group("g") is None
    store.save_group("g", members)
    store.save_group("g", members)
    assert json.loads(json.dumps(store.restore_group("g"))) == members
    restored = GroupResult.restore("g", store)
    assert restored is not None
    assert ([one.id for one in restored], restored.parent) == (["a", "b"], "p")
    store.delete_group("g")
    store.delete_group("g")
    assert store.restore_group("g") is None
    assert GroupResult.restore("g", store) is None


def test_an_id_that_fits_no_column_is_kept_as_well(store: ResultBackend) -> None:
    long = "x" * 2000
    store.save_group(long, [[long, None], []])
    assert store.restore_group(long) == [[long, None], []]
    store.open_chords([opening(long, 1)])
    (count,) = counted(store, [part(long, 0, "a")])
    assert (count.group_id, values(count)) == (long, ["a"])

"""Results and acknowledgements in one step, where both are in one Redis: all of it, or nothing.

Whatever is lost or refused, no message leaves without its result, and asking again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from djqueue.conf import settings
from djqueue.exceptions import OperationalError
from djqueue.messaging.delivery import Settlement
from djqueue.messaging.transports.redis import scripts
from djqueue.messaging.transports.redis.source import RedisSource
from djqueue_results.backends.redis import _JOINT, RedisBackend
from tests.contracts.redis.conftest import Bench, ids
from tests.support.proxy import Proxy
from tests.support.results import document

JOINT = _JOINT.sha.encode()


class Both:
    """A source and the store beside it."""

    def __init__(self, bench: Bench, url: str) -> None:
        self.source: RedisSource = bench.source(broker=bench.broker(url, lease=15.0))
        self.store = RedisBackend(url)
        settle_with = self.store.settling_with(self.source)
        assert settle_with is not None
        self._settle_with = settle_with

    def end(self, *acks: Settlement, value: object = 1) -> list[str] | None:
        """Store a result for each delivery and acknowledge it; return the ids of those that were lost."""
        documents = [document(ack.delivery.message.headers["id"], value=value) for ack in acks]
        lost = self._settle_with(documents, acks)
        return None if lost is None else ids(lost)


@pytest.fixture
def both(bench: Bench) -> Iterator[Callable[[str], Both]]:
    for script in (scripts.FETCH, scripts.SETTLE, _JOINT):
        bench.client.script_load(script.text)
    made: list[Both] = []

    def make(url: str) -> Both:
        made.append(Both(bench, url))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def held(source: RedisSource) -> list[Settlement]:
    """Receive what waits, and return the acknowledgements."""
    return [one.ack() for one in source.receive(10)]


def test_results_are_stored_and_messages_leave_in_one_call(bench: Bench, both: Callable[[str], Both]) -> None:
    pair = both(bench.url)
    bench.send("a", "b")
    acks = held(pair.source)
    bench.client.config_resetstat()
    assert pair.end(*acks) == []
    assert bench.client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 2  # or the lease is renewed
    assert bench.client.hlen("unacked") == 0
    assert sorted(pair.store.fetch_many(["a", "b"])) == ["a", "b"]


def test_on_a_full_server_nothing_leaves_without_its_result(
    bench: Bench, both: Callable[[str], Both]
) -> None:
    pair = both(bench.url)
    bench.send("a")
    acks = held(pair.source)
    bench.client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(OperationalError, match="memory is full"):
            pair.end(*acks)
        assert bench.client.hlen("unacked") == 1
    finally:
        bench.client.config_set("maxmemory", "0")
    assert pair.end(*acks) == []
    assert bench.client.hlen("unacked") == 0
    assert list(pair.store.fetch_many(["a"])) == ["a"]


def test_a_lost_reply_is_asked_for_again(bench: Bench, proxy: Proxy, both: Callable[[str], Both]) -> None:
    pair = both(proxy.url)
    bench.send("a")
    acks = held(pair.source)
    proxy.lose_reply_to(JOINT)
    with pytest.raises(OperationalError):
        pair.end(*acks)
    assert bench.client.hlen("unacked") == 0
    assert pair.end(*acks, value="again") == []
    assert pair.store.fetch_many(["a"])["a"].value() == 1


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_call_that_never_arrived_is_made_up_for(
    bench: Bench, proxy: Proxy, both: Callable[[str], Both], *, in_one_step: bool
) -> None:
    pair = both(proxy.url)
    bench.send("a")
    acks = held(pair.source)
    proxy.cut(refuse=True)
    with pytest.raises(OperationalError):
        pair.end(*acks)
    assert bench.client.hlen("unacked") == 1
    proxy.heal()
    assert (pair.end(*acks) if in_one_step else ids(pair.source.settle(acks))) == []
    assert bench.client.hlen("unacked") == 0
    assert list(pair.store.fetch_many(["a"])) == ["a"]


def test_what_others_have_taken_over_is_told(bench: Bench, both: Callable[[str], Both]) -> None:
    pair = both(bench.url)
    bench.send("a", "b")
    a, b = held(pair.source)
    bench.client.hdel("unacked", b.delivery.tag)
    assert pair.end(a, b) == ["b"]


def test_what_is_too_large_for_one_step_is_left_to_several(bench: Bench, both: Callable[[str], Both]) -> None:
    pair = both(bench.url)
    bench.send("a", "b")
    acks = held(pair.source)
    assert pair.end(*acks, value="x" * 3_000_000) is None
    assert bench.client.hlen("unacked") == 2


def test_results_may_be_in_another_database_of_the_server(bench: Bench) -> None:
    source = bench.source()
    store = RedisBackend(f"{bench.url.rpartition('/')[0]}/5")
    settle_with = store.settling_with(source)
    assert settle_with is not None
    for turn in ("a", "b"):
        bench.send(turn)
        assert settle_with([document(turn, value=turn)], held(source)) == []
    assert sorted(store.fetch_many(["a", "b"])) == ["a", "b"]
    assert bench.client.hlen("unacked") == 0
    assert not bench.client.exists("celery-task-meta-a")
    store.forget_many(["a", "b"])
    store.close()


def test_two_servers_or_users_cannot_be_one_step(bench: Bench) -> None:
    source = bench.source()
    for url in (bench.url.replace("127.0.0.1", "localhost"), bench.url.replace("//", "//somebody:else@")):
        assert RedisBackend(url).settling_with(source) is None


def test_a_compressed_result_in_the_way_is_looked_at_and_then_nothing_is_late_or_lost(
    bench: Bench, both: Callable[[str], Both]
) -> None:
    pair = both(bench.url)
    bench.send("failed", "done", "new")
    failed, done, new = held(pair.source)
    with settings.override(RESULT_COMPRESSION="zlib"):
        pair.store.store_many([document("failed", "FAILURE"), document("done", value="kept")])
        ends = [document("failed", value="again", starts=1), document("done", value="late"), document("new")]
        settle_with = pair.store.settling_with(pair.source)
        assert settle_with is not None
        assert settle_with(ends, [failed, done, new]) == []
    assert bench.client.hlen("unacked") == 0
    found = pair.store.fetch_many(["failed", "done", "new"])
    assert [found[one].value() for one in ("failed", "done", "new")] == ["again", "kept", None]


def test_a_lost_reply_is_asked_for_again_when_the_result_is_compressed(
    bench: Bench, proxy: Proxy, both: Callable[[str], Both]
) -> None:
    pair = both(proxy.url)
    bench.send("a", "b")
    acks = held(pair.source)
    with settings.override(RESULT_COMPRESSION="zlib"):
        proxy.lose_reply_to(JOINT)
        with pytest.raises(OperationalError):
            pair.end(*acks)
        assert bench.client.hlen("unacked") == 0
        # Meanwhile another attempt has ended, which the call that is made again must not undo.
        pair.store.store_many([document("b", value="newer", retries=1)])
        assert pair.end(*acks, value="again") == []
    found = pair.store.fetch_many(["a", "b"])
    assert [found[one].value() for one in ("a", "b")] == [1, "newer"]

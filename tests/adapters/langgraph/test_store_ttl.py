"""Items of a store whose time is counted, in minutes: defaults, refreshing, sweeping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from langgraph.store.base import GetOp, PutOp, SearchOp

from memos_adapters.langgraph.store import MemosStore
from memos_adapters.langgraph.store_sweeper import Sweeper
from memos_engine import BadInput, Closed, MemOS, StoreBusy
from memos_engine.testing.fakes import FrozenClock

NS = ("sessions",)


@pytest.fixture
def store(memos: MemOS) -> Iterator[MemosStore]:
    """A store whose items live ten minutes unless told otherwise."""
    yield MemosStore(memos, ttl={"default_ttl": 10})
    assert memos.check().ok


def minutes(clock: FrozenClock, count: float) -> None:
    """Let time pass."""
    clock.advance(timedelta(minutes=count))


def test_what_is_over_is_never_returned(store: MemosStore, clock: FrozenClock) -> None:
    """Reads of every kind pass over an item from the moment its time is over, swept or not."""
    store.put(NS, "k", {"text": "quokka"}, ttl=0.5)
    minutes(clock, 0.5)
    assert store.get(NS, "k") is None
    assert store.search(NS) == []
    assert store.search(NS, query="quokka") == []
    assert store.list_namespaces() == []
    assert store.batch([GetOp(NS, "k"), SearchOp(NS)]) == [None, []]


def test_whose_time_it_is(store: MemosStore, clock: FrozenClock) -> None:
    """A put's own ttl goes before the store's; None is for ever; a plain operation has none."""
    store.put(NS, "default", {})
    store.put(NS, "short", {}, ttl=1)
    store.put(NS, "ever", {}, ttl=None)
    store.batch([PutOp(NS, "plain", {})])
    minutes(clock, 1)
    assert store.get(NS, "short", refresh_ttl=False) is None
    assert store.get(NS, "default", refresh_ttl=False) is not None
    minutes(clock, 9)
    assert {item.key for item in store.search(NS, refresh_ttl=False)} == {"ever", "plain"}


READS: dict[str, Callable[[MemosStore, bool | None], object]] = {
    "get": lambda store, refresh: store.get(NS, "k", refresh_ttl=refresh),
    "search": lambda store, refresh: store.search(NS, filter={"n": 1}, refresh_ttl=refresh),
    "query": lambda store, refresh: store.search(NS, query="quokka", refresh_ttl=refresh),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("told", [None, True, False])
@pytest.mark.parametrize("asked", [None, True, False])
def test_reads_refresh(
    memos: MemOS, clock: FrozenClock, read: str, told: bool | None, asked: bool | None
) -> None:
    """A read begins an item's time anew, unless the store or, before it, the call says otherwise."""
    store = MemosStore(memos, ttl={} if told is None else {"refresh_on_read": told})
    store.put(NS, "k", {"text": "quokka", "n": 1}, ttl=10)
    store.put(NS, "other", {"text": "kettle"}, ttl=10)
    minutes(clock, 6)
    assert READS[read](store, asked)
    minutes(clock, 6)
    refreshed = asked if asked is not None else told is not False
    assert (store.get(NS, "k", refresh_ttl=False) is not None) == refreshed


def test_only_what_is_returned_is_refreshed(store: MemosStore, clock: FrozenClock) -> None:
    """A search refreshes the page that it returns, and nothing else."""
    for key in "abc":
        clock.advance(timedelta(seconds=1))
        store.put(NS, key, {})
    minutes(clock, 6)
    assert [item.key for item in store.search(NS, limit=1, offset=1)] == ["b"]
    minutes(clock, 6)
    assert [item.key for item in store.search(NS, refresh_ttl=False)] == ["b"]


async def test_sweep(store: MemosStore, memos: MemOS, clock: FrozenClock) -> None:
    """A sweep erases what is over and tells how much, before the background took it out of search and after."""
    for n in range(3):
        store.put(NS, f"k{n}", {"n": n})
    store.put(NS, "ever", {}, ttl=None)
    assert store.sweep_ttl() == 0
    minutes(clock, 10)
    assert store.sweep_ttl() == 3
    assert await store.asweep_ttl() == 0
    store.put(NS, "k", {})
    minutes(clock, 10)
    memos.drain()
    assert await store.asweep_ttl() == 1
    assert memos.cube("store").stats().items == 1


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e300, "5", object()])
def test_what_is_no_ttl(store: MemosStore, ttl: object) -> None:
    """A ttl is a number of minutes above 0."""
    with pytest.raises(BadInput, match="minutes"):
        store.put(NS, "k", {}, ttl=ttl)  # type: ignore[arg-type] # -- the case
    assert store.search(NS) == []


# The sweeper


def test_the_sweeper_sweeps(store: MemosStore, memos: MemOS, clock: FrozenClock) -> None:
    """A started sweeper erases what is over without being asked, until it is stopped."""
    store.put(NS, "k", {})
    minutes(clock, 10)
    future = store.start_ttl_sweeper(0.01 / 60)
    assert not store.start_ttl_sweeper().done()  # the same goes on
    for _ in range(3_000):
        if memos.cube("store").stats().items == 0:
            break
        threading.Event().wait(0.01)
    assert memos.cube("store").stats().items == 0
    assert store.stop_ttl_sweeper(30)
    assert future.result(timeout=30) is None
    assert store.stop_ttl_sweeper()
    again = store.start_ttl_sweeper(60)
    assert not again.done()
    assert store.stop_ttl_sweeper(30)


def test_the_interval() -> None:
    """A call's interval goes before the configured one; without either it is five minutes."""
    begun: list[float] = []

    class Noting(Sweeper):
        """Starts nothing."""

        def start(self, interval_s: float) -> object:  # type: ignore[override] # -- it is not looked at
            """Note the interval."""
            begun.append(interval_s)
            return None

    with MemosStore.from_conn_string(":memory:", ttl={"sweep_interval_minutes": 2}) as store:
        store._sweeper = Noting(store.sweep_ttl)
        store.start_ttl_sweeper()
        store.start_ttl_sweeper(0.5)
        store.ttl_config = None
        store.start_ttl_sweeper()
    assert begun == [120.0, 30.0, 300.0]


def test_cancelling_stops_the_sweeper() -> None:
    """The future that starting returned stops the thread when it is cancelled."""
    sweeper = Sweeper(lambda: 0)
    future = sweeper.start(60)
    assert future.cancel()
    assert sweeper.stop(30)
    assert future.cancelled()


def test_a_sweep_that_fails() -> None:
    """A failed sweep is tried again in the next round; a closed store ends it."""
    rounds: list[int] = []

    def sweep() -> int:
        """Fail, sweep, then find the store closed."""
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise StoreBusy("locked: try again")
        if len(rounds) == 3:
            raise Closed("closed")
        return 1

    assert Sweeper(sweep).start(0.001).result(timeout=30) is None
    assert rounds == [0, 1, 2]

"""Reading threads in one state, by name, without bytes; and what a change says of its time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from memos_engine.errors import BadName, Closed
from memos_engine.store.database import Database
from memos_engine.store.thread_reading import ThreadsView
from memos_engine.store.thread_values import Blob
from memos_engine.store.threads import MOMENT_US, Threads, open_threads
from memos_engine.testing.fakes import FrozenClock


@pytest.fixture
def clock() -> FrozenClock:
    """Return a clock that the tests move."""
    return FrozenClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Lend a new database of threads."""
    database = open_threads(tmp_path)
    yield database
    database.close()


@pytest.fixture
def threads(database: Database, clock: FrozenClock) -> Threads:
    """Return Alice's threads."""
    return Threads(database, "user:alice", clock)


def blob(version: str, key: str = "k", space: str = "s", data: bytes = b"data") -> Blob:
    """Return a blob, by what differs most often first."""
    return Blob(space, key, version, "kind", data)


def test_one_state_is_read(threads: Threads) -> None:
    """What is written meanwhile, by the same thread too, is seen by the next call alone."""
    threads.append("t", [{"n": 1}])
    threads.put_blobs("t", [blob("1")])

    def work(view: ThreadsView) -> list[object]:
        before = [view.list("t"), view.blobs("t"), view.threads()]
        threads.append("t", [{"n": 2}])
        threads.put_blobs("t", [blob("2")])
        threads.append("u", [{}])
        threads.delete("t")
        return [before, [view.list("t"), view.blobs("t"), view.threads()]]

    before, after = threads.read(work)
    assert before == after
    assert threads.read(lambda view: (view.list("t"), view.blobs("t"))) == ([], [])
    assert [info.name for info in threads.read(lambda view: view.threads())] == ["u"]


def test_a_view_ends_with_its_call(threads: Threads) -> None:
    """One that was kept reads nothing, whether the call returned or failed."""
    kept: list[ThreadsView] = []

    def failing(view: ThreadsView) -> None:
        kept.append(view)
        raise ZeroDivisionError

    threads.read(kept.append)
    with pytest.raises(ZeroDivisionError):
        threads.read(failing)
    assert len(kept) == 2
    for view in kept:
        with pytest.raises(Closed, match="ended"):
            view.blobs("t")
        with pytest.raises(Closed, match="ended"):
            view.list("t")
        with pytest.raises(Closed, match="ended"):
            view.threads()
    assert threads.read(lambda view: view.threads()) == []


def test_errors_of_the_work_are_raised(threads: Threads, database: Database) -> None:
    """Ours and others, and the threads go on as before; a closed database says so."""
    with pytest.raises(BadName):
        threads.read(lambda view: view.blobs(""))
    with pytest.raises(KeyError):
        threads.read(lambda view: {"a": view}["b"])
    threads.put_blobs("t", [blob("1")])
    assert threads.read(lambda view: len(view.blobs("t"))) == 1
    database.close()
    with pytest.raises(Closed):
        threads.read(lambda view: view.threads())


def test_a_view_is_its_principals(threads: Threads, database: Database, clock: FrozenClock) -> None:
    """Eve's view has nothing of Alice's."""
    threads.append("t", [{}])
    threads.put_blobs("t", [blob("1")])
    eve = Threads(database, "user:eve", clock)
    assert eve.read(lambda view: (view.list("t"), view.blobs("t"), view.threads())) == ([], [], [])
    assert eve.blobs("t", named=[("s", "k", "1")]) == []
    assert eve.remove_blobs("t", named=[("s", "k", "1")]) == 0


def test_blobs_are_named(threads: Threads) -> None:
    """By space, key and version at once; what is named twice or not there is passed over."""
    threads.put_blobs("t", [blob(v, k, s) for s in "rs" for k in ("", "a") for v in "12"])
    wanted = [("r", "a", "1"), ("s", "", "2"), ("s", "", "2"), ("s", "none", "2"), ("a", "r", "1")]
    found = threads.blobs("t", named=wanted)
    assert [(each.space, each.key, each.version) for each in found] == [("r", "a", "1"), ("s", "", "2")]
    assert threads.blobs("t", "r", named=wanted, newest=True) == [blob("1", "a", "r")]
    assert threads.blobs("t", named=[]) == []
    assert threads.remove_blobs("t", named=wanted) == 2
    assert threads.remove_blobs("t", named=wanted) == threads.remove_blobs("t", named=[]) == 0
    assert len(threads.blobs("t")) == 6
    for bad in ([("r", "a")], ["ras"], [("r", "a", "")], [("", "a", "1")], [("r", "a", "1", "2")]):
        with pytest.raises(BadName):
            threads.blobs("t", named=cast("Any", bad))


def test_blobs_without_their_bytes(threads: Threads) -> None:
    """Names, kinds and order are the same; `data` is empty."""
    threads.put_blobs("t", [blob("2", data=b"x" * 100_000), blob("1", "a"), blob("1", data=b"")])
    whole, bare = threads.blobs("t"), threads.blobs("t", data=False)
    assert [each.data for each in bare] == [b"", b"", b""]
    assert [(b.space, b.key, b.version, b.kind) for b in bare] == [
        (b.space, b.key, b.version, b.kind) for b in whole
    ]
    assert threads.blobs("t", data=False, newest=True, limit=1)[0].version == "2"


def test_a_change_within_a_moment_is_said_once(threads: Threads, clock: FrozenClock) -> None:
    """`updated_at` is never after the latest change, and less than a moment before it."""
    threads.put_blobs("t", [blob("0")])
    moment = timedelta(microseconds=MOMENT_US)
    for number in range(1, 20):
        clock.advance(moment / 4)
        threads.put_blobs("t", [blob(str(number))])
        told = threads.threads()[0].updated_at
        assert clock() - moment < told <= clock()
    clock.advance(-timedelta(days=1))
    threads.put_blobs("t", [blob("back")])
    assert threads.threads()[0].updated_at == clock()

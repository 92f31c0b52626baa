"""Many threads of two processes on one root: each write is there once, and each error is its own writer's."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from memos_engine import MemCube, Message, MessageConflict, StoreError, VersionConflict
from memos_engine.store.sqlite import CubeFile
from memos_engine.store.writing import CubeWriter
from tests.concurrency.writers import CUBE, ROUNDS, THREADS, Told, create, open_root, write

NAMES = ("a", "b")
ANSWER_S = 120.0


@contextmanager
def started(target: Callable[..., None], *args: tuple[Any, ...]) -> Iterator[list[Connection]]:
    """Processes that run `target` with a pipe and each their arguments, until the block ends."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in args]
    processes = [
        context.Process(target=target, args=(theirs, *each), daemon=True)
        for (_, theirs), each in zip(pipes, args, strict=True)
    ]
    try:
        for process in processes:
            process.start()
        yield [ours for ours, _ in pipes]
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()
            process.join()
        for pipe in pipes:
            for end in pipe:
                end.close()


def answers(connections: list[Connection]) -> list[Any]:
    """One answer of each process."""
    for connection in connections:
        assert wait([connection], ANSWER_S), "no answer in time"
    return [connection.recv() for connection in connections]


def all_at_once(connections: list[Connection]) -> list[Any]:
    """Let processes that are ready go at the same moment, and return what they answer."""
    assert answers(connections) == ["ready"] * len(connections)
    for connection in connections:
        connection.send("go")
    return answers(connections)


def assert_all_there(cube: MemCube, told: list[Told], contended: str) -> None:
    """Assert that the cube holds what every process was told, and nothing twice."""
    report = cube.check()
    assert report.ok, report.problems
    items = cube.list(limit=100_000)
    texts = {item.id: item.text for item in items}
    for one in told:
        assert one.faults == []
        assert one.differing == []
        assert one.added.items() <= texts.items()
        assert not texts.keys() & set(one.forgotten)
        assert one.forgotten
        assert one.conflicts == 2 * THREADS * ROUNDS, "each capture of other content was refused"
    shared = [item.sources[0].message_id or "" for item in items if item.text.startswith("turn ")]
    assert len(shared) == len(set(shared)), "each message id once"
    assert set(shared) == {turn for one in told for turn in one.turns}
    assert all(
        told[0].turns[turn] == told[1].turns[turn] for turn in told[0].turns.keys() & told[1].turns.keys()
    )
    kinds = {item.id for item in items if item.key is None}
    named = {id_ for one in told for id_ in (*one.added, *one.turns.values())}
    assert kinds == named | {contended}, "nothing that nobody wrote"
    for name, one in zip(NAMES, told, strict=True):
        entries = {entry.key: entry.value["n"] for entry in cube.kv.search((name,), limit=1_000)}
        assert entries == one.entries
    updates = sum(one.updates for one in told)
    assert cube.get(contended).text == f"counted to {updates}", "no update was lost"
    assert cube.get(contended).version == len(cube.history(contended)) == updates + 1


@pytest.mark.slow
def test_two_processes_of_eight_threads_write_one_cube(tmp_path: Path) -> None:
    """What each thread was told is there, each message once, no count lost, though all wrote at once."""
    seed = random.randrange(2**32)
    print("seed", seed)
    with open_root(tmp_path, index_above=50) as memos:
        cube = memos.cube(CUBE)
        contended = cube.add("counted to 0").id
        with started(write, *[(tmp_path, name, contended, seed) for name in NAMES]) as connections:
            told = all_at_once(connections)
            assert sum(one.lost_races for one in told) > 0, "they met"
        assert_all_there(cube, told, contended)
        memos.drain()
        assert cube.stats().indexed_to > 0
        assert_all_there(cube, told, contended)
    with open_root(tmp_path) as memos:
        assert_all_there(memos.cube(CUBE), told, contended)


def test_a_fresh_root_is_made_once_by_many_processes(tmp_path: Path) -> None:
    """Processes that open a root which is not there yet, at one moment, share one catalog and one cube."""
    count = 4
    for round_ in range(3):
        root = tmp_path / f"deep-{round_}" / "root"
        with started(create, *[(root, f"p{n}") for n in range(count)]) as connections:
            made = all_at_once(connections)
        assert all(isinstance(one, tuple) for one in made), made
        assert len({cube for _, cube in made}) == 1
        with open_root(root) as memos:
            cube = memos.cube(CUBE)
            assert {item.id for item in cube.list()} == {item for item, _ in made}
            assert cube.check().ok
            assert [len(memos.threads.list(f"p{n}")) for n in range(count)] == [1] * count


def test_a_fresh_root_is_made_once_by_many_threads(tmp_path: Path) -> None:
    """Handles that threads of one process open at one moment share one catalog and one cube."""
    barrier = threading.Barrier(THREADS)

    def opened(n: int) -> str:
        barrier.wait()
        with open_root(tmp_path / "root") as memos:
            memos.cube(CUBE).add(f"from {n}")
            return memos.cube(CUBE).id

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(opened, range(THREADS)))) == 1
    with open_root(tmp_path / "root") as memos:
        assert len(memos.cube(CUBE).list()) == THREADS
        assert memos.check().ok


def test_who_captures_what_another_captures_is_told_the_same(tmp_path: Path) -> None:
    """Eight threads hand over one thread's messages at one moment: each is told the same episodes."""
    said = [Message("user", f"turn {n}", id=f"m{n}") for n in range(20)]
    barrier = threading.Barrier(THREADS)
    with open_root(tmp_path) as memos:
        cube = memos.cube(CUBE)

        def capture(n: int) -> tuple[tuple[str, ...], int]:
            barrier.wait()
            done = cube.capture(said, thread="t", idempotency_key="once" if n % 2 else None)
            return done.episodes, done.new

        with ThreadPoolExecutor(THREADS) as pool:
            told = list(pool.map(capture, range(THREADS)))
        assert len({episodes for episodes, _ in told}) == 1
        assert len(cube.list()) == len(said)
        assert cube.check().ok


def _hold(file: CubeFile, until: threading.Event, holding: threading.Event) -> None:
    """Keep the write lock, so that what comes meanwhile shares the next commit."""

    def work(_writer: CubeWriter) -> None:
        holding.set()
        assert until.wait(30)

    file.write(work, principal="test", action="hold")


@contextmanager
def grouped(file: CubeFile, size: int) -> Iterator[None]:
    """Writes that are begun in the block by other threads, so many of them, become one group."""
    until, holding = threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(file, until, holding))
    holder.start()
    try:
        assert holding.wait(30)
        yield
        for _ in range(500):
            if len(file._database._queue) == size:
                break
            threading.Event().wait(0.02)
        assert len(file._database._queue) == size
    finally:
        until.set()
        holder.join()


def test_in_a_group_an_error_is_its_own_writers(tmp_path: Path) -> None:
    """Of writes that share a commit some fail, halfway too: theirs are undone and raised, the others durable."""
    with open_root(tmp_path) as memos:
        cube = memos.cube(CUBE)
        cube.capture([Message("user", "what was said", id="m")])
        note = cube.add("version 1")
        file = memos._host.shelf(cube.id).file

        def halfway(writer: CubeWriter) -> None:
            writer.set_meta("half", "done")
            raise ZeroDivisionError

        def broken(writer: CubeWriter) -> None:
            writer.set_meta("broken", "done")
            writer.connection.execute("INSERT INTO nowhere VALUES (1)")

        with ThreadPoolExecutor(30) as pool:
            with grouped(file, 24):
                good = [pool.submit(cube.add, f"note {n}") for n in range(20)]
                bad = [
                    pool.submit(file.write, halfway, principal="test", action="test"),
                    pool.submit(file.write, broken, principal="test", action="test"),
                ]
                race = [pool.submit(cube.update, note.id, text=f"by {n}", expect_version=1) for n in range(2)]
            assert {future.result().text for future in good} == {f"note {n}" for n in range(20)}
            assert isinstance(bad[0].exception(), ZeroDivisionError)
            assert isinstance(bad[1].exception(), StoreError)
            outcomes = sorted(type(future.exception()).__name__ for future in race)
            assert outcomes == ["NoneType", VersionConflict.__name__]
        with pytest.raises(MessageConflict):
            cube.capture([Message("user", "something else", id="m")])
        with file.read() as reader:
            assert (reader.meta("half"), reader.meta("broken")) == (None, None)
        assert len(cube.list()) == 22
        assert cube.check().ok
    with open_root(tmp_path) as memos:
        assert len(memos.cube(CUBE).list()) == 22


def test_an_interrupt_is_its_own_threads(tmp_path: Path) -> None:
    """Ctrl-C in the thread that commits for a group ends that thread alone; the others are told to repeat."""
    with open_root(tmp_path) as memos:
        cube = memos.cube(CUBE)
        file = memos._host.shelf(cube.id).file
        owner: list[int] = []

        def interrupted(_writer: CubeWriter) -> None:
            owner.append(threading.get_ident())
            raise KeyboardInterrupt

        with ThreadPoolExecutor(4) as pool:
            idents = {}

            def write_one(n: int) -> None:
                idents[n] = threading.get_ident()
                if n:
                    cube.add(f"note {n}")
                else:
                    file.write(interrupted, principal="test", action="test")

            with grouped(file, 4):
                futures = [pool.submit(write_one, n) for n in range(4)]
            outcomes = {idents[n]: future.exception() for n, future in enumerate(futures)}
        kinds = {ident: type(outcome) for ident, outcome in outcomes.items() if outcome is not None}
        assert kinds.pop(owner[0]) is KeyboardInterrupt
        assert set(kinds.values()) <= {StoreError}
        cube.add("goes on")
        assert cube.check().ok


def test_a_rebuild_keeps_other_handles_in_step(tmp_path: Path) -> None:
    """Words made anew by one handle stay whole while another, opened before, goes on erasing."""
    with open_root(tmp_path) as before:
        other = before.cube(CUBE)
        with open_root(tmp_path) as memos:
            cube = memos.cube(CUBE)
            cube.forget(cube.add("kettles and a window").id)
            other.add(["boats and a kettle", "a garden in the snow"])
            assert cube.rebuild().ok
        with open_root(tmp_path) as memos:
            cube = memos.cube(CUBE)
            other.forget(cube.add("some word and another").id)
            assert cube.check().problems == ()
            assert [hit.item.text for hit in cube.search("garden", limit=1)] == ["a garden in the snow"]


def test_who_does_not_own_the_index_has_nothing_to_wait_for(tmp_path: Path) -> None:
    """While one handle has the index, another's jobs end at once; after it closed, the other takes over."""
    with open_root(tmp_path, index_above=8) as memos:
        cube = memos.cube(CUBE)
        with open_root(tmp_path, index_above=8) as owner:
            items = cube.add([f"kettle {n}" for n in range(20)])
            owner.drain()
            assert owner.cube(CUBE).stats().indexed_to > 0
            cube.add([f"window {n}" for n in range(20)])
            cube.forget(items[0].id)
            memos.drain(timeout_s=20)
            assert cube.stats().indexed_to == 0
            assert {hit.item.text for hit in cube.search("window 7", limit=1)} == {"window 7"}
            owner.drain()
            assert owner.cube(CUBE).check().problems == ()
        memos.drain()
        assert cube.stats().indexed_to > 0
        assert cube.check().problems == ()

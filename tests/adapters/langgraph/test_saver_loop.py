"""From an event loop: nothing blocks it, no loop is held, and many runs go on at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from blockbuster import BlockingError
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from memos_adapters.langgraph.saver import MemosSaver
from memos_engine import MemOS
from tests.adapters.langgraph.saver_cases import checkpoint, config, counting, found, ids, put
from tests.adapters.loop_guard import nothing_blocks


@pytest.fixture
async def saver() -> AsyncIterator[MemosSaver]:
    """Lend a saver that was opened from the test's loop."""
    async with MemosSaver.from_conn_string(":memory:") as saver:
        yield saver


async def test_the_guard_sees_what_blocks(saver: MemosSaver) -> None:
    """The sync calls on a loop's thread are caught, so that the next tests can fail."""
    with nothing_blocks():
        for call in (lambda: saver.get_tuple(config()), lambda: put(saver, config()), lambda: ids(saver)):
            with pytest.raises(BlockingError):
                call()


async def test_no_async_call_blocks_the_loop() -> None:
    """Each of them, from opening the folder to removing it."""
    with nothing_blocks():
        async with MemosSaver.from_conn_string(":memory:") as saver:
            await saver.asetup()
            where: RunnableConfig = config()
            for n in range(3):
                where = await saver.aput(
                    where, checkpoint({"a": n}, {"a": str(n)}), {"step": n}, {"a": str(n)}
                )
                await saver.aput_writes(where, [("a", n)], "task", "path")
            assert (await saver.aget(where)) is not None
            assert (await saver.aget_tuple(config())) is not None
            assert [each.metadata["step"] async for each in saver.alist(config())] == [2, 1, 0]
            history = await saver.aget_delta_channel_history(config=where, channels=["a"])
            assert history["a"]["seed"] == 1
            await saver.acopy_thread("t", "u")
            await saver.aprune(["u"])
            await saver.adelete_for_runs(["r"])
            await saver.adelete_thread("t")


async def test_no_run_blocks_the_loop(saver: MemosSaver) -> None:
    """A graph's own calls of the saver, in each durability."""
    graph = counting(4).compile(checkpointer=saver)
    with nothing_blocks():
        for durability in ("sync", "async", "exit"):
            where = config(durability)
            await graph.ainvoke({"n": 0, "seen": []}, where, durability=durability)
            assert (await graph.aget_state(where)).values["n"] == 4
            assert [state.values.get("n") async for state in graph.aget_state_history(where)].count(4) == 1
            await graph.aupdate_state(where, {"n": 1})


def test_one_saver_serves_many_loops(saver_on_disk: MemosSaver) -> None:
    """One after the other, and from several threads with a loop each."""

    async def run(n: int) -> list[int]:
        graph = counting(3).compile(checkpointer=saver_on_disk)
        runs = [graph.ainvoke({"n": 0, "seen": []}, config(f"{n}-{m}")) for m in range(4)]
        return [len(done["seen"]) for done in await asyncio.gather(*runs)]

    async def both() -> None:
        rows = await asyncio.gather(*(asyncio.to_thread(asyncio.run, run(n)) for n in range(3)))
        assert rows == [[3] * 4] * 3

    assert asyncio.run(run(10)) == asyncio.run(run(11)) == [3] * 4
    asyncio.run(both())


@pytest.fixture
def saver_on_disk(tmp_path: Any) -> Any:
    """Lend a saver that no loop opened."""
    with MemosSaver.from_conn_string(tmp_path) as saver:
        yield saver


async def test_context_variables_reach_the_call(saver: MemosSaver) -> None:
    """What a caller set in its context is seen by a serializer that runs in the thread."""
    seen = ContextVar[str]("seen")
    inner = saver.serde

    class Seeing:
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            assert seen.get() == "yes"
            return inner.dumps_typed(obj)

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            return inner.loads_typed(data)

    saver.serde = Seeing()
    seen.set("yes")
    await saver.aput(config(), checkpoint({"a": 1}, {"a": "1"}), {}, {"a": "1"})


async def test_a_cancelled_call_is_whole_or_not_there(saver: MemosSaver) -> None:
    """The caller goes on at once; the checkpoint is stored with its values, or not at all."""
    for n in range(20):
        made = checkpoint({"a": "x" * 1_000}, {"a": "1"})
        put_soon = asyncio.ensure_future(saver.aput(config(n), made, {}, {"a": "1"}))
        await asyncio.sleep(0)
        put_soon.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put_soon
    for n in range(20):
        stored = await saver.aget_tuple(config(n))
        assert stored is None or stored.checkpoint["channel_values"] == {"a": "x" * 1_000}


def test_every_call_has_an_async_twin() -> None:
    """Same parameters with the same defaults; none is left to LangGraph's base, which has none."""
    names = [
        name for name, _ in inspect.getmembers(BaseCheckpointSaver) if f"a{name}" in dir(BaseCheckpointSaver)
    ]
    assert len(names) == 10
    for name in {*names, "setup"} - {"get"}:
        mine, twin = getattr(MemosSaver, name), getattr(MemosSaver, f"a{name}")
        assert name in vars(MemosSaver)
        assert f"a{name}" in vars(MemosSaver)
        ours, theirs = inspect.signature(mine).parameters, inspect.signature(twin).parameters
        assert list(ours.values()) == list(theirs.values())
        assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin)


async def test_readers_see_one_state(saver: MemosSaver) -> None:
    """While checkpoints are pruned and added, whoever reads one gets it whole or not at all."""
    stop = asyncio.Event()

    def grow() -> None:
        where = config()
        for n in range(12):
            where = put(saver, where, {"a": n, "b": n}, {"a": str(n), "b": str(n)}, step=n)
            saver.put_writes(where, [("a", n)], "task")
            saver.prune(["t"])

    def read() -> int:
        reads = 0
        while not stop.is_set() or not reads:
            for stored in [saver.get_tuple(config()), *saver.list(config(ns=None))]:
                if stored is not None:
                    n = stored.metadata["step"]
                    assert stored.checkpoint["channel_values"] == {"a": n, "b": n}
                    assert stored.pending_writes in ([], [("task", "a", n)])
                    reads += 1
        return reads

    readers = [asyncio.ensure_future(asyncio.to_thread(read)) for _ in range(2)]
    await asyncio.to_thread(grow)
    stop.set()
    assert min(await asyncio.gather(*readers)) > 0
    assert found(saver, config()).metadata["step"] == 11


def test_nothing_of_a_loop_is_made_at_once(tmp_path: Any) -> None:
    """A saver is made, used and closed where no loop runs."""
    with MemOS.open(tmp_path, background=False) as memos:
        saver = MemosSaver(memos)
        put(saver, config())
        assert asyncio.run(saver.aget_tuple(config())) is not None
        assert saver.get_tuple(config()) is not None

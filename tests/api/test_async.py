"""The async classes are the sync ones, awaited: same names, same parameters, same store."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from memos_engine import (
    ActivationMemory,
    AsyncActivationMemory,
    AsyncChatStream,
    AsyncKeyValues,
    AsyncMemCube,
    AsyncMemOS,
    AsyncThreads,
    ChatStream,
    Closed,
    KeyValues,
    MemCube,
    MemOS,
    Message,
    Scope,
    Threads,
)
from memos_engine.testing.fakes import HashEmbedder

TWINS: list[tuple[type, type]] = [
    (MemOS, AsyncMemOS), (MemCube, AsyncMemCube), (KeyValues, AsyncKeyValues), (Threads, AsyncThreads),
    (ActivationMemory, AsyncActivationMemory),
]  # fmt: skip
PLAIN = {"acting_as", "chat_stream"}
"""Methods that touch no disk, and are plain on both sides."""
ATTRIBUTES = {"info"}
"""What each object of the sync side holds, so that its class does not name it."""


def public(kind: type) -> set[str]:
    """Names of the public methods and properties of a class."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def parameters(method: object) -> Sequence[tuple[str, object, object]]:
    """Names, kinds and defaults of a method's parameters, `self` aside."""
    signature = inspect.signature(method)  # type: ignore[arg-type] # -- found by name
    found = [(each.name, each.kind, each.default) for each in signature.parameters.values()]
    return found[1:] if found and found[0][0] == "self" else found


@pytest.mark.parametrize(("sync", "twin"), TWINS, ids=lambda kind: kind.__name__)
def test_names_are_the_same(sync: type, twin: type) -> None:
    """Neither side has a public name that the other lacks."""
    assert public(sync) == public(twin) - ATTRIBUTES


METHODS = [(sync, twin, name) for sync, twin in TWINS for name in sorted(public(sync) & public(twin))]


@pytest.mark.parametrize(
    ("sync", "twin", "name"), METHODS, ids=[f"{sync.__name__}.{name}" for sync, _, name in METHODS]
)
def test_signatures_are_the_same(sync: type, twin: type, name: str) -> None:
    """Each method takes the same parameters with the same defaults, and is awaited."""
    mine, theirs = inspect.getattr_static(sync, name), inspect.getattr_static(twin, name)
    assert isinstance(mine, property) == isinstance(theirs, property)
    if isinstance(mine, property):
        return
    mine, theirs = getattr(sync, name), getattr(twin, name)
    assert parameters(mine) == parameters(theirs)
    assert inspect.iscoroutinefunction(theirs) == (name not in PLAIN)
    assert inspect.getdoc(theirs)


def test_streams_are_the_same() -> None:
    """Both are gone through in a loop of their kind, closed by the name of their kind, and hold the answer."""
    assert public(ChatStream) == {"answer", "close"}
    assert public(AsyncChatStream) == {"answer", "aclose"}
    assert issubclass(ChatStream, Iterator)
    assert issubclass(AsyncChatStream, AsyncIterator)


def test_with_blocks_are_the_same() -> None:
    """Both open in a `with` block of their kind."""
    assert hasattr(MemOS, "__enter__")
    assert inspect.iscoroutinefunction(AsyncMemOS.__aenter__)
    assert inspect.iscoroutinefunction(AsyncMemOS.__aexit__)


async def opened(root: Path) -> AsyncMemOS:
    """An open root without background work."""
    return await AsyncMemOS.open(root, embedder=HashEmbedder(), background=False)


def test_a_run(tmp_path: Path) -> None:
    """Everything a user does works from an event loop."""

    async def run() -> None:
        async with await opened(tmp_path / "root") as memos:
            alice = memos.acting_as(Scope(user="alice"))
            cube = await alice.cube("diary")
            result = await cube.capture([Message("user", "I moved to Lisbon", id="m1")], thread="t")
            assert result.new == 1
            item = await cube.add("Prefers window seats", kind="preference")
            assert [each.text for each in await cube.add(["one", "two"])] == ["one", "two"]
            assert "Lisbon" in (await cube.recall("Lisbon")).text
            assert (await cube.search("window"))[0].item == item
            assert (await cube.update(item.id, text="Prefers aisle seats")).version == 2
            assert len(await cube.history(item.id)) == 2
            assert (await cube.get(item.id)).text == "Prefers aisle seats"
            assert (await cube.forget(item.id)).items == (item.id,)
            await cube.kv.put(("n",), "k", {"a": 1})
            entry = await cube.kv.get(("n",), "k")
            assert entry is not None
            assert await alice.threads.append("t", [{"role": "user"}]) == [1]
            assert len(await alice.threads.list("t")) == 1
            assert (await cube.stats()).by_kind["episode"] == 1
            await memos.drain()
            assert (await cube.check()).ok
            assert [row.name for row in await alice.cubes()] == ["diary"]
            assert (cube.name, cube.id) == ("diary", cube.info.id)
        with pytest.raises(Closed):
            await cube.list()

    asyncio.run(run())


def test_many_at_once(tmp_path: Path) -> None:
    """Writes and reads of many tasks at once are each done once, and each finds what it wrote."""

    async def one(cube: AsyncMemCube, number: int) -> bool:
        await cube.capture([Message("user", f"the word is quokka{number}", id=f"m{number}")], thread="t")
        hits = await cube.search(f"quokka{number}")
        return bool(hits) and hits[0].item.text.endswith(f"quokka{number}")

    async def run() -> None:
        async with await opened(tmp_path / "root") as memos:
            cube = await memos.cube("alice")
            assert all(await asyncio.gather(*(one(cube, number) for number in range(100))))
            assert all(await asyncio.gather(*(one(cube, number) for number in range(100))))
            assert (await cube.stats()).by_kind["episode"] == 100
            assert (await cube.check()).ok

    asyncio.run(run())


def test_a_handle_outlives_its_loop(tmp_path: Path) -> None:
    """A handle made in one event loop works in the next."""
    memos = asyncio.run(opened(tmp_path / "root"))
    cube = asyncio.run(memos.cube("alice"))
    asyncio.run(cube.capture([Message("user", "quokka")]))
    assert asyncio.run(cube.search("quokka"))
    asyncio.run(memos.close())


def test_cancelling_leaves_the_store_whole(tmp_path: Path) -> None:
    """A task that is cancelled while it writes leaves all of its call or nothing, and the next call works."""

    async def run() -> None:
        async with await opened(tmp_path / "root") as memos:
            cube = await memos.cube("alice")
            for number in range(20):
                messages = [Message("user", f"turn {number}-{n}", id=f"{number}-{n}") for n in range(30)]
                task = asyncio.create_task(cube.capture(messages, thread="t"))
                await asyncio.sleep(0.001 * number)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await cube.capture([Message("user", "the last", id="last")], thread="t")
            kept = await cube.list(limit=1000, kinds=["episode"])
            counts: dict[str, int] = {}
            for item in kept:
                call = (item.sources[0].message_id or "").partition("-")[0]
                counts[call] = counts.get(call, 0) + 1
            assert counts.pop("last") == 1
            assert set(counts.values()) <= {30}
            assert (await cube.check()).ok

    asyncio.run(run())

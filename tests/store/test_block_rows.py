"""Rows of blocks: with which items they come and go, how uses are counted, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from memos_engine import BlockInfo, MemCube, MemoryItem, MemOS
from memos_engine.store.block_rows import HALF_LIFE_S
from memos_engine.store.block_writing import LOG_ROWS_MAX
from memos_engine.store.moments import micros
from memos_engine.store.sqlite import CubeFile
from memos_engine.store.writing import CubeWriter
from memos_engine.testing.fakes import FrozenClock

MODEL = "m" * 64
OTHER = "o" * 64


@pytest.fixture
def file(memos: MemOS, cube: MemCube) -> CubeFile:
    """The database of the cube."""
    return memos._host.shelf(cube.id).file


@pytest.fixture
def items(cube: MemCube) -> list[MemoryItem]:
    """Four items."""
    return cube.add([f"{word} is in the harbour" for word in ("a boat", "a net", "a crane", "a gull")])


def enter(
    file: CubeFile,
    clock: FrozenClock,
    id_: str,
    items: Sequence[MemoryItem],
    *,
    model: str = MODEL,
    hits: float = 0.0,
) -> None:
    """Enter a block that has no file."""
    info = BlockInfo(
        id=id_, items=tuple(item.id for item in items), model=model, tokens=10, bytes=1_000, seconds=0.5,
        pinned=False, hits=hits, made_at=clock(), used_at=None,
    )  # fmt: skip

    def work(writer: CubeWriter) -> None:
        refs = [n for n, _ in (writer.items_by_id(info.items)[each] for each in info.items)]
        writer.add_block(info, refs, digest="d", seal="s", op="promote", reason="a test")

    file.touch(work)


def names(file: CubeFile) -> list[str]:
    """Ids of all blocks."""
    with file.read() as reader:
        return [block.info.id for block in reader.blocks(0)]


def test_a_block_is_found_by_its_items(file: CubeFile, clock: FrozenClock, items: list[MemoryItem]) -> None:
    """A block is found by any of its items and its model, once, with its items in their order."""
    enter(file, clock, "one", [items[2], items[0]])
    enter(file, clock, "two", [items[1]])
    enter(file, clock, "three", [items[0]], model=OTHER)
    with file.read() as reader:
        ids = [item.id for item in items]
        found = reader.blocks_covering(MODEL, ids, 0)
        assert [block.info.id for block in found] == ["one", "two"]
        assert found[0].info.items == (items[2].id, items[0].id)
        assert [block.info.id for block in reader.blocks_covering(OTHER, ids, 0)] == ["three"]
        assert reader.blocks_covering(MODEL, [items[3].id, "no such"], 0) == []
        assert set(reader.blocks_by_id(["two", "nine"], 0)) == {"two"}
        assert reader.block_sums() == (3, 30, 3_000)
        assert reader.doubled_items() == []
    enter(file, clock, "four", [items[1]])
    with file.read() as reader:
        assert reader.doubled_items() == [items[1].id]


@pytest.mark.parametrize(
    "change",
    [
        lambda cube, id_: cube.update(id_, text="it says something else"),
        lambda cube, id_: cube.update(id_, visibility="private"),
        lambda cube, id_: cube.update(id_, state="archived"),
        lambda cube, id_: cube.update(id_, event_at=cube.get(id_).created_at - timedelta(days=9)),
        lambda cube, id_: cube.forget(id_),
    ],
    ids=["text", "visibility", "state", "event_at", "forget"],
)
def test_a_block_goes_with_any_of_its_items(
    file: CubeFile,
    clock: FrozenClock,
    cube: MemCube,
    items: list[MemoryItem],
    change: Callable[[MemCube, str], object],
) -> None:
    """A block goes when one of its items is told otherwise, kept from some, or erased; others stay."""
    enter(file, clock, "gone", items[:2])
    enter(file, clock, "too", [items[1]], model=OTHER)
    enter(file, clock, "stays", [items[2]])
    change(cube, items[1].id)
    assert names(file) == ["stays"]
    with file.read() as reader:
        assert reader.rows("SELECT count(*) FROM block_items") == [(1,)]
        events = reader.block_events(2)
        assert {event.block for event in events} == {"gone", "too"}
        assert {event.op for event in events} <= {"stale", "forget"}
        assert not any("harbour" in event.reason for event in events)
        assert reader.gone_blocks() == []  # there never was a file


@pytest.mark.parametrize("change", [{"priority": 1.0}, {"tags": ["t"]}, {"confidence": 0.5}])
def test_a_block_stays_when_its_passage_does(
    file: CubeFile, clock: FrozenClock, cube: MemCube, items: list[MemoryItem], change: dict[str, object]
) -> None:
    """A change of an item that no passage tells leaves its blocks."""
    enter(file, clock, "stays", items[:2])
    cube.update(items[0].id, **change)  # type: ignore[arg-type] # -- fields by name
    assert names(file) == ["stays"]


def test_an_expired_item_takes_its_block_along(
    file: CubeFile, clock: FrozenClock, memos: MemOS, cube: MemCube
) -> None:
    """The job that expires an item drops its block."""
    item = cube.add("it is raining now", ttl=timedelta(hours=1))
    enter(file, clock, "gone", [item])
    clock.advance(timedelta(hours=2))
    memos.drain()
    assert names(file) == []


def test_an_undone_write_leaves_the_block(
    file: CubeFile, clock: FrozenClock, items: list[MemoryItem]
) -> None:
    """A transaction that fails after it took a block away leaves it, and tells nobody that it was gone."""
    enter(file, clock, "stays", items[:1])
    told: list[Sequence[str]] = []
    file.on_gone = lambda blocks, _erased: told.append(blocks)

    def work(writer: CubeWriter) -> None:
        writer.drop_blocks(["stays"], op="drop", reason="a test")
        raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        file.touch(work)
    assert names(file) == ["stays"]
    assert told == []


def test_the_hook_is_told_after_the_commit(
    file: CubeFile, clock: FrozenClock, cube: MemCube, items: list[MemoryItem]
) -> None:
    """Whoever holds copies is told what went, and whether items were erased, once that is durable."""
    enter(file, clock, "a", items[:1])
    enter(file, clock, "b", items[1:2])
    told: list[tuple[list[str], bool, list[str]]] = []
    file.on_gone = lambda blocks, erased: told.append((list(blocks), erased, names(file)))
    cube.update(items[0].id, text="another")
    cube.forget(items[1].id)
    cube.forget(items[2].id)
    cube.update(items[3].id, text="another")
    assert told == [(["a"], False, ["b"]), (["b"], True, []), ([], True, [])]


def test_uses_count_half_after_a_week(file: CubeFile, clock: FrozenClock, items: list[MemoryItem]) -> None:
    """Hits of blocks and uses of items add up, and each counts half after a week."""
    enter(file, clock, "b", items[:1], hits=4.0)
    week = timedelta(seconds=HALF_LIFE_S)

    def hits() -> float:
        with file.read() as reader:
            return reader.blocks_by_id(["b"], micros(clock()))["b"].info.hits

    assert hits() == pytest.approx(4.0)
    clock.advance(week)
    assert hits() == pytest.approx(2.0)
    file.touch(lambda writer: writer.use_blocks(["b", "no such"]))
    file.touch(lambda writer: writer.use_items([items[0].id, "no such"]))
    assert hits() == pytest.approx(3.0)
    clock.advance(week)
    file.touch(lambda writer: writer.use_items([items[0].id, items[1].id]))
    with file.read() as reader:
        uses = reader.uses([item.id for item in items], micros(clock()))
    assert uses == pytest.approx({items[0].id: 1.5, items[1].id: 1.0})


def test_hot_items_are_those_no_block_holds(
    file: CubeFile, clock: FrozenClock, cube: MemCube, items: list[MemoryItem]
) -> None:
    """The hottest come first; without those that a block holds, that some may not see, or that are gone."""
    ids = [item.id for item in items]
    for count, item in enumerate(ids, start=1):
        for _ in range(count):
            file.touch(lambda writer, item=item: writer.use_items([item]))  # type: ignore[misc] # -- a lambda with a default
    enter(file, clock, "b", [items[3]])
    with file.read() as reader:
        now = micros(clock())
        assert [item for item, _ in reader.hot_items(MODEL, now, 9)] == [ids[2], ids[1], ids[0]]
        assert [item for item, _ in reader.hot_items(OTHER, now, 2)] == [ids[3], ids[2]]
    cube.update(ids[2], visibility="private")
    cube.forget(ids[1])
    with file.read() as reader:
        assert reader.hot_items(MODEL, micros(clock()), 9) == [(ids[0], 1.0)]
        assert reader.rows("SELECT count(*) FROM item_uses") == [(3,)]


def test_the_log_keeps_the_newest_rows(file: CubeFile) -> None:
    """The log does not grow for ever."""

    def work(writer: CubeWriter) -> None:
        for n in range(LOG_ROWS_MAX + 5):
            writer._log_block("drop", "a test", f"b{n}", MODEL, 1, 1)

    file.touch(work)
    with file.read() as reader:
        assert len(reader.block_events(LOG_ROWS_MAX * 2)) == LOG_ROWS_MAX
        assert reader.block_events(1)[0].block == f"b{LOG_ROWS_MAX + 4}"

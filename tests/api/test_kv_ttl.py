"""Key-value entries whose time is counted: refreshed by reads, swept when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from memos_engine import AccessDenied, KvEntry, KvPut, MemCube, MemOS, Scope
from memos_engine.kv import writes
from memos_engine.testing.fakes import FrozenClock

PLACE = ("users",)
TEN = timedelta(minutes=10)


def ends(cube: MemCube, key: str = "k") -> datetime | None:
    """When an entry ends."""
    (item,) = [item for item in cube.list(limit=1_000) if item.key == key]
    return item.expires_at


def test_a_read_puts_off_the_end(cube: MemCube, clock: FrozenClock) -> None:
    """Reads that ask for it begin an entry's ttl anew; others, and entries without one, are left alone."""
    cube.kv.put(PLACE, "k", {"word": "quokka"}, ttl=TEN)
    cube.kv.put(PLACE, "ever", {"word": "narwhal"})
    reads: list[Callable[[], KvEntry | None]] = [
        lambda: cube.kv.get(PLACE, "k", refresh_ttl=True),
        lambda: cube.kv.get_many([(PLACE, "k"), (PLACE, "ever"), (PLACE, "no")], refresh_ttl=True)[0],
        lambda: cube.kv.search(PLACE, filter={"word": "quokka"}, refresh_ttl=True)[0],
        lambda: cube.kv.search(PLACE, query="quokka", refresh_ttl=True)[0],
    ]
    for refresh in reads:
        clock.advance(timedelta(minutes=6))
        for read in (cube.kv.get(PLACE, "k"), cube.kv.search(PLACE)[-1]):
            assert read is not None
        assert ends(cube) != clock() + TEN
        entry = refresh()
        assert entry is not None
        assert entry.key == "k"
        assert ends(cube) == clock() + TEN
    assert ends(cube, "ever") is None
    clock.advance(TEN)
    assert cube.kv.get(PLACE, "k", refresh_ttl=True) is None
    assert [entry.key for entry in cube.kv.search(PLACE, refresh_ttl=True)] == ["ever"]


def test_a_refresh_leaves_no_trace(cube: MemCube, clock: FrozenClock) -> None:
    """Nothing but the end changes: no version, no change of the log, no audit row, no vector."""
    cube.kv.put(PLACE, "k", {"word": "quokka"}, ttl=TEN)
    item = cube.list()[0]
    before = cube.stats()
    clock.advance(timedelta(minutes=1))
    assert cube.kv.get(PLACE, "k", refresh_ttl=True) is not None
    after = cube.get(item.id)
    assert (after.version, after.updated_at) == (item.version, item.updated_at)
    assert len(cube.history(item.id)) == 1
    assert (cube.stats().revision, cube.stats().vectors) == (before.revision, before.vectors)
    with cube._shelf.file.read() as reader:
        assert reader.count("audit") == 1
    assert cube.check().ok


def test_a_busy_entry_is_not_written_at_every_read(cube: MemCube, clock: FrozenClock) -> None:
    """A refresh that would gain less than a second, or a hundredth of a short ttl, is not worth a write."""
    cube.kv.put(PLACE, "k", {}, ttl=TEN)
    cube.kv.put(PLACE, "short", {}, ttl=timedelta(seconds=10))
    first, short = ends(cube), ends(cube, "short")
    clock.advance(timedelta(milliseconds=90))
    cube.kv.get_many([(PLACE, "k"), (PLACE, "short")], refresh_ttl=True)
    assert (ends(cube), ends(cube, "short")) == (first, short)
    clock.advance(timedelta(milliseconds=910))
    cube.kv.get_many([(PLACE, "k"), (PLACE, "short")], refresh_ttl=True)
    assert ends(cube) == clock() + TEN
    assert ends(cube, "short") == clock() + timedelta(seconds=10)


def test_a_refresh_never_shortens(cube: MemCube, clock: FrozenClock) -> None:
    """An end that was set by hand is kept when it lies further out, and so is none at all."""
    cube.kv.put(PLACE, "k", {}, ttl=TEN)
    item = cube.list()[0]
    later = cube.update(item.id, ttl=timedelta(days=1)).expires_at
    clock.advance(timedelta(minutes=5))
    cube.kv.get(PLACE, "k", refresh_ttl=True)
    assert ends(cube) == later
    cube.update(item.id, ttl=None)
    cube.kv.get(PLACE, "k", refresh_ttl=True)
    assert ends(cube) is None


def test_a_ttl_without_end(cube: MemCube, clock: FrozenClock) -> None:
    """A refresh of an entry that lives till the end of the calendar stays within it."""
    cube.kv.put(PLACE, "k", {}, ttl=datetime(9999, 12, 31, tzinfo=clock().tzinfo) - clock())
    clock.advance(timedelta(days=300))
    assert cube.kv.get(PLACE, "k", refresh_ttl=True) is not None
    last = ends(cube)
    assert last is not None
    assert last.year == 9999


def test_a_put_decides_anew(cube: MemCube, clock: FrozenClock) -> None:
    """The latest put says how long an entry stays, and one without a ttl lets it stay."""
    cube.kv.put(PLACE, "k", {"n": 1}, ttl=TEN)
    cube.kv.put(PLACE, "k", {"n": 2}, ttl=2 * TEN)
    clock.advance(TEN)
    assert cube.kv.get(PLACE, "k", refresh_ttl=True) is not None
    assert ends(cube) == clock() + 2 * TEN
    cube.kv.put(PLACE, "k", {"n": 3})
    assert ends(cube) is None


def test_what_was_over_begins_anew(cube: MemCube, memos: MemOS, clock: FrozenClock) -> None:
    """An entry put after its time was over is a new one, before the job and after it; one put in time is not."""
    for drained in (False, True):
        key = f"k{drained}"
        made = clock()
        cube.kv.put(PLACE, key, {"n": 1}, ttl=TEN)
        clock.advance(timedelta(minutes=1))
        cube.kv.put(PLACE, key, {"n": 2}, ttl=TEN)
        entry = cube.kv.get(PLACE, key)
        assert entry is not None
        assert entry.created_at == made
        clock.advance(TEN)
        if drained:
            memos.drain()
        cube.kv.put(PLACE, key, {"n": 3})
        entry = cube.kv.get(PLACE, key)
        assert entry is not None
        assert entry.created_at == clock()


def test_sweep_erases(
    cube: MemCube, memos: MemOS, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep erases what is over, with its versions, in batches, and tells how much; the rest stays."""
    monkeypatch.setattr(writes, "SWEEP_BATCH", 2)
    cube.add("an item that ends too", ttl=TEN)
    cube.kv.batch([KvPut(PLACE, f"k{n}", {"word": "quokka"}, ttl=TEN) for n in range(5)])
    cube.kv.put(PLACE, "k0", {"word": "numbat"}, ttl=TEN)
    cube.kv.put(PLACE, "later", {"word": "quokka"}, ttl=2 * TEN)
    cube.kv.put(PLACE, "ever", {"word": "quokka"})
    assert cube.kv.sweep() == 0
    clock.advance(TEN)
    memos.drain()  # the job only takes it out of search
    cube.kv.put(PLACE, "k9", {"word": "quokka"}, ttl=timedelta(minutes=1))
    clock.advance(timedelta(minutes=1))
    assert cube.kv.sweep() == 6
    assert cube.kv.sweep() == 0
    assert sorted(entry.key for entry in cube.kv.search()) == ["ever", "later"]
    assert cube.stats().by_kind == {"note": 3}
    database = cube._shelf.file.folder / "memory.db"
    assert b"numbat" not in database.read_bytes()
    assert cube.check().ok


def test_a_frozen_entry_stays(cube: MemCube, clock: FrozenClock) -> None:
    """Frozen entries neither end nor are swept, and a refresh leaves them as they are."""
    cube.kv.put(PLACE, "k", {}, ttl=TEN)
    item = cube.update(cube.list()[0].id, state="frozen")
    clock.advance(2 * TEN)
    assert cube.kv.sweep() == 0
    assert cube.kv.get(PLACE, "k", refresh_ttl=True) is not None
    assert cube.get(item.id) == item


def test_who_may_only_read(memos: MemOS, clock: FrozenClock) -> None:
    """A reader's reads do not decide how long an entry stays, and a reader sweeps nothing."""
    alice = memos.acting_as(Scope(user="alice")).cube("shared")
    alice.grant(Scope(user="bob"), "read")
    bob = memos.acting_as(Scope(user="bob")).cube("shared", owner=Scope(user="alice"))
    alice.kv.put(PLACE, "k", {}, ttl=TEN)
    end = ends(alice)
    clock.advance(timedelta(minutes=5))
    assert bob.kv.get(PLACE, "k", refresh_ttl=True) is not None
    assert bob.kv.search(PLACE, refresh_ttl=True)
    assert ends(alice) == end
    with pytest.raises(AccessDenied):
        bob.kv.sweep()


def test_a_private_entry_is_not_swept_by_another(memos: MemOS, clock: FrozenClock) -> None:
    """What another keeps private in a shared cube is no more erased by a sweep than by a delete."""
    alice = memos.acting_as(Scope(user="alice")).cube("shared")
    alice.grant(Scope(user="bob"), "write")
    bob = memos.acting_as(Scope(user="bob")).cube("shared", owner=Scope(user="alice"))
    alice.kv.put(PLACE, "k", {}, ttl=TEN)
    alice.update(alice.list()[0].id, visibility="private")
    clock.advance(TEN)
    assert bob.kv.sweep() == 0
    assert alice.kv.sweep() == 1


def test_a_dump_keeps_the_ttl(cube: MemCube, memos: MemOS, clock: FrozenClock, tmp_path: Path) -> None:
    """A loaded copy is refreshed as the original is; the ttl is part of an item and of its versions."""
    cube.kv.put(PLACE, "k", {"n": 1}, ttl=TEN)
    cube.kv.put(PLACE, "k", {"n": 2}, ttl=2 * TEN)
    assert [version.item.ttl for version in cube.history(cube.list()[0].id)] == [TEN, 2 * TEN]
    copy = memos.load(cube.dump(tmp_path / "dump"), name="copy")
    assert [version.item.ttl for version in copy.history(copy.list()[0].id)] == [TEN, 2 * TEN]
    clock.advance(TEN)
    assert copy.kv.get(PLACE, "k", refresh_ttl=True) is not None
    assert ends(copy) == clock() + 2 * TEN

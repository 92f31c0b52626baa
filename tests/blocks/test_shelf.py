"""Blocks of a cube: built once, fetched while they are right, and a clean miss in every other case."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from memos_engine import (
    BadInput,
    BadLimit,
    BlockInfo,
    Conflict,
    CubeNotFound,
    ItemNotFound,
    KVBudgets,
    MemCube,
    MemOS,
    StoreError,
    StoreFull,
)
from memos_engine.activation import folder
from memos_engine.activation.compose import compose
from memos_engine.activation.tiers import Tiers
from memos_engine.activation.values import KVBlock, ModelKey
from memos_engine.blocks.head import head_of
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.errors import Closed, NotFound
from memos_engine.models.local import LocalModel
from memos_engine.recall.passages import passage_of
from memos_engine.testing.fakes import FrozenClock, HashEmbedder
from tests.activation import tiny
from tests.blocks.hot import LARGE_GPU, SMOLLM2, PacedModel, paced_model, shelf_of
from tests.blocks.kept import acting_model, file_of, files, said


def why(shelf: ActivationShelf, model: LocalModel, info: BlockInfo) -> str:
    """Fetch one block that must be a miss; return the reason."""
    found, misses = shelf.fetch(model, [info])
    assert found == {}
    return misses[info.id].why


# Build and fetch


def test_a_block_holds_its_passage_behind_the_head(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """What is fetched is what the model computes for the passage behind its head, to the bit in float32."""
    ids = said(cube)
    info = shelf.build(model, ids, reason="a test", scheme="float32")
    found, misses = shelf.fetch(model, [info])
    assert misses == {}
    text = passage_of([cube.get(id_) for id_ in ids]).text
    expected = model.block(model.encode(text, plain=True), behind=head_of(model))
    got = found[info.id]
    assert (got.ids, got.behind, got.key) == (expected.ids, expected.behind, expected.key)
    for one, other in zip(got.layers, expected.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)
    assert info.items == tuple(ids)
    assert info.tokens == len(expected.ids)
    assert info.bytes == file_of(shelf, info.id).stat().st_size


def test_a_fetched_block_is_read_in_place_of_its_text(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Behind the head the block is exact: the answer is that of reading the text."""
    ids = said(cube)
    found, _ = shelf.fetch(model, [shelf.build(model, ids, reason="a test", scheme="float32")])
    (block,) = found.values()
    query = model.encode("And the cats?")
    composed = compose(model, [block], query, behind=head_of(model), policy="exact")
    assert len(composed.prefix.ids) == len(head_of(model)) + len(block.ids)
    with_block = model.complete(composed.rest, composed.prefix, max_new_tokens=8)
    plain = model.complete((*head_of(model), *block.ids, *query), max_new_tokens=8)
    assert with_block.ids == plain.ids
    assert with_block.cached_tokens == len(composed.prefix.ids)


def test_int8_is_the_default_and_small(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """int8 takes about a quarter of float32 and comes back near."""
    ids = said(cube)
    info = shelf.build(model, ids[:3], reason="a test")
    wide = shelf.build(model, ids[3:], reason="a test", scheme="float32")
    assert info.bytes / info.tokens < 0.5 * wide.bytes / wide.tokens
    found, _ = shelf.fetch(model, [info])
    block = found[info.id]
    expected = model.block(block.ids, behind=block.behind)
    for one, other in zip(block.layers, expected.layers, strict=True):
        assert torch.allclose(one.keys, other.keys, atol=0.05)
        assert torch.allclose(one.values, other.values, atol=0.05)


def test_the_same_items_are_encoded_once(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """Building what is there returns it; asking to pin it pins it; nothing is encoded anew."""
    ids = said(cube)
    info = shelf.build(model, ids, reason="a test")
    busy = acting_model(lambda: pytest.fail("it encodes"))
    assert shelf.build(busy, ids, reason="again") == info
    pinned = shelf.build(busy, ids, reason="again", pinned=True)
    assert pinned == dataclasses.replace(info, pinned=True)
    assert [one.pinned for one in shelf.blocks()] == [True]
    assert len(files(shelf)) == 1


def test_an_item_is_in_one_block_of_a_model(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """Items of a block cannot be in a second one of that model; another model may have its own."""
    ids = said(cube)
    shelf.build(model, ids[:3], reason="a test")
    with pytest.raises(BadInput, match="drop that one first"):
        shelf.build(model, ids[2:], reason="a test")
    other = paced_model(seed=1)
    shelf.build(other, ids[2:], reason="a test")
    assert len(shelf.covering(model.key.digest, ids)) == 1
    assert len(shelf.covering(other.key.digest, ids)) == 1


def test_what_cannot_be_a_block_is_refused(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, clock: FrozenClock
) -> None:
    """No items, doubled ones, unknown, private and expired ones, and too many are refused; nothing is kept."""
    ids = said(cube)
    private = cube.add("my own", visibility="private")
    session = cube.add("of this session", visibility="session")
    over = cube.add("soon over", ttl=timedelta(minutes=1))
    archived = cube.add("laid aside")
    cube.update(archived.id, state="archived")
    clock.advance(timedelta(minutes=2))
    for wanted in ([], [ids[0], ids[0]], ids[0], [1]):
        with pytest.raises(BadInput):
            shelf.build(model, wanted, reason="a test")  # type: ignore[arg-type] # -- what a caller may hand over
    with pytest.raises(ItemNotFound):
        shelf.build(model, [ids[0], "no such"], reason="a test")
    for item in (private, session, over, archived):
        with pytest.raises(BadInput, match="not live, or is kept private"):
            shelf.build(model, [ids[0], item.id], reason="a test")
    with pytest.raises(BadInput, match="precision"):
        shelf.build(model, ids, reason="a test", scheme="int4")  # type: ignore[arg-type] # -- as above
    long = cube.add("word " * 4_000)
    with pytest.raises(BadInput, match="tokens"):
        shelf.build(model, [long.id], reason="a test")
    cube.kv.put(("n",), "k", {"t": "kept out of search"}, index=False)
    (hidden,) = [item.id for item in cube.list(limit=99) if item.key is not None]
    with pytest.raises(BadInput, match="out of search"):
        shelf.build(model, [ids[0], hidden], reason="a test")
    assert shelf.blocks() == []
    assert files(shelf) == []


# Misses


def test_time_alone_makes_a_block_stale(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, clock: FrozenClock
) -> None:
    """Once an item is over, its block is a miss, though nobody wrote anything; row, file and memory go."""
    item = cube.add("it rains until six", ttl=timedelta(hours=1))
    info = shelf.build(model, [item.id, *said(cube, count=1)], reason="a test")
    assert not shelf.fetch(model, [info])[1]
    clock.advance(timedelta(hours=2))
    assert why(shelf, model, info) == "stale"
    assert shelf.blocks() == []
    assert files(shelf) == []
    assert shelf.stats().ram_bytes == 0
    assert shelf.log(1)[0].op == "stale"
    assert shelf.stats().misses == {"stale": 1}
    assert why(shelf, model, info) == "absent"


def test_a_stale_block_does_not_keep_its_items_from_another(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, clock: FrozenClock
) -> None:
    """What is left of a stale block's items can be built at once."""
    item = cube.add("it rains until six", ttl=timedelta(hours=1))
    ids = said(cube)
    old = shelf.build(model, [item.id, *ids], reason="a test")
    clock.advance(timedelta(hours=2))
    new = shelf.build(model, ids, reason="a test")
    assert [info.id for info in shelf.blocks()] == [new.id]
    assert files(shelf) == [f"{new.id}.safetensors"]
    assert [event.op for event in shelf.log(3)] == ["promote", "stale", "promote"]
    assert why(shelf, model, old) == "absent"


@pytest.mark.parametrize(
    ("change", "op"),
    [
        (lambda cube, id_: cube.update(id_, text="I moved to Porto."), "stale"),
        (lambda cube, id_: cube.update(id_, visibility="private"), "stale"),
        (lambda cube, id_: cube.update(id_, state="archived"), "stale"),
        (lambda cube, id_: cube.forget(id_), "forget"),
    ],
    ids=["text", "visibility", "state", "forget"],
)
def test_a_change_takes_the_block_everywhere(
    cube: MemCube,
    shelf: ActivationShelf,
    model: PacedModel,
    change: Callable[[MemCube, str], object],
    op: str,
) -> None:
    """After a change of an item no row, no file, nothing in memory and no fetch knows its block."""
    ids = said(cube)
    info = shelf.build(model, ids[:3], reason="a test")
    stays = shelf.build(model, ids[3:], reason="a test")
    shelf.fetch(model, [info, stays])
    change(cube, ids[0])
    assert shelf.tiers.held(cube.id) == {stays.id}
    assert files(shelf) == [f"{stays.id}.safetensors"]
    found, misses = shelf.fetch(model, [info, stays])
    assert set(found) == {stays.id}
    assert misses[info.id].why == "absent"
    assert shelf.log(1)[0].op == op
    assert cube.check().ok


class OtherKey(PacedModel):
    """A model that differs in one field of its key."""

    field: str = "model"

    @cached_property
    def key(self) -> ModelKey:
        """The key with that field changed."""
        return dataclasses.replace(super().key, **{self.field: "0" * 64})


@pytest.mark.parametrize("field", ["model", "tokenizer", "template", "rope", "adapter", "dtype"])
def test_blocks_of_another_model_are_out_of_reach(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, field: str
) -> None:
    """A model that differs in weights, tokenizer, template or adapter finds no block and gets none; it stays."""
    info = shelf.build(model, said(cube), reason="a test")
    other = OtherKey(model.network, tokenizer=tiny.tokenizer())
    other.field = field
    assert shelf.covering(other.key.digest, info.items) == []
    assert why(shelf, other, info) == "other_model"
    shelf.fetch(model, [info])
    assert why(shelf, other, info) == "other_model", "nor from memory"
    assert [one.id for one in shelf.blocks()] == [info.id]


def truncate(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change one bit of the last tensor."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (Path.unlink, "absent"),
        (truncate, "damaged"),
        (flip, "damaged"),
        (lambda path: path.write_bytes(b"no block at all" * 20), "foreign"),
    ],
    ids=["removed", "truncated", "flipped", "foreign"],
)
def test_a_damaged_file_is_a_miss_and_goes(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, harm: Callable[[Path], object], reason: str
) -> None:
    """A file that is gone or not what it was is a miss with its reason; the block is dropped and can be built."""
    ids = said(cube)
    info = shelf.build(model, ids, reason="a test")
    harm(file_of(shelf, info.id))
    assert not cube.check().ok
    assert why(shelf, model, info) == reason
    assert shelf.blocks() == []
    assert files(shelf) == []
    assert reason in shelf.log(1)[0].reason
    assert cube.check().ok
    assert not shelf.fetch(model, [shelf.build(model, ids, reason="again")])[1]


def test_a_file_in_the_place_of_another_is_a_miss(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """The whole file of another block of the same model says that it is another's."""
    ids = said(cube)
    one, two = (shelf.build(model, part, reason="a test") for part in (ids[:3], ids[3:]))
    shutil.copy(file_of(shelf, two.id), file_of(shelf, one.id))
    assert why(shelf, model, one) == "stale"
    assert not shelf.fetch(model, [two])[1]


def test_a_file_of_another_cube_is_a_miss(
    memos: MemOS, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """A block of the same words in another cube, copied here whole, is not taken."""
    info = shelf.build(model, said(cube), reason="a test")
    other = memos.cube("bob")
    other_shelf = memos._host.activation(other.id)
    theirs = other_shelf.build(model, said(other), reason="a test")
    assert why(other_shelf, model, info) == "absent", "another cube's block is not there"
    shutil.copy(file_of(shelf, info.id), file_of(other_shelf, theirs.id))
    assert why(other_shelf, model, theirs) == "stale"


# What happens meanwhile


@pytest.mark.parametrize(
    "change",
    [
        lambda cube, id_: cube.update(id_, text="it says something else"),
        lambda cube, id_: cube.update(id_, visibility="private"),
        lambda cube, id_: cube.forget(id_),
    ],
    ids=["text", "visibility", "forget"],
)
def test_an_item_changed_while_it_is_encoded(
    cube: MemCube, shelf: ActivationShelf, change: Callable[[MemCube, str], object]
) -> None:
    """What was encoded from a text that is no longer so is not kept, in no form."""
    ids = said(cube)
    with pytest.raises(Conflict, match="nothing was kept"):
        shelf.build(acting_model(lambda: change(cube, ids[1])), ids, reason="a test")
    assert shelf.blocks() == []
    assert files(shelf) == []
    assert cube.check().ok


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_cube_deleted_while_it_is_encoded(
    tmp_path: Path, memos: MemOS, cube: MemCube, shelf: ActivationShelf, elsewhere: bool
) -> None:
    """When the cube is deleted meanwhile, by this process or another, the build fails and leaves no folder."""
    ids = said(cube)
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as other:
        deleting = other if elsewhere else memos
        with pytest.raises((CubeNotFound, Closed)):
            shelf.build(acting_model(lambda: deleting.delete("alice")), ids, reason="a test")
    assert not shelf.text.file.folder.exists()


def test_a_cube_deleted_just_before_the_file_is_written(
    tmp_path: Path,
    cube: MemCube,
    shelf: ActivationShelf,
    model: PacedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that brought back the folder of a cube deleted at that moment is removed with the folder."""
    ids = said(cube)
    save = folder.save

    def late(*args: Any, **how: Any) -> int:
        with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as other:
            other.delete("alice")
        assert not shelf.text.file.folder.exists()
        return save(*args, **how)

    monkeypatch.setattr(folder, "save", late)
    with pytest.raises(CubeNotFound):
        shelf.build(model, ids, reason="a test")
    assert not shelf.text.file.folder.exists()


def test_the_same_block_made_elsewhere_meanwhile(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Of two that encode the same at once, one wins; the other returns that block and leaves no file."""
    ids = said(cube)
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as other:
        elsewhere = other._host.activation(cube.id)
        made: list[BlockInfo] = []
        busy = acting_model(lambda: made.append(elsewhere.build(model, ids, reason="faster")))
        assert shelf.build(busy, ids, reason="slower") == made[0]
        assert files(shelf) == [f"{made[0].id}.safetensors"]
        more = said(cube, thread="u")
        busy.act = lambda: elsewhere.build(model, more[:2], reason="faster")
        with pytest.raises(BadInput, match="drop that one first"):
            shelf.build(busy, more, reason="slower")
    assert len(files(shelf)) == 2
    assert cube.check().ok


class Forgetting(Tiers):
    """Tiers of a process in which somebody forgets while a block is read from its file."""

    forget: Callable[[], object] = staticmethod(lambda: None)

    def put(self, *args: object, **how: object) -> KVBlock:
        """Forget first: the copy comes after the one who let go of all there was."""
        self.forget()
        return super().put(*args, **how)  # type: ignore[arg-type] # -- passed on


def test_forgotten_while_it_is_read(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """A block that is forgotten between its file and memory is a miss, and memory does not keep it."""
    ids = said(cube)
    info = shelf.build(model, ids, reason="a test")
    tiers = shelf.tiers = Forgetting(1 << 20, 0)
    tiers.forget = lambda: cube.forget(ids[0])
    assert why(shelf, model, info) == "absent"
    assert tiers.held(cube.id) == set()


def test_forgotten_by_another_process(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """What another opened root forgot is a miss here, and leaves memory with the next fetch of anything."""
    ids = said(cube)
    info, stays = (shelf.build(model, part, reason="a test") for part in (ids[:3], ids[3:]))
    shelf.fetch(model, [info, stays])
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as other:
        other.cube("alice").forget(ids[0])
    assert shelf.tiers.held(cube.id) == {info.id, stays.id}
    shelf.fetch(model, [stays])
    assert shelf.tiers.held(cube.id) == {stays.id}
    assert why(shelf, model, info) == "absent"


# Space


def budgeted(tmp_path: Path, clock: FrozenClock, budgets: KVBudgets) -> MemOS:
    """Open a root with these budgets."""
    return MemOS.open(
        tmp_path / "small", embedder=HashEmbedder(), clock=clock, background=False, kv_budgets=budgets
    )


def test_the_disk_budget_holds(tmp_path: Path, clock: FrozenClock, model: PacedModel) -> None:
    """Over budget the block that saves least leaves; one that would save less than all others is not made."""
    with budgeted(tmp_path, clock, KVBudgets()) as memos:
        size_bytes = (
            memos._host.activation(memos.cube("a").id)
            .build(model, said(memos.cube("a")), reason="a test")
            .bytes
        )
    with budgeted(tmp_path, clock, KVBudgets(disk_bytes=int(2.5 * size_bytes))) as memos:
        cube = memos.cube("b")
        shelf = memos._host.activation(cube.id)
        talks = [said(cube, thread=f"t{n}") for n in range(4)]
        one, two = (shelf.build(model, talk, reason="a test") for talk in talks[:2])
        shelf.used([one.id], [])
        three = shelf.build(model, talks[2], reason="a test")
        assert [info.id for info in shelf.blocks()] == [one.id, three.id]
        event = next(event for event in shelf.log(9) if event.op == "evict")
        assert event.block == two.id
        assert three.id in event.reason
        assert len(files(shelf)) == 2
        for _ in range(3):
            shelf.used([one.id, three.id], [])
        with pytest.raises(BadLimit, match="save less"):
            shelf.build(model, talks[3], reason="a test")
        shelf.used([], talks[3])
        assert len(shelf.blocks()) == 2
        for _ in range(9):
            shelf.used([], talks[3])
        shelf.build(model, talks[3], reason="it is hot by now")
        assert len(shelf.blocks()) == 2
        assert len(files(shelf)) == 2
        assert shelf.stats().disk_bytes <= 2.5 * size_bytes
        assert memos.check().ok


def test_pinned_blocks_never_leave_for_space(tmp_path: Path, clock: FrozenClock, model: PacedModel) -> None:
    """A pinned block stays; a new one that is pinned makes others leave; where all are, nothing has room."""
    with budgeted(tmp_path, clock, KVBudgets()) as memos:
        size_bytes = (
            memos._host.activation(memos.cube("a").id)
            .build(model, said(memos.cube("a")), reason="a test")
            .bytes
        )
    with budgeted(tmp_path, clock, KVBudgets(disk_bytes=int(2.5 * size_bytes))) as memos:
        cube = memos.cube("b")
        shelf = memos._host.activation(cube.id)
        talks = [said(cube, thread=f"t{n}") for n in range(4)]
        pin, loose = (
            shelf.build(model, talks[0], reason="", pinned=True),
            shelf.build(model, talks[1], reason=""),
        )
        for _ in range(5):
            shelf.used([loose.id], [])
        new = shelf.build(model, talks[2], reason="", pinned=True)
        assert [info.id for info in shelf.blocks()] == [pin.id, new.id]
        with pytest.raises(BadLimit, match="no room"):
            shelf.build(model, talks[3], reason="")
        shelf.pin(pin.id, pinned=False)
        last = shelf.build(model, talks[3], reason="")
        assert [info.id for info in shelf.blocks()] == [new.id, last.id]
        with pytest.raises(NotFound):
            shelf.pin(pin.id, pinned=True)


def test_a_budget_of_nothing_keeps_nothing(tmp_path: Path, clock: FrozenClock, model: PacedModel) -> None:
    """Without room on the disk no block is made; without room in memory each is read from its file."""
    with budgeted(tmp_path, clock, KVBudgets(disk_bytes=0)) as memos:
        cube = memos.cube("a")
        with pytest.raises(BadLimit):
            memos._host.activation(cube.id).build(model, said(cube), reason="")
        assert files(memos._host.activation(cube.id)) == []
    with budgeted(tmp_path, clock, KVBudgets(ram_bytes=0, device_bytes=0)) as memos:
        shelf = memos._host.activation(memos.cube("a").id)
        info = shelf.build(model, said(memos.cube("a")), reason="")
        for _ in range(2):
            assert not shelf.fetch(model, [info])[1]
        assert shelf.stats().ram_bytes == 0
        assert shelf.stats().hits == 2


def test_a_disk_that_cannot_take_a_file(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """When the file cannot be written there is no row; when the row cannot, there is no file."""
    ids = said(cube)
    place = shelf.text.file.folder / "kv"
    place.write_text("in the way")
    with pytest.raises(StoreError):
        shelf.build(model, ids, reason="")
    place.unlink()
    assert shelf.blocks() == []
    database = shelf.text.file._database
    assert database._writer is not None
    pages = database._writer.pragma("page_count")
    database._writer.pragma("max_page_count", pages)
    filling = [f"filling the last pages, {n}" for n in range(1_000)]
    with pytest.raises(StoreFull):
        cube.add(filling)
    with pytest.raises(StoreFull):
        shelf.build(model, ids, reason="r" * 1_000_000)
    assert files(shelf) == []
    assert shelf.blocks() == []
    database._writer.pragma("max_page_count", 1 << 30)
    assert shelf.build(model, ids, reason="").items == tuple(ids)


def test_what_is_of_no_use_and_cannot_be_taken_away(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Where the database keeps a damaged block from being taken away, it is a miss all the same, and goes later."""
    info = shelf.build(model, said(cube), reason="")
    truncate(file_of(shelf, info.id))
    writer = shelf.text.file._database._writer
    assert writer is not None
    writer.execute("CREATE TEMP TRIGGER full BEFORE DELETE ON blocks BEGIN SELECT raise(ABORT, 'full'); END")
    assert why(shelf, model, info) == "damaged"
    assert [one.id for one in shelf.blocks()] == [info.id]
    writer.execute("DROP TRIGGER full")
    assert why(shelf, model, info) == "damaged"
    assert shelf.blocks() == []


class FullTiers(Tiers):
    """Tiers of a device without room."""

    def put(self, *args: object, **how: object) -> KVBlock:
        """Fail as torch does."""
        raise torch.OutOfMemoryError("out of memory")


def test_no_room_in_memory_is_a_miss(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """Where a block cannot be brought to the model it is a miss, and the block stays."""
    info = shelf.build(model, said(cube), reason="")
    whole, shelf.tiers = shelf.tiers, FullTiers(1 << 20, 0)
    assert why(shelf, model, info) == "unreadable"
    shelf.tiers = whole
    assert not shelf.fetch(model, [info])[1]


# Tell


def test_uses_and_sizes_are_told(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """Stats add up; hits and misses are counted; uses of blocks and items too."""
    ids = said(cube)
    one, two = (shelf.build(model, part, reason="a test") for part in (ids[:3], ids[3:]))
    shelf.fetch(model, [one, two, one])
    shelf.fetch(paced_model(seed=1), [one])
    shelf.used([one.id, one.id, "no such"], [*ids[:2], "no such"])
    stats = shelf.stats()
    assert (stats.blocks, stats.tokens) == (2, one.tokens + two.tokens)
    assert (
        stats.disk_bytes
        == one.bytes + two.bytes
        == sum(file_of(shelf, b.id).stat().st_size for b in (one, two))
    )
    assert stats.ram_bytes == (one.tokens + two.tokens) * model.capabilities.bytes_per_token
    assert stats.device_bytes == 0
    assert (stats.hits, dict(stats.misses)) == (2, {"other_model": 1})
    told = {info.id: info for info in shelf.blocks(model.key.digest)}
    assert told[one.id].hits == 1.0
    assert told[one.id].used_at is not None
    assert told[two.id].used_at is None
    assert shelf.hot("another model", 9) == [(id_, 1.0) for id_ in sorted(ids[:2])]
    assert cube.stats().disk_bytes > stats.disk_bytes


def test_a_new_block_starts_with_the_uses_of_its_items(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """A block that was made because its items are hot does not start cold."""
    ids = said(cube)
    for _ in range(4):
        shelf.used([], ids[1:2])
    assert shelf.build(model, ids, reason="").hits == 4.0
    assert shelf.blocks()[0].hits == 4.0


def test_conversations_go_with_a_forget(cube: MemCube, shelf: ActivationShelf, model: PacedModel) -> None:
    """What was read of conversations in a cube is let go when anything of the cube is forgotten, block or not."""
    ids = said(cube)
    prefix = model.prefill(model.encode("what we said"))
    assert shelf.prefixes.keep(prefix, model.key, cube=cube.id, principal="root")
    cube.update(ids[0], text="another")
    assert len(shelf.prefixes) == 1
    cube.forget(ids[0])
    assert len(shelf.prefixes) == 0


def test_a_machine_that_reads_faster_than_its_disk_reads(cube: MemCube, memos: MemOS) -> None:
    """A file that takes longer to load than its text to read is left alone, and stays for a slower model."""
    model = paced_model()
    shelf = shelf_of(memos, cube)
    info = shelf.build(model, said(cube), reason="a test")
    model.__dict__.pop("rates", None)
    model.paced = LARGE_GPU
    assert why(shelf, model, info) == "slow"
    model.__dict__.pop("rates", None)
    model.paced = SMOLLM2
    assert info.id in shelf.fetch(model, [info])[0]
    model.__dict__.pop("rates", None)
    model.paced = LARGE_GPU
    assert info.id in shelf.fetch(model, [info])[0], "what is at hand costs nothing"

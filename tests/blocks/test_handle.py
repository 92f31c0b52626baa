"""`cube.activation`: who may do what, and every way around it that was thought of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_engine import (
    AccessDenied,
    ActivationMemory,
    BadInput,
    BadLimit,
    BadName,
    BlockInfo,
    ItemNotFound,
    KVBudgets,
    MemCube,
    MemOS,
    NotFound,
    Scope,
)
from memos_engine.activation.chain import chain_root
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.testing.fakes import HashEmbedder
from tests.blocks.hot import PacedModel
from tests.blocks.kept import files, said

ANNA, BOB, EVE = Scope(user="anna"), Scope(user="bob"), Scope(user="eve")


@pytest.fixture
def annas(memos: MemOS) -> MemCube:
    """A cube of Anna's."""
    return memos.acting_as(ANNA).cube("diary")


@pytest.fixture
def block(annas: MemCube, model: PacedModel) -> BlockInfo:
    """A block in it."""
    return annas.activation.build(model, said(annas))


def of(memos: MemOS, scope: Scope) -> ActivationMemory:
    """Anna's blocks, as another may use them."""
    return memos.acting_as(scope).cube("diary", owner=ANNA).activation


WRITES: dict[str, Callable[[ActivationMemory, PacedModel, str], object]] = {
    "build": lambda activation, model, _: activation.build(model, ["x"]),
    "promote": lambda activation, model, _: activation.promote(model),
    "pin": lambda activation, _, block: activation.pin(block),
    "unpin": lambda activation, _, block: activation.unpin(block),
    "drop": lambda activation, _, block: activation.drop(block),
}


def test_an_owner_may_do_everything(annas: MemCube, block: BlockInfo, model: PacedModel) -> None:
    """The owner lists, pins, unpins, drops, counts, and reads the log, which says who asked."""
    activation = annas.activation
    assert activation.list() == [block]
    activation.pin(block.id)
    assert [info.pinned for info in activation.list()] == [True]
    activation.unpin(block.id)
    assert [info.pinned for info in activation.list()] == [False]
    assert activation.stats().blocks == 1
    activation.drop(block.id)
    assert activation.list() == []
    dropped, made = activation.log()
    assert (made.op, made.block, made.tokens, made.bytes) == ("promote", block.id, block.tokens, block.bytes)
    assert (dropped.op, dropped.reason) == ("drop", "user:anna asked for it")
    assert activation.log(limit=1) == (dropped,)
    assert activation.promote(model) == ()
    assert annas.get(block.items[0]).text


@pytest.mark.parametrize("verb", WRITES)
def test_who_reads_changes_nothing(
    memos: MemOS, annas: MemCube, block: BlockInfo, model: PacedModel, verb: str
) -> None:
    """A reader lists and counts blocks, and is refused every change and the log."""
    annas.grant(BOB, "read")
    bobs = of(memos, BOB)
    assert bobs.list() == [block]
    assert bobs.stats().blocks == 1
    with pytest.raises(AccessDenied):
        WRITES[verb](bobs, model, block.id)
    with pytest.raises(AccessDenied):
        bobs.log()
    assert annas.activation.list() == [block]


def test_who_writes_builds_and_drops(
    memos: MemOS, annas: MemCube, block: BlockInfo, model: PacedModel
) -> None:
    """A writer drops and builds, and is refused the log, which tells who did what."""
    annas.grant(BOB, "write")
    bobs = of(memos, BOB)
    bobs.drop(block.id)
    assert bobs.build(model, block.items).items == block.items
    with pytest.raises(AccessDenied):
        bobs.log()


def test_a_right_that_was_taken_back_counts_at_once(
    memos: MemOS, annas: MemCube, block: BlockInfo, model: PacedModel
) -> None:
    """A handle made while there was a right does nothing once there is none, whichever verb is tried."""
    annas.grant(BOB, "write")
    bobs = of(memos, BOB)
    annas.revoke(BOB)
    reads = (bobs.list, bobs.stats, bobs.log)
    for verb in reads:
        with pytest.raises(AccessDenied):
            verb()
    for write in WRITES.values():
        with pytest.raises(AccessDenied):
            write(bobs, model, block.id)
    assert annas.activation.list() == [block]


def test_private_items_never_enter_a_block(memos: MemOS, annas: MemCube, model: PacedModel) -> None:
    """Another's private item is as if it were not there; one's own is refused; the root's handle is, too."""
    annas.grant(BOB, "write")
    bob = memos.acting_as(BOB).cube("diary", owner=ANNA)
    mine = bob.add("my own plan", visibility="private")
    now = memos.acting_as(Scope(user="bob", session="s")).cube("diary", owner=ANNA)
    session = now.add("of this session", visibility="session")
    for item in (mine, session):
        with pytest.raises(ItemNotFound):
            annas.activation.build(model, [item.id])
    with pytest.raises(BadInput, match="kept private"):
        bob.activation.build(model, [mine.id])
    with pytest.raises(BadInput, match="kept private"):
        now.activation.build(model, [session.id])
    root = memos.cube("diary", owner=ANNA)
    with pytest.raises(BadInput, match="kept private"):
        root.activation.build(model, [mine.id])
    assert root.activation.list() == []


def test_a_block_that_somehow_holds_a_private_item_is_hidden(
    memos: MemOS, annas: MemCube, block: BlockInfo, model: PacedModel
) -> None:
    """Should an item have become private behind the engine's back, others neither see, use, pin nor drop its block."""
    annas.grant(BOB, "write")
    shelf = memos._host.activation(annas.id)
    shelf.text.file.touch(
        lambda writer: (
            writer.rows("UPDATE items SET visibility = 'private' WHERE id = ?", [block.items[0]]) and None
        )
    )
    bobs = of(memos, BOB)
    assert bobs.list() == []
    for verb in ("pin", "unpin", "drop"):
        with pytest.raises(NotFound):
            WRITES[verb](bobs, model, block.id)
    assert annas.activation.list() == [block]
    assert shelf.fetch(model, [block])[1][block.id].why == "stale"


def test_blocks_of_another_cube_are_out_of_reach(
    memos: MemOS, annas: MemCube, block: BlockInfo, model: PacedModel
) -> None:
    """Ids of one cube's blocks and items are nothing in another cube, even with the same owner and words."""
    other = memos.acting_as(ANNA).cube("letters")
    said(other)
    for verb in ("pin", "unpin", "drop"):
        with pytest.raises(NotFound):
            WRITES[verb](other.activation, model, block.id)
    with pytest.raises(ItemNotFound):
        other.activation.build(model, block.items)
    shelf = memos._host.activation(other.id)
    assert shelf.covering(block.model, block.items) == []
    found, misses = shelf.fetch(model, [block])
    assert found == {}
    assert misses[block.id].why == "absent"
    shelf.used([block.id], block.items)
    assert shelf.drop([block.id], op="drop", reason="a test") == []
    assert annas.activation.list() == [block]


def test_strangers_reach_nothing(memos: MemOS, annas: MemCube, block: BlockInfo) -> None:
    """Who has no right does not even get the handle, and a cube of the same name is another."""
    with pytest.raises(NotFound):
        of(memos, EVE)
    eves = memos.acting_as(EVE).cube("diary")
    assert eves.activation.list() == []
    assert eves.activation.stats().blocks == 0


@pytest.mark.parametrize("id_", ["../../../catalog", "../memory", "/etc/passwd", "..", "a\\b", "nothing"])
def test_an_id_is_no_path(
    tmp_path: Path, annas: MemCube, block: BlockInfo, model: PacedModel, id_: str
) -> None:
    """What looks like a path is not found, and no file is touched."""
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for verb in ("pin", "unpin", "drop"):
        with pytest.raises((NotFound, BadName)):
            WRITES[verb](annas.activation, model, id_)
    assert annas.activation.list() == [block]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_conversations_of_two_principals_are_apart(memos: MemOS, annas: MemCube, model: PacedModel) -> None:
    """What one read of a conversation is not found by the other, in one cube and with the same words."""
    shelf = memos._host.activation(annas.id)
    prefix = model.prefill(model.encode("the same words of both"))
    shelf.prefixes.keep(prefix, model.key, cube=annas.id, principal="user:anna")
    assert shelf.salt("user:anna") != shelf.salt("user:bob")
    for principal, found in (("user:anna", True), ("user:bob", False)):
        root = chain_root(model.key, salt=shelf.salt(principal))
        assert (shelf.prefixes.longest(prefix.ids, root=root) is not None) == found


@pytest.mark.parametrize("model", [None, "SmolLM2", 3, object()])
def test_what_is_no_model_is_refused(annas: MemCube, model: Any) -> None:
    """Something that is no LocalModel is told with what to hand over."""
    for verb in ("build", "promote"):
        with pytest.raises(BadInput, match="LocalModel"):
            WRITES[verb](annas.activation, model, "")


def test_bad_arguments_are_refused(annas: MemCube, model: PacedModel) -> None:
    """Ids and limits are checked like everywhere."""
    activation = annas.activation
    for ids in ("one id", 7, None, [3]):
        with pytest.raises(BadInput):
            activation.build(model, ids)  # type: ignore[arg-type] # -- what a caller may hand over
    with pytest.raises(BadInput):
        activation.build(model, [])
    with pytest.raises(BadLimit):
        activation.log(limit=0)
    with pytest.raises(BadName):
        activation.drop("")


@pytest.mark.parametrize(
    "budgets",
    [KVBudgets(disk_bytes=-1), KVBudgets(ram_bytes=1.5), KVBudgets(device_bytes=True)],  # type: ignore[arg-type] # -- as above
)
def test_bad_budgets_are_refused(tmp_path: Path, budgets: KVBudgets) -> None:
    """Negative and broken budgets are told when the root is opened."""
    with pytest.raises(BadLimit, match="kv_budgets"):
        MemOS.open(tmp_path / "r", embedder=HashEmbedder(), background=False, kv_budgets=budgets)
    with pytest.raises(BadInput, match="KVBudgets"):
        MemOS.open(tmp_path / "r", embedder=HashEmbedder(), background=False, kv_budgets=7)  # type: ignore[arg-type] # -- as above


def test_a_deleted_cube_leaves_nothing(
    memos: MemOS, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Deleting a cube removes its files and lets go of its blocks and conversations in memory."""
    info = shelf.build(model, said(cube), reason="a test")
    shelf.fetch(model, [info])
    shelf.prefixes.keep(model.prefill(model.encode("hello")), model.key, cube=cube.id, principal="root")
    activation = cube.activation
    memos.delete("alice")
    assert not shelf.text.file.folder.exists()
    assert files(shelf) == []
    assert shelf.tiers.held(cube.id) == set()
    assert len(shelf.prefixes) == 0
    with pytest.raises(NotFound):
        activation.list()

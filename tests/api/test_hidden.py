"""What one principal keeps hidden in a shared cube stays where it is, whatever another does."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from memos_engine import (
    AccessDenied,
    Closed,
    Conflict,
    CubeNotFound,
    ItemNotFound,
    MemCube,
    MemOS,
    MemosError,
    Message,
    MessageConflict,
    Scope,
    StoreDamaged,
)
from memos_engine.testing.fakes import HashEmbedder

ALICE, BOB = Scope(user="alice"), Scope(user="bob")


@pytest.fixture
def alices(memos: MemOS) -> MemCube:
    """Alice's cube, which Bob may write to."""
    cube = memos.acting_as(ALICE).cube("ours")
    cube.grant(BOB, "write")
    return cube


@pytest.fixture
def bobs(memos: MemOS, alices: MemCube) -> MemCube:
    """Bob's handle on it."""
    return memos.acting_as(BOB).cube("ours", owner=ALICE)


def test_forget_does_not_reach_a_hidden_source(alices: MemCube, bobs: MemCube) -> None:
    """Forgetting with sources leaves an episode that its author made private."""
    result = alices.capture([Message("user", "Remember that the code is 4711.", id="1")])
    alices.update(result.episodes[0], visibility="private")
    erased = bobs.forget(result.derived[0], sources=True)
    assert result.episodes[0] not in erased.items
    assert alices.get(result.episodes[0]).text == "Remember that the code is 4711."


def test_forget_does_not_take_a_hidden_derived_item(alices: MemCube, bobs: MemCube) -> None:
    """Forgetting an episode leaves what somebody derived from it and keeps private."""
    result = alices.capture([Message("user", "Remember that the code is 4711.", id="1")])
    alices.update(result.derived[0], visibility="private")
    bobs.forget(result.episodes[0])
    assert alices.get(result.derived[0]).visibility == "private"


def test_history_hides_private_versions(alices: MemCube, bobs: MemCube) -> None:
    """Sharing an item shares its present, not what it said while it was private."""
    item = alices.add("my PIN is 4711", visibility="private")
    alices.update(item.id, text="I have a PIN", visibility="cube")
    assert [version.item.text for version in bobs.history(item.id)] == ["I have a PIN"]
    assert len(alices.history(item.id)) == 2


@pytest.mark.parametrize("text", ["yes", "no"])
def test_taken_message_id_tells_nothing(alices: MemCube, bobs: MemCube, text: str) -> None:
    """A message id that a hidden turn holds is refused alike, whether the words agree or not."""
    result = alices.capture([Message("user", "yes", id="1")], thread="main")
    alices.update(result.episodes[0], visibility="private")
    with pytest.raises(MessageConflict) as refused:
        bobs.capture([Message("user", text, id="1")], thread="main")
    assert "taken" in str(refused.value)
    assert not bobs.list()


def test_idempotency_keys_are_ones_own(alices: MemCube, bobs: MemCube) -> None:
    """Two principals may use one key for their own calls."""
    first = alices.capture([Message("user", "hello from alice")], idempotency_key="k")
    second = bobs.capture([Message("user", "hello from bob")], idempotency_key="k")
    assert set(first.episodes).isdisjoint(second.episodes)


def test_only_the_author_hides(alices: MemCube, bobs: MemCube) -> None:
    """A writer cannot take an item away from its author by making it private."""
    item = alices.add("the meeting is at noon")
    with pytest.raises(AccessDenied):
        bobs.update(item.id, visibility="private")
    alices.kv.put(("n",), "k", {"a": 1})
    bobs.kv.put(("n",), "k", {"a": 2})
    entry = next(found for found in bobs.list() if found.key == "k")
    assert entry.author == "user:alice"
    with pytest.raises(AccessDenied):
        bobs.update(entry.id, visibility="private")


def test_counts_leave_out_the_hidden(alices: MemCube, bobs: MemCube) -> None:
    """Statistics count what the caller may see."""
    alices.add("a secret of mine", visibility="private")
    alices.add("a thing for all")
    assert bobs.stats().items == 1
    assert alices.stats().items == 2


def test_failed_dump_leaves_no_old_state(alices: MemCube, bobs: MemCube, tmp_path: Path) -> None:
    """After a dump that failed in the middle, every read sees what was written since."""
    items = alices.add([f"note number {n}" for n in range(300)])

    def fail(_done: int, _total: int) -> None:
        raise Conflict("stop here")

    with pytest.raises(MemosError):
        alices.dump(tmp_path / "dump", progress=fail)
    alices.update(items[0].id, visibility="private")
    assert alices.forget(items[1].id).purged
    for item in items[:2]:
        with pytest.raises(ItemNotFound):
            bobs.get(item.id)
    assert alices.get(alices.add("written after").id).text == "written after"


def test_session_handle_stays_in_its_session(memos: MemOS) -> None:
    """A handle that was bound to a session cannot leave it."""
    bound = memos.acting_as(Scope(user="alice", session="s1"))
    with pytest.raises(AccessDenied):
        bound.acting_as(Scope(user="alice", session="s2"))


def test_deleted_cube_takes_no_writes(memos: MemOS, tmp_path: Path) -> None:
    """A handle of another MemOS on a cube that was deleted is refused, the root's too."""
    cube = memos.cube("c")
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as other:
        other.delete("c")
    with pytest.raises(CubeNotFound):
        cube.add("into the void")


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_lost_database_is_told(tmp_path: Path, damage: str) -> None:
    """A cube whose database is gone is damaged, not empty."""
    with MemOS.open(tmp_path / "r", embedder=HashEmbedder(), background=False) as memos:
        cube = memos.cube("c")
        cube.add("something")
        database = tmp_path / "r" / "cubes" / cube.id / "memory.db"
    database.unlink()
    if damage == "empty":
        database.touch()
    with MemOS.open(tmp_path / "r", embedder=HashEmbedder(), background=False) as memos:
        with pytest.raises(StoreDamaged):
            memos.cube("c")
        assert not memos.check().ok


def test_frozen_items_are_held(cube: MemCube) -> None:
    """A frozen item is neither changed nor erased until it is thawed."""
    item = cube.add("evidence of the case")
    cube.update(item.id, state="frozen")
    with pytest.raises(Conflict):
        cube.update(item.id, text="other words")
    with pytest.raises(Conflict):
        cube.forget(item.id)
    assert cube.search("evidence")[0].item.text == "evidence of the case"
    cube.update(item.id, state="activated")
    assert cube.forget(item.id).items == (item.id,)


def _write_after_fork(cube: MemCube, results: multiprocessing.Queue[str]) -> None:
    try:
        cube.add("from the child")
        results.put("written")
    except Closed as exc:
        results.put(str(exc))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_handles_do_not_cross_a_fork(cube: MemCube) -> None:
    """A forked child that goes on with its parent's handle is refused instead of losing what it writes."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_write_after_fork, args=(cube, results))
    child.start()
    said = results.get(timeout=30)
    child.join(30)
    assert "fork" in said
    cube.add("from the parent")
    assert len(cube.list()) == 1

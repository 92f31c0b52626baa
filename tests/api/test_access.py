"""Nobody reads, changes or even notices what is not theirs, whichever public call they try."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from memos_engine import (
    AccessDenied,
    CubeNotFound,
    ItemNotFound,
    KeyValues,
    KvPut,
    MemCube,
    MemOS,
    Message,
    ModelUnavailable,
    NotFound,
    Scope,
    ServedModel,
)
from memos_engine.testing.fakes import ScriptedChatModel

ALICE, MALLORY = Scope(user="alice"), Scope(user="mallory")
SECRET = "the vault code is zanzibar"


def warmed(cube: MemCube) -> None:
    """Let a server read something that no server reads: nobody listens there."""
    with pytest.raises(ModelUnavailable):
        cube.warm(ServedModel("http://127.0.0.1:9/v1", "m", retries=0), [Message("system", "vault code?")])


CUBE_CALLS: dict[str, Callable[[MemCube, str, Path], object]] = {
    "capture": lambda cube, item, path: cube.capture([Message("user", "hello")]),
    "chat": lambda cube, item, path: cube.chat(ScriptedChatModel("so"), [Message("user", "vault code?")]),
    "chat_stream": lambda cube, item, path: list(
        cube.chat_stream(ScriptedChatModel("so"), [Message("user", "vault code?")])
    ),
    "warm": lambda cube, item, path: warmed(cube),
    "add": lambda cube, item, path: cube.add("hello"),
    "update": lambda cube, item, path: cube.update(item, text="changed"),
    "forget": lambda cube, item, path: cube.forget(item),
    "recall": lambda cube, item, path: cube.recall("vault code"),
    "recall_many": lambda cube, item, path: cube.recall_many(["vault code"]),
    "search": lambda cube, item, path: cube.search("zanzibar"),
    "get": lambda cube, item, path: cube.get(item),
    "history": lambda cube, item, path: cube.history(item),
    "list": lambda cube, item, path: cube.list(),
    "tree": lambda cube, item, path: cube.tree(),
    "stats": lambda cube, item, path: cube.stats(),
    "check": lambda cube, item, path: cube.check(),
    "rebuild": lambda cube, item, path: cube.rebuild(),
    "dump": lambda cube, item, path: cube.dump(path / "stolen"),
    "grant": lambda cube, item, path: cube.grant(MALLORY, "read"),
    "revoke": lambda cube, item, path: cube.revoke(ALICE),
    "grants": lambda cube, item, path: cube.grants(),
    "kv.put": lambda cube, item, path: cube.kv.put(("n",), "k", {"a": 1}),
    "kv.get": lambda cube, item, path: cube.kv.get(("n",), "k"),
    "kv.get_many": lambda cube, item, path: cube.kv.get_many([(("n",), "k")], refresh_ttl=True),
    "kv.sweep": lambda cube, item, path: cube.kv.sweep(),
    "kv.delete": lambda cube, item, path: cube.kv.delete(("n",), "k"),
    "kv.batch": lambda cube, item, path: cube.kv.batch([KvPut(("n",), "k", {"a": 1})]),
    "kv.search": lambda cube, item, path: cube.kv.search(()),
    "kv.list_namespaces": lambda cube, item, path: cube.kv.list_namespaces(),
}
READS = {
    "warm", "recall", "recall_many", "search", "get", "history", "list", "tree", "stats", "kv.get", "kv.get_many",
    "kv.search", "kv.list_namespaces",
}  # fmt: skip
OWNERS = {"check", "rebuild", "dump", "grant", "revoke", "grants"}

MEMOS_CALLS: dict[str, Callable[[MemOS, Path], object]] = {
    "cube": lambda memos, path: memos.cube("diary", owner=ALICE),
    "delete": lambda memos, path: memos.delete("diary", owner=ALICE),
    "rebuild": lambda memos, path: memos.rebuild("diary", owner=ALICE),
    "reembed": lambda memos, path: memos.reembed("diary", owner=ALICE),
    "check": lambda memos, path: memos.check("diary"),
    "drain": lambda memos, path: memos.drain(),
    "jobs": lambda memos, path: memos.jobs(),
    "acting_as": lambda memos, path: memos.acting_as(ALICE),
}
PLAIN = {"open", "close", "cubes", "embedder", "load", "scope", "threads"}


def public(kind: type) -> set[str]:
    """Names of the public methods and properties of a class."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def diary(memos: MemOS) -> tuple[MemCube, str]:
    """Alice's cube with a secret in it, and the secret's id."""
    cube = memos.acting_as(ALICE).cube("diary")
    item = cube.add(SECRET)
    cube.kv.put(("n",), "k", {"secret": SECRET})
    return cube, item.id


def stolen(memos: MemOS) -> MemCube:
    """A handle on Alice's cube under Mallory's scope, as if the check at the door had been got round."""
    alices, _ = diary(memos)
    return MemCube(alices._host, alices.info, MALLORY)


def test_every_cube_call_is_tried() -> None:
    """No public method of a cube or its entries is missing from the table above."""
    named = {name.removeprefix("kv.") for name in CUBE_CALLS if name.startswith("kv.")}
    assert public(MemCube) - {"id", "name", "info", "kv", "activation", "scope"} == {
        name for name in CUBE_CALLS if "." not in name
    }
    assert named == public(KeyValues)
    assert public(MemOS) == set(MEMOS_CALLS) | PLAIN


@pytest.mark.parametrize("call", CUBE_CALLS)
def test_stranger_is_denied(memos: MemOS, tmp_path: Path, call: str) -> None:
    """A stranger who holds a handle is refused by every call, and the cube is as it was."""
    cube = stolen(memos)
    alices = memos.acting_as(ALICE).cube("diary")
    item = alices.search("zanzibar")[0].item.id
    before = alices.stats().revision
    with pytest.raises(AccessDenied):
        CUBE_CALLS[call](cube, item, tmp_path)
    assert alices.stats().revision == before
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("call", CUBE_CALLS)
def test_reader_may_only_read(memos: MemOS, tmp_path: Path, call: str) -> None:
    """A grant to read opens what reads, and nothing that writes or owns."""
    cube = stolen(memos)
    alices = memos.acting_as(ALICE).cube("diary")
    alices.grant(MALLORY, "read")
    item = next(hit.item.id for hit in alices.search("zanzibar") if hit.item.key is None)
    if call in READS:
        CUBE_CALLS[call](cube, item, tmp_path)
    else:
        with pytest.raises(AccessDenied):
            CUBE_CALLS[call](cube, item, tmp_path)


@pytest.mark.parametrize("call", CUBE_CALLS)
def test_writer_does_not_own(memos: MemOS, tmp_path: Path, call: str) -> None:
    """A grant to write opens everything but what is the owner's."""
    cube = stolen(memos)
    alices = memos.acting_as(ALICE).cube("diary")
    alices.grant(MALLORY, "write")
    item = next(hit.item.id for hit in alices.search("zanzibar") if hit.item.key is None)
    if call in OWNERS:
        with pytest.raises(AccessDenied):
            CUBE_CALLS[call](cube, item, tmp_path)
    else:
        CUBE_CALLS[call](cube, item, tmp_path)


@pytest.mark.parametrize("call", MEMOS_CALLS)
def test_stranger_finds_no_door(memos: MemOS, tmp_path: Path, call: str) -> None:
    """No call of MemOS lets a stranger at another's cube."""
    diary(memos)
    with pytest.raises((AccessDenied, CubeNotFound)):
        MEMOS_CALLS[call](memos.acting_as(MALLORY), tmp_path)
    assert memos.acting_as(ALICE).cube("diary").search("zanzibar")


def test_absent_and_forbidden_look_alike(memos: MemOS) -> None:
    """Whether a cube exists cannot be told from the error."""
    diary(memos)
    mallory = memos.acting_as(MALLORY)
    with pytest.raises(CubeNotFound) as forbidden:
        mallory.cube("diary", owner=ALICE)
    with pytest.raises(CubeNotFound) as absent:
        mallory.cube("nothing", owner=ALICE)
    assert str(forbidden.value).replace("diary", "") == str(absent.value).replace("nothing", "")


def test_same_name_is_another_cube(memos: MemOS) -> None:
    """Two users who choose one name have a cube each."""
    diary(memos)
    mallorys = memos.acting_as(MALLORY).cube("diary")
    assert not mallorys.recall("vault code zanzibar")
    assert mallorys.list() == []
    assert [row.owner for row in memos.acting_as(MALLORY).cubes()] == ["user:mallory"]


def test_id_of_another_cube_is_not_found(memos: MemOS) -> None:
    """An id that was overheard opens nothing in one's own cube."""
    _, item = diary(memos)
    mallorys = memos.acting_as(MALLORY).cube("mine")
    for call in (mallorys.get, mallorys.history, mallorys.forget):
        with pytest.raises(ItemNotFound):
            call(item)
    with pytest.raises(NotFound):
        mallorys.update(item, text="changed")


def test_revoked_is_out_at_once(memos: MemOS) -> None:
    """A handle that was opened under a grant is refused from the moment the grant is gone."""
    alices, item = diary(memos)
    alices.grant(MALLORY, "read")
    shared = memos.acting_as(MALLORY).cube("diary", owner=ALICE)
    assert shared.get(item).text == SECRET
    alices.revoke(MALLORY)
    with pytest.raises(AccessDenied):
        shared.get(item)


def test_private_items_are_their_authors_alone(memos: MemOS) -> None:
    """A private item is seen by its author, not by the cube's owner nor by other readers, in any call."""
    alices, _ = diary(memos)
    alices.grant(MALLORY, "write")
    shared = memos.acting_as(MALLORY).cube("diary", owner=ALICE)
    hidden = shared.add("mallory keeps quokkas", visibility="private")
    assert shared.search("quokkas")[0].item.id == hidden.id
    assert not [hit for hit in alices.search("quokkas") if hit.item.id == hidden.id]
    assert hidden.id not in {item.id for item in alices.list()}
    assert "quokkas" not in alices.recall("quokkas").text
    for call in (alices.get, alices.history, alices.forget):
        with pytest.raises(ItemNotFound):
            call(hidden.id)


def test_session_items_stay_in_their_session(memos: MemOS) -> None:
    """An item of visibility `session` is seen under the session that wrote it and no other."""
    first = memos.acting_as(Scope(user="alice", session="s1")).cube("diary")
    second = memos.acting_as(Scope(user="alice", session="s2")).cube("diary")
    note = first.add("tonight we speak of narwhals", visibility="session")
    assert first.search("narwhals")[0].item.id == note.id
    assert not second.search("narwhals")
    with pytest.raises(ItemNotFound):
        second.get(note.id)


def test_scope_must_name_somebody(memos: MemOS) -> None:
    """A scope without user and agent may do nothing."""
    with pytest.raises(AccessDenied):
        memos.acting_as(Scope(session="s1"))


def test_user_called_root_is_not_the_root(memos: MemOS) -> None:
    """The name `root` gives a user none of the root's rights."""
    diary(memos)
    with pytest.raises((AccessDenied, CubeNotFound)):
        memos.acting_as(Scope(user="root")).cube("diary", owner=ALICE)
    with pytest.raises(AccessDenied):
        memos.acting_as(Scope(user="root")).drain()


def test_threads_are_apart(memos: MemOS) -> None:
    """One principal's threads are not there for another, under the same name."""
    memos.acting_as(ALICE).threads.append("t1", [{"text": SECRET}])
    mallory = memos.acting_as(MALLORY).threads
    assert mallory.list("t1") == []
    assert mallory.threads() == []
    assert not mallory.delete("t1")
    assert len(memos.acting_as(ALICE).threads.list("t1")) == 1

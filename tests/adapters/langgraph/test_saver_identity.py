"""Whose threads a saver sees, what names mean, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from memos_adapters.langgraph.saver import MemosSaver
from memos_engine import BadInput, BadName, Blob, Closed, Conflict, MemOS, MemosError, NotFound, Scope
from tests.adapters.langgraph.saver_cases import THREAD, checkpoint, config, found, ids, put


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    """Lend an open folder."""
    with MemOS.open(tmp_path / "memories", background=False) as memos:
        yield memos


@pytest.fixture
def saver(memos: MemOS) -> MemosSaver:
    """Return the saver of the folder's owner."""
    return MemosSaver(memos)


class TestIdentity:
    def test_threads_belong_to_their_principal(self, memos: MemOS) -> None:
        """Bob sees nothing of Alice's thread of the same id, changes nothing, and deletes nothing."""
        alice, bob, root = (
            MemosSaver(handle)
            for handle in (memos.acting_as(Scope(user="alice")), memos.acting_as(Scope(user="bob")), memos)
        )
        where = put(alice, config(), {"a": "alice's"}, {"a": "1"}, id="1", run_id="r")
        alice.put_writes(where, [("a", "hers")], "task")
        for other in (bob, root):
            assert other.get_tuple(where) is None
            assert other.get_tuple(config(id=None)) is None
            assert ids(other, None) == ids(other, config(ns=None)) == []
            assert other.get_delta_channel_history(config=where, channels=["a"]) == {"a": {"writes": []}}
            other.put_writes(where, [("a", "not hers")], "other")
            other.delete_thread(THREAD)
            other.delete_for_runs(["r"])
            other.prune([THREAD], strategy="delete")
            with pytest.raises(NotFound):
                other.copy_thread(THREAD, "stolen")
            put(other, config(), {"a": "other's"}, {"a": "1"}, id="1")
            assert found(other, where).checkpoint["channel_values"] == {"a": "other's"}
        assert found(alice, where).checkpoint["channel_values"] == {"a": "alice's"}
        assert found(alice, where).pending_writes == [("task", "a", "hers")]
        assert ids(alice) == ["1"]

    @pytest.mark.parametrize("trick", ["t\x00", "../t", "langgraph:t", "user:alice", "T", "t ", "%t", "*"])
    def test_no_spelling_reaches_another_thread(self, memos: MemOS, trick: str) -> None:
        """A name is one thread or refused; it is no pattern, path or prefix."""
        alice, bob = (MemosSaver(memos.acting_as(Scope(user=name))) for name in ("alice", "bob"))
        put(alice, config(), {"a": 1}, {"a": "1"})
        for one in (alice, bob):
            if "\x00" in trick:
                with pytest.raises(BadName):
                    one.delete_thread(trick)
                continue
            assert one.get_tuple(config(trick)) is None
            assert list(one.list(config(trick, ns=None))) == []
            one.delete_thread(trick)
            one.prune([trick])
        assert found(alice, config()).checkpoint["channel_values"] == {"a": 1}

    def test_chat_logs_of_the_same_name_are_other_threads(self, memos: MemOS, saver: MemosSaver) -> None:
        """Deleting checkpoints leaves what else is kept under the thread's id."""
        memos.threads.append(THREAD, [{"role": "user"}])
        memos.threads.put_blobs(THREAD, [Blob("checkpoint", "", "1", "", b"mine")])
        assert saver.get_tuple(config()) is None
        put(saver, config())
        saver.delete_thread(THREAD)
        assert len(memos.threads.list(THREAD)) == len(memos.threads.blobs(THREAD)) == 1

    @pytest.mark.parametrize("thread", [7, 0, UUID(int=5)])
    def test_ids_of_databases_serve(self, saver: MemosSaver, thread: object) -> None:
        """Numbers and UUIDs mean what they read as."""
        where = put(saver, config(thread), id="1")
        assert where["configurable"]["thread_id"] == str(thread)
        assert ids(saver, config(str(thread))) == ids(saver, config(thread)) == ["1"]


class TestRefusals:
    @pytest.mark.parametrize(
        "bad", [{}, {"configurable": {}}, config(""), config(None), {"configurable": None}]
    )
    def test_a_config_without_a_thread_is_told(self, saver: MemosSaver, bad: Any) -> None:
        """By our error, which says what to pass, in every call that takes a config."""
        for call in (
            lambda: saver.get_tuple(bad),
            lambda: saver.get(bad),
            lambda: saver.list(bad),
            lambda: saver.put(bad, checkpoint(), {}, {}),
            lambda: saver.put_writes(bad, [("a", 1)], "task"),
            lambda: saver.get_delta_channel_history(config=bad, channels=["a"]),
        ):
            with pytest.raises(BadInput, match="'thread_id': "):
                call()

    def test_writes_without_a_checkpoint_are_told(self, saver: MemosSaver) -> None:
        """They would hang in the air."""
        with pytest.raises(BadInput, match="checkpoint_id"):
            saver.put_writes(config(), [("a", 1)], "task")

    @pytest.mark.parametrize(
        "bad", [config("a\x00b"), config("\ud800"), config(["t"]), config(b"t"), config(ns="\x00"), config(id="\x00"),
                config("x" * 5_000), config(ns=3.5), config(True)],
    )  # fmt: skip
    def test_odd_ids_are_told(self, saver: MemosSaver, bad: Any) -> None:
        """NUL, lone surrogates, over-long names, and what is no text."""
        with pytest.raises(BadName):
            saver.get_tuple(bad)

    def test_lists_are_not_text(self, saver: MemosSaver) -> None:
        """A str is no list of ids, and an unknown strategy deletes nothing."""
        put(saver, config(), id="1", run_id="t")
        with pytest.raises(BadInput, match="list"):
            saver.prune("t")
        with pytest.raises(BadInput, match="list"):
            saver.delete_for_runs("t")
        with pytest.raises(BadInput, match="'keep_latest' or 'delete'"):
            saver.prune([THREAD], strategy="keep_last")
        assert ids(saver) == ["1"]

    def test_only_a_memos_serves(self, memos: MemOS) -> None:
        """A path or a cube is refused, and so is a serializer that tells no kinds."""
        for bad in ("memories", None, memos.cube("c")):
            with pytest.raises(BadInput, match=r"MemOS\.open"):
                MemosSaver(cast("Any", bad))

    def test_a_closed_folder_is_told(self, tmp_path: Path) -> None:
        """Each call raises `Closed`, the async ones too."""
        memos = MemOS.open(tmp_path, background=False)
        saver = MemosSaver(memos)
        memos.close()
        for call in (saver.setup, lambda: saver.get_tuple(config()), lambda: put(saver, config())):
            with pytest.raises(Closed):
                call()
        with pytest.raises(Closed):
            MemosSaver(memos)

    def test_copying_says_why_not(self, saver: MemosSaver) -> None:
        """Over something it is a conflict; out of nothing it is not found. Both are ours."""
        put(saver, config("a"), {"x": 1}, {"x": "1"}, id="1")
        put(saver, config("b"), id="2")
        with pytest.raises(Conflict):
            saver.copy_thread("a", "b")
        with pytest.raises(NotFound):
            saver.copy_thread("none", "c")
        assert issubclass(NotFound, MemosError)
        saver.copy_thread("a", "c")
        assert found(saver, config("c")).checkpoint["channel_values"] == {"x": 1}
        assert found(saver, config("c")).config == config("c", id="1")

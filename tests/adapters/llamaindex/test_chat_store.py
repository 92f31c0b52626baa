"""Chat stores over the engine's threads, alone and under LlamaIndex's own memories."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import ChatMemoryBuffer, Memory, StaticMemoryBlock
from llama_index.core.storage.chat_store.base import BaseChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from pydantic import ValidationError

from memos_adapters.llamaindex.chat_store import MemosChatStore, MemosSimpleChatStore
from memos_engine import BadInput, IdentityMissing, MemOS, Scope
from memos_engine.store.database import Connection, Database
from memos_engine.testing.fakes import HashEmbedder

ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED


def talk(count: int) -> list[ChatMessage]:
    """Alternating messages of user and assistant."""
    roles = (MessageRole.USER, MessageRole.ASSISTANT)
    return [ChatMessage(f"message {n}", role=roles[n % 2]) for n in range(count)]


def said(messages: Iterable[ChatMessage] | None) -> list[str]:
    """The numbers of the messages of `talk`."""
    return [(message.content or "").removeprefix("message ") for message in messages or []]


@pytest.fixture
def store(memos: MemOS) -> MemosChatStore:
    """An empty store of Alice's."""
    return MemosChatStore(memos, user_id="alice")


@pytest.fixture
def simple(memos: MemOS) -> MemosSimpleChatStore:
    """An empty store of Alice's, of the older kind."""
    return MemosSimpleChatStore(memos, user_id="alice")


async def test_messages_are_kept_in_order(store: MemosChatStore) -> None:
    """One by one or several at once, by key."""
    assert isinstance(store, AsyncDBChatStore)
    await store.add_message("a", talk(1)[0])
    await store.add_messages("a", talk(4)[1:])
    await store.add_messages("b", talk(1))
    assert await store.get_messages("a") == talk(4)
    assert said(await store.get_messages("a", limit=2, offset=1)) == ["1", "2"]
    assert said(await store.get_messages("a", offset=3)) == ["3"]
    assert await store.get_messages("nowhere") == []
    assert await store.count_messages("a") == 4
    assert await store.get_keys() == ["a", "b"]


async def test_the_oldest_are_archived(store: MemosChatStore) -> None:
    """Archived messages are no longer active, and stay."""
    await store.add_messages("a", talk(4))
    assert said(await store.archive_oldest_messages("a", 2)) == ["0", "1"]
    assert said(await store.archive_oldest_messages("a", 1)) == ["2"]
    assert await store.archive_oldest_messages("a", 0) == []
    await store.add_message("a", ChatMessage("message old"), status=ARCHIVED)
    assert said(await store.get_messages("a")) == ["3"]
    assert said(await store.get_messages("a", status=ARCHIVED)) == ["0", "1", "2", "old"]
    assert said(await store.get_messages("a", status=None)) == ["0", "1", "2", "3", "old"]
    assert [await store.count_messages("a", status) for status in (ACTIVE, ARCHIVED, None)] == [1, 4, 5]
    assert said(await store.archive_oldest_messages("a", 9)) == ["3"]
    assert await store.get_messages("a") == []


async def test_messages_are_deleted(store: MemosChatStore) -> None:
    """The oldest active ones, one by its index among the active, those of a status, or all."""
    await store.add_messages("a", talk(6))
    await store.archive_oldest_messages("a", 1)
    assert said(await store.delete_oldest_messages("a", 1)) == ["1"]
    deleted = await store.delete_message("a", 1)
    assert deleted == talk(4)[3]
    assert await store.delete_message("a", 9) is None
    assert said(await store.get_messages("a", status=None)) == ["0", "2", "4", "5"]
    await store.delete_messages("a", status=ARCHIVED)
    assert said(await store.get_messages("a", status=None)) == ["2", "4", "5"]
    await store.delete_messages("a")
    assert await store.get_messages("a", status=None) == []
    assert await store.get_keys() == []


async def test_messages_are_replaced(store: MemosChatStore) -> None:
    """`set_messages` leaves nothing of what was there, whatever its status."""
    await store.add_messages("a", talk(3))
    await store.archive_oldest_messages("a", 1)
    await store.set_messages("a", talk(5)[3:])
    assert said(await store.get_messages("a", status=None)) == ["3", "4"]
    await store.set_messages("a", [])
    assert await store.get_messages("a", status=None) == []


async def test_what_is_handed_out_is_new(store: MemosChatStore) -> None:
    """Changing a message that was put or returned changes nothing in the store."""
    message = ChatMessage(blocks=[TextBlock(text="mine")], additional_kwargs={"n": [1]})
    await store.add_message("a", message)
    message.blocks.clear()
    message.additional_kwargs["n"].append(2)
    (back,) = await store.get_messages("a")
    back.blocks.append(TextBlock(text="memory"))
    assert await store.get_messages("a") == [
        ChatMessage(blocks=[TextBlock(text="mine")], additional_kwargs={"n": [1]})
    ]


async def test_images_stay_whole_and_leave_with_their_message(memos: MemOS, store: MemosChatStore) -> None:
    """Bytes are kept apart, through archiving too, and erased with the message."""
    data = bytes(range(256)) * 40
    picture = ChatMessage(blocks=[ImageBlock(image=data, image_mimetype="image/png")])
    await store.add_messages("a", [picture, picture])
    await store.archive_oldest_messages("a", 1)
    await store.delete_messages("a", status=ACTIVE)
    (back,) = await store.get_messages("a", status=ARCHIVED)
    (block,) = back.blocks
    assert isinstance(block, ImageBlock)
    assert block.resolve_image().read() == data
    await store.delete_messages("a")
    assert memos.acting_as(Scope("alice")).threads.blobs("llamaindex/a") == []


async def test_stores_of_two_users_share_nothing(memos: MemOS, store: MemosChatStore) -> None:
    """The same key is another log for another user; nobody's store cannot be made."""
    await store.add_messages("a", talk(1))
    other = MemosChatStore(memos, user_id="bob")
    assert await other.get_messages("a") == []
    assert await other.get_keys() == []
    with pytest.raises(IdentityMissing):
        MemosChatStore(memos)
    with pytest.raises(IdentityMissing):
        MemosSimpleChatStore(memos)


async def test_a_store_is_there_after_a_restart(tmp_path: Path) -> None:
    """Messages and their status are on the disk."""
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        store = MemosChatStore(memos, user_id="alice")
        await store.add_messages("a", talk(3))
        await store.archive_oldest_messages("a", 1)
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        store = MemosChatStore(memos, user_id="alice")
        assert said(await store.get_messages("a")) == ["1", "2"]
        assert said(await store.get_messages("a", status=ARCHIVED)) == ["0"]


async def test_archiving_at_once_archives_each_once(store: MemosChatStore) -> None:
    """Calls that meet take turns."""
    await store.add_messages("a", talk(12))
    archived = await asyncio.gather(*(store.archive_oldest_messages("a", 2) for _ in range(4)))
    assert sorted(text for part in archived for text in said(part)) == sorted(said(talk(8)))
    assert said(await store.get_messages("a")) == ["8", "9", "10", "11"]


def test_a_store_is_shared_and_not_copied(store: MemosChatStore) -> None:
    """Workflows copy their state: a store in it stays the handle it is, and its MemOS is not written out."""
    assert copy.deepcopy(store) is store
    assert store.model_dump() == {"user_id": "alice", "agent_id": None}
    assert store.class_name() == "MemosChatStore"


async def test_a_copy_for_another_is_the_others(store: MemosChatStore, simple: MemosSimpleChatStore) -> None:
    """A store serves whom it was made for: a copy with another name is that one's, and a name cannot be set."""
    await store.add_messages("a", talk(2))
    other = store.model_copy(update={"user_id": "bob"})
    assert await other.get_keys() == []
    await other.add_message("b", talk(1)[0])
    assert await store.get_keys() == ["a"]
    assert await store.model_copy().get_keys() == ["a"]
    assert simple.model_copy(update={"user_id": "bob"}, deep=True).get_keys() == ["b"]
    assert simple.get_keys() == ["a"]
    for held in (store, simple):
        with pytest.raises(ValidationError, match="frozen"):
            held.user_id = "bob"
        with pytest.raises(BadInput, match="cube"):
            held.model_copy(update={"cube": "other"})


def test_a_stop_while_messages_are_replaced_doubles_none(
    simple: MemosSimpleChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after its one commit does not matter; before it, the old messages stand."""
    simple.set_messages("a", talk(2))
    write, writes = Database.write, list[object]()

    def stopping(database: Database, work: Callable[[Connection], Any]) -> Any:
        if writes:
            raise RuntimeError("stopped")
        writes.append(work)
        return write(database, work)

    monkeypatch.setattr(Database, "write", stopping)
    simple.set_messages("a", talk(3))
    assert said(simple.get_messages("a")) == ["0", "1", "2"]
    with pytest.raises(RuntimeError, match="stopped"):
        simple.set_messages("a", talk(4))
    assert said(simple.get_messages("a")) == ["0", "1", "2"]


async def test_memory_of_llamaindex_lives_in_it(store: MemosChatStore) -> None:
    """`Memory` archives what overflows, and what it puts into messages does not pile up in the store."""
    memory = Memory.from_defaults(
        session_id="a",
        token_limit=60,
        token_flush_size=10,
        chat_store=store,
        memory_blocks=[StaticMemoryBlock(name="note", static_content=[TextBlock(text="a note")])],
    )
    await memory.aput_messages([ChatMessage("be brief", role=MessageRole.SYSTEM), *talk(2)])
    for _ in range(3):
        (first, *_) = await memory.aget()
        assert (first.content or "").count("a note") == 1
    for n in range(30):
        await memory.aput_messages(talk(2 * n + 2)[2 * n :])
    active = await store.get_messages("a")
    assert 0 < len(active) < 20
    assert active[0].role == MessageRole.USER
    assert await store.count_messages("a", None) == 63
    assert len(await memory.aget_all()) == 63
    await memory.areset()
    assert await store.get_keys() == []


def test_the_older_store_does_the_same(simple: MemosSimpleChatStore) -> None:
    """Messages by key, by plain calls."""
    assert isinstance(simple, BaseChatStore)
    for message in talk(4):
        simple.add_message("a", message)
    assert simple.get_messages("a") == talk(4)
    assert simple.get_keys() == ["a"]
    assert simple.delete_message("a", 1) == talk(4)[1]
    assert simple.delete_message("a", 3) is None
    assert simple.delete_last_message("a") == talk(4)[3]
    assert said(simple.get_messages("a")) == ["0", "2"]
    simple.set_messages("a", talk(1))
    assert said(simple.delete_messages("a")) == ["0"]
    assert simple.delete_messages("a") is None
    assert simple.delete_last_message("a") is None
    assert simple.get_messages("a") == []
    assert simple.get_keys() == []


async def test_the_older_store_has_coroutines(simple: MemosSimpleChatStore) -> None:
    """LlamaIndex's own names for them."""
    await simple.async_add_message("a", talk(1)[0])
    await simple.aset_messages("a", talk(3))
    assert said(await simple.aget_messages("a")) == ["0", "1", "2"]
    assert await simple.adelete_message("a", 0) == talk(1)[0]
    assert await simple.adelete_last_message("a") == talk(3)[2]
    assert await simple.aget_keys() == ["a"]
    assert said(await simple.adelete_messages("a")) == ["1"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:llama_index")
def test_a_memory_buffer_lives_in_it(simple: MemosSimpleChatStore) -> None:
    """`ChatMemoryBuffer` keeps its messages there."""
    buffer = ChatMemoryBuffer.from_defaults(token_limit=1000, chat_store=simple, chat_store_key="a")
    for message in talk(3):
        buffer.put(message)
    assert buffer.get() == talk(3)
    again = ChatMemoryBuffer.from_defaults(token_limit=1000, chat_store=simple, chat_store_key="a")
    assert again.get_all() == talk(3)
    again.reset()
    assert simple.get_keys() == []

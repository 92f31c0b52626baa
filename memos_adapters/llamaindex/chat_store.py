"""Chat stores of LlamaIndex over the engine's threads: one log of messages per key, of one user.

`MemosChatStore` is for `Memory(sql_store=...)`, `MemosSimpleChatStore` for `ChatMemoryBuffer(chat_store=...)`:
the two have methods of one name, in one coroutines, in the other plain. Both keep a key's messages where
`MemosMemory` keeps those of the session of that name. They remember nothing: a memory or a block does.

Messages that are handed out are new each time, so what LlamaIndex puts into them is not in the store.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store.base import BaseChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from pydantic import ConfigDict, Field, PrivateAttr

from memos_adapters._chat_log import ChatLog, Logged
from memos_adapters._identity import Memories
from memos_adapters._media import JsonValue
from memos_adapters.llamaindex.bound import Handle, Name, bound
from memos_adapters.llamaindex.messages import from_json, to_json
from memos_adapters.llamaindex.session_log import THREAD
from memos_engine import MemOS

_STATUS = "status"
_ACTIVE = MessageStatus.ACTIVE


class _Logs:
    """The logs of one user's keys. Thread-safe; changes through one of it are made one after the other."""

    def __init__(self, memories: Memories) -> None:
        """Keep them under the identity of `memories`."""
        self._memories = memories
        self._changing = threading.RLock()

    def get(
        self,
        key: str,
        status: MessageStatus | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        start = offset or 0
        found = _of(self._log(key).messages(), status)[start : None if limit is None else start + limit]
        return _told(found)

    def count(self, key: str, status: MessageStatus | None) -> int:
        return len(_of(self._log(key).messages(), status))

    def add(self, key: str, messages: Sequence[ChatMessage], status: MessageStatus = _ACTIVE) -> None:
        with self._changing:
            self._log(key).append([_row(message, status) for message in messages], ids=_ids(messages))

    def set(self, key: str, messages: Sequence[ChatMessage], status: MessageStatus = _ACTIVE) -> None:
        rows = [_row(message, status) for message in messages]
        with self._changing:
            log = self._log(key)
            log.append(rows, ids=_ids(rows), removing=[entry.position for entry in log.messages()])

    def delete(self, key: str, status: MessageStatus | None = None) -> list[ChatMessage]:
        with self._changing:
            return self._removed(key, _of(self._log(key).messages(), status))

    def delete_at(self, key: str, idx: int, status: MessageStatus | None) -> ChatMessage | None:
        with self._changing:
            found = _of(self._log(key).messages(), status)
            if not -len(found) <= idx < len(found):
                return None
            return self._removed(key, [found[idx]])[0]

    def delete_oldest(self, key: str, n: int) -> list[ChatMessage]:
        with self._changing:
            return self._removed(key, _of(self._log(key).messages(), _ACTIVE)[: max(n, 0)])

    def archive_oldest(self, key: str, n: int) -> list[ChatMessage]:
        with self._changing:
            log = self._log(key)
            oldest = _of(log.messages(), _ACTIVE)[: max(n, 0)]
            for entry in oldest:
                log.replace(entry.position, {**entry.value, _STATUS: MessageStatus.ARCHIVED.value})
            return _told(oldest)

    def keys(self) -> list[str]:
        threads = self._memories.threads().threads(prefix=THREAD)
        return [thread.name.removeprefix(THREAD) for thread in threads if thread.entries]

    def _log(self, key: str) -> ChatLog:
        return ChatLog(self._memories.threads(), f"{THREAD}{key}")

    def _removed(self, key: str, entries: Sequence[Logged]) -> list[ChatMessage]:
        told = _told(entries)
        if entries:
            self._log(key).remove([entry.position for entry in entries])
        return told


class _OfOneUser(Handle):
    """Whose messages a store keeps."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    memos: MemOS = Field(exclude=True, repr=False, frozen=True)
    user_id: Name | None = Field(default=None, frozen=True)
    agent_id: Name | None = Field(default=None, frozen=True)

    _logs: _Logs = PrivateAttr()

    def __init__(self, memos: MemOS, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        """Keep the messages of one user.

        Raises:
            IdentityMissing: neither `memos` nor a name says whose they are.
        """
        fields: dict[str, Any] = {"memos": memos, "user_id": user_id, "agent_id": agent_id}
        super().__init__(**fields)
        self._logs = _Logs(bound(memos, user_id=user_id, agent_id=agent_id))


class MemosChatStore(_OfOneUser, AsyncDBChatStore):
    """Messages by key for `Memory`, active or archived, of one user; an index counts active messages."""

    def __init__(self, memos: MemOS, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        """Keep the messages of one user.

        Raises:
            IdentityMissing: neither `memos` nor a name says whose they are.
        """
        super().__init__(memos, user_id=user_id, agent_id=agent_id)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosChatStore"

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = _ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Messages in order; of every status when it is None."""
        return await asyncio.to_thread(self._logs.get, key, status, limit, offset)

    async def count_messages(self, key: str, status: MessageStatus | None = _ACTIVE) -> int:
        """How many there are."""
        return await asyncio.to_thread(self._logs.count, key, status)

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = _ACTIVE) -> None:
        """Add a message at the end; durable when it returns."""
        await asyncio.to_thread(self._logs.add, key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = _ACTIVE
    ) -> None:
        """Add messages at the end, all or none; durable when it returns."""
        await asyncio.to_thread(self._logs.add, key, messages, status)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = _ACTIVE
    ) -> None:
        """Put these in the place of all messages of the key, whatever their status."""
        await asyncio.to_thread(self._logs.set, key, messages, status)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Erase and return the active message at an index; None when there is none."""
        return await asyncio.to_thread(self._logs.delete_at, key, idx, _ACTIVE)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Erase all messages of a status, or all."""
        await asyncio.to_thread(self._logs.delete, key, status)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Erase and return the first `n` active messages."""
        return await asyncio.to_thread(self._logs.delete_oldest, key, n)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive and return the first `n` active messages."""
        return await asyncio.to_thread(self._logs.archive_oldest, key, n)

    async def get_keys(self) -> list[str]:
        """The keys that have messages, sorted."""
        return await asyncio.to_thread(self._logs.keys)


class MemosSimpleChatStore(_OfOneUser, BaseChatStore):
    """Messages by key for `ChatMemoryBuffer` and its like, of one user. What is archived counts as any other."""

    def __init__(self, memos: MemOS, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        """Keep the messages of one user.

        Raises:
            IdentityMissing: neither `memos` nor a name says whose they are.
        """
        super().__init__(memos, user_id=user_id, agent_id=agent_id)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosSimpleChatStore"

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Put these in the place of the key's messages."""
        self._logs.set(key, messages)

    def get_messages(self, key: str) -> list[ChatMessage]:
        """Messages in order."""
        return self._logs.get(key)

    def add_message(self, key: str, message: ChatMessage) -> None:
        """Add a message at the end; durable when it returns."""
        self._logs.add(key, [message])

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Erase and return the key's messages; None when there are none."""
        return self._logs.delete(key) or None

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Erase and return the message at an index; None when there is none."""
        return self._logs.delete_at(key, idx, None)

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Erase and return the last message; None when there is none."""
        return self._logs.delete_at(key, -1, None)

    def get_keys(self) -> list[str]:
        """The keys that have messages, sorted."""
        return self._logs.keys()


def _ids(messages: Sequence[object]) -> list[str]:
    """A new id for each: a memory knows a message by it."""
    return [uuid4().hex for _ in messages]


def _row(message: ChatMessage, status: MessageStatus) -> dict[str, JsonValue]:
    value = to_json(message)
    return value if status == _ACTIVE else {**value, _STATUS: status.value}


def _of(entries: Sequence[Logged], status: MessageStatus | None) -> list[Logged]:
    """The entries of a status; all when it is None."""
    if status is None:
        return list(entries)
    return [entry for entry in entries if entry.value.get(_STATUS, _ACTIVE.value) == status.value]


def _told(entries: Sequence[Logged]) -> list[ChatMessage]:
    return [from_json(entry.value) for entry in entries]

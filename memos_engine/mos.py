"""MOS: the calls that the published MemOS shows, over this engine: `MOS.simple()`, `add`, `search`.

Each user has one cube, which only that user's calls reach. There are no servers and no keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from memos_engine.cube import MemCube
from memos_engine.engine import MemOS
from memos_engine.errors import BadInput
from memos_engine.items import CaptureResult, Hit, MemoryItem, Message, Scope
from memos_engine.ports import Embedder

DEFAULT_ROOT = Path(".memos")
DEFAULT_USER = "root"
"""The user that the published system calls `root`."""
DEFAULT_CUBE = "default"
TOP_K = 5
_KEYS = ("role", "content", "message_id", "name", "chat_time")


class MOS:
    """The published front: messages in, memories out, per user."""

    def __init__(self, memos: MemOS, *, user_id: str = DEFAULT_USER) -> None:
        """Speak the published names over an open MemOS; `user_id` acts where a call names none."""
        self._memos = memos
        self._user_id = user_id

    @classmethod
    def simple(
        cls, path: str | Path = DEFAULT_ROOT, *, embedder: Embedder | None = None, user_id: str = DEFAULT_USER
    ) -> Self:
        """Open or create memories in folder `path` with every default.

        Raises:
            StoreError: the folder cannot be used; the leaf says why.
        """
        return cls(MemOS.open(path, embedder=embedder), user_id=user_id)

    def add(
        self,
        messages: Sequence[Message | Mapping[str, object]] | None = None,
        memory_content: str | None = None,
        *,
        user_id: str | None = None,
        mem_cube_id: str = DEFAULT_CUBE,
        session_id: str | None = None,
    ) -> CaptureResult | MemoryItem:
        """Capture messages, or add one memory, for a user; durable when it returns.

        Args:
            messages: Message objects, or the published form {"role", "content"} with, if there are,
                "message_id", "name" and "chat_time" (ISO 8601 with a zone). Other keys are passed over, and
                so are messages with no content, which only call tools.
            memory_content: A text to keep as it is. Exactly one of the two is given.
            user_id: Whose memory.
            mem_cube_id: Name of one of the user's cubes.
            session_id: The conversation the messages belong to.

        Raises:
            BadInput: neither or both are given, or something cannot be taken.
            StoreError: nothing was stored.
        """
        if (messages is None) == (memory_content is None):
            raise BadInput("add needs either messages=[...] or memory_content='...'")
        if messages is None:
            return self._cube(user_id, mem_cube_id).add(memory_content or "")
        said = [_message(message) for message in messages if not _is_silent(message)]
        return self._cube(user_id, mem_cube_id).capture(said, thread=session_id or "")

    def search(
        self, query: str, *, user_id: str | None = None, mem_cube_id: str = DEFAULT_CUBE, top_k: int = TOP_K
    ) -> dict[str, list[dict[str, object]]]:
        """The best memories of a user, in the published form: {"text_mem": [{"cube_id", "memories": [...]}]}.

        Raises:
            BadInput: the query or `top_k` cannot be taken.
        """
        cube = self._cube(user_id, mem_cube_id)
        hits: list[Hit] = cube.search(query, limit=top_k)
        memories: list[dict[str, object]] = [
            {
                "id": hit.item.id,
                "memory": hit.item.text,
                "score": hit.score,
                "why": [str(reason) for reason in hit.why],
                "metadata": {
                    "type": hit.item.kind,
                    "speaker": hit.item.speaker,
                    "event_at": hit.item.event_at,
                },
            }
            for hit in hits
        ]
        return {"text_mem": [{"cube_id": cube.name, "memories": memories}]}

    def close(self) -> None:
        """Close the memories."""
        self._memos.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cube(self, user_id: str | None, name: str) -> MemCube:
        return self._memos.acting_as(Scope(user=self._user_id if user_id is None else user_id)).cube(name)


def _is_silent(message: Message | Mapping[str, object]) -> bool:
    """Whether a message in the published form says nothing, as one that only calls tools."""
    return isinstance(message, Mapping) and "content" in message and message["content"] in (None, "")


def _message(message: Message | Mapping[str, object]) -> Message:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise BadInput(f"a message is a {type(message).__name__}: hand over {{'role': ..., 'content': ...}}")
    known = {name: message[name] for name in _KEYS if message.get(name) is not None}
    texts = {name: value for name, value in known.items() if isinstance(value, str)}
    if texts != known or not {"role", "content"} <= set(texts):
        raise BadInput(
            f"message {sorted(message)!r}: hand over str values for role, content, message_id, name, chat_time"
        )
    try:
        at = datetime.fromisoformat(texts["chat_time"]) if "chat_time" in texts else None
    except ValueError as exc:
        raise BadInput(
            f"chat_time {texts['chat_time']!r} is no ISO 8601 time: write 2025-05-08T13:56:00+00:00"
        ) from exc
    return Message(texts["role"], texts["content"], texts.get("message_id"), texts.get("name"), at)

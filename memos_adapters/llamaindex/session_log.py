"""One session's messages as a memory of LlamaIndex keeps them: each under an id of its own, in order.

LlamaIndex's messages have no id, and its agents hand over whole histories again and again. A message that
is put is new, whatever it says; one that comes with a history is the one that was there before, by role and
words. Of messages that have left, a hash stays beside their id, so that they are known when they come back.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage

from memos_adapters._chat_log import ChatLog, Logged
from memos_adapters._media import JsonValue
from memos_adapters.llamaindex.messages import from_json, to_json, words_of
from memos_engine import Threads

THREAD = "llamaindex/"
"""Before the session's id: the thread of its messages."""
_LEFT = "chat-left/"


class SessionLog:
    """One session's messages. Durable when a call returns; two that change it at once are the caller's to order."""

    def __init__(self, threads: Threads, session_id: str) -> None:
        """Speak for `session_id`, which is made by its first message."""
        self._threads = threads
        self._log = ChatLog(threads, f"{THREAD}{session_id}")
        self._left = f"{_LEFT}{session_id}"

    def entries(self) -> list[Logged]:
        """All messages in order.

        Raises:
            NotFound: bytes of a message are gone.
        """
        return self._log.messages()

    def put(self, messages: Sequence[ChatMessage]) -> list[Logged]:
        """Add new messages, all or none, and return them as they are logged."""
        return self._append([to_json(message) for message in messages], [uuid4().hex for _ in messages])

    def set(self, messages: Sequence[ChatMessage]) -> list[Logged]:
        """Make these the messages, all or none, and return those that were logged anew.

        Those that stood there at the start and still do are left alone.
        """
        values = [to_json(message) for message in messages]
        old = self._log.messages()
        same = 0
        while same < min(len(old), len(values)) and old[same].value == values[same]:
            same += 1
        self._remember(old[same:])
        ids = self._known([_mark(message) for message in messages[same:]], {entry.id for entry in old[:same]})
        return self._append(values[same:], ids, removing=[entry.position for entry in old[same:]])

    def clear(self) -> None:
        """Erase all messages, from the disk too."""
        self._remember(self._log.messages())
        self._log.clear()

    def _append(
        self, values: Sequence[dict[str, JsonValue]], ids: Sequence[str], *, removing: Sequence[int] = ()
    ) -> list[Logged]:
        places = self._log.append(values, ids=ids, removing=removing)
        return [Logged(*entry) for entry in zip(places, ids, values, strict=True)]

    def _remember(self, entries: Sequence[Logged]) -> None:
        """Note the ids of messages that are about to leave; one that stays all the same is told by its log."""
        named = [entry for entry in entries if entry.id is not None]
        marks: list[dict[str, JsonValue]] = [{"mark": _mark(from_json(entry.value))} for entry in named]
        self._threads.append(self._left, marks, ids=[entry.id for entry in named])

    def _known(self, marks: Sequence[str], taken: Collection[str | None]) -> list[str]:
        """For each mark the id under which it once left, the first one first, or a new one."""
        left: defaultdict[str, deque[str]] = defaultdict(deque)
        for entry in self._threads.list(self._left) if marks else []:
            if entry.id is not None and entry.id not in taken:
                left[str(entry.value["mark"])].append(entry.id)
        return [left[mark].popleft() if left[mark] else uuid4().hex for mark in marks]


def _mark(message: ChatMessage) -> str:
    """The hash of what makes a message the same one when its history is handed over again."""
    said = json.dumps([message.role.value, words_of(message)])
    return hashlib.sha256(said.encode()).hexdigest()

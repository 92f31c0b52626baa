"""A chat history of LangChain: the log of one session, which also becomes its user's memory.

The log is durable before memory is. How far memory has come is written beside the log, so that what one
call could not capture, or a killed process had no time to, is captured by the next call that adds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from uuid import uuid4

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, ToolMessage

from memos_adapters._capture import REMEMBERED_ROLES, captured
from memos_adapters._chat_log import ChatLog, Logged
from memos_adapters._identity import Isolation, Memories
from memos_adapters._langchain_messages import from_json, to_engine, to_json
from memos_adapters._media import JsonValue
from memos_engine import BadLimit, Blob, Conflict, IdentityMissing, MemOS

_CAPTURED = "captured"
"""Space of the blob that says up to which message memory has come, and mark of what it never gets."""
_UPTO = "upto"


class MemosChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, complete: tool calls, content blocks, images and files included.

    Two users' sessions of one name are two sessions. `messages` holds what was added and nothing else:
    what is remembered comes by a retriever, a middleware or `MemosMemory`.

    Adding a message appends it. One whose id the log holds already, with the same content, is passed over;
    with other content it is added beside the first. One without an id is always new, and so is what
    follows it in the same call; but when adding raised, the same objects may be added to this history
    again, and are there once.

    In a `RunnableWithMessageHistory`, prefer `history_messages_key`: without it LangChain tells the turn's
    own messages from the earlier ones by how many `messages` there were, which is right with a `limit`
    too, but not when two turns of one session run at once. It also logs what adding raises and goes on:
    a turn that could not be captured is captured with the next one, a turn that could not be logged is lost.
    """

    def __init__(
        self,
        memos: MemOS,
        session_id: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        default_user: str | None = None,
        cube: str = "memories",
        isolation: Isolation = "user",
        capture: bool = True,
        roles: frozenset[str] = REMEMBERED_ROLES,
        limit: int | None = None,
    ) -> None:
        """Speak for a session; nothing is read or written yet.

        Args:
            memos: What `MemOS.open` returned.
            session_id: The session's name, unique per user.
            user_id: Whose session.
            agent_id: Whose session, where there is no user; else in which agent's.
            default_user: Who is meant when there is neither.
            cube: Name of the cube of each user that messages are captured into.
            isolation: What has a cube of its own.
            capture: Make what is added memory too. False: it never becomes memory by this session's log.
            roles: Whose words are captured, of `user`, `assistant`, `system` and `tool`.
            limit: Only so many of the last messages are in `messages`, and fewer where they would begin
                within a turn: with an answer, or with a tool's output without its call.

        Raises:
            IdentityMissing: nobody is named.
            BadInput: an argument cannot be taken.
        """
        super().__init__()
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise BadLimit(f"limit is {limit!r}: hand over how many messages, at least 1, or None for all")
        self._memories = Memories(
            memos, user_id=user_id, agent_id=agent_id, session_id=session_id, default_user=default_user,
            cube=cube, isolation=isolation,
        )  # fmt: skip
        if isolation == "agent" and self._memories.scope().agent is None:
            raise IdentityMissing("memory is kept apart by agent, and no agent_id is named: name it")
        self._memories.scope()
        self._session = self._memories.thread()
        self._capture = capture
        self._roles = roles
        self._limit = limit
        self._unsure: dict[int, tuple[BaseMessage, str]] = {}

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override] # -- the base's attribute may do I/O
        """The messages in order, or the last `limit` of them.

        Raises:
            StoreError: they cannot be read.
        """
        log = self._log()
        if self._limit is None:
            return [from_json(each.value) for each in log.messages()]
        last = log.messages(limit=self._limit + 1, newest=True)[::-1]
        found: list[BaseMessage] = [from_json(each.value) for each in last]
        return found if len(found) <= self._limit else _whole_turns(found[1:])

    async def aget_messages(self) -> list[BaseMessage]:
        """As `messages`."""
        return await asyncio.to_thread(lambda: self.messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages, all or none, and capture them; durable when it returns.

        Raises:
            BadInput: a message is not JSON, as a tool's artifact may be; none was added.
            StoreError: they were not added, or not captured.
            AccessDenied: they were added, but this user may not write to the cube.
        """
        named = list(zip(messages, self._names(messages), strict=True))
        if not named:
            return
        try:
            self._append(named)
            if self._capture:
                self._catch_up()
        except BaseException:
            self._unsure |= {id(message): (message, name) for message, name in named}
            raise
        for message, _ in named:
            self._unsure.pop(id(message), None)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """As `add_messages`."""
        await asyncio.to_thread(self.add_messages, messages)

    def clear(self) -> None:
        """Erase the log of this session, from the disk too.

        What was captured of it stays in memory, where `MemCube.forget` erases it.
        """
        self._log().clear()

    async def aclear(self) -> None:
        """As `clear`."""
        await asyncio.to_thread(self.clear)

    def _log(self) -> ChatLog:
        return ChatLog(self._memories.threads(), self._thread)

    @property
    def _thread(self) -> str:
        return f"chat/{self._session}"

    def _names(self, messages: Sequence[BaseMessage]) -> list[str]:
        """What each message is called in the log."""
        names = list[str]()
        new = ""
        for message in messages:
            _, known = self._unsure.get(id(message), (None, ""))
            if not known and not message.id:
                known = new = uuid4().hex
            names.append(known or (f"{new}/{message.id}" if new else str(message.id)))
        return names

    def _append(self, named: Sequence[tuple[BaseMessage, str]]) -> None:
        values = [self._value(message) for message, _ in named]
        names = [name for _, name in named]
        try:
            self._log().append(values, ids=names)
        except Conflict:
            beside = [f"{name}~{_digest(value)}" for name, value in zip(names, values, strict=True)]
            self._log().append(values, ids=beside)

    def _value(self, message: BaseMessage) -> dict[str, JsonValue]:
        value = to_json(message)
        return value if self._capture else {**value, _CAPTURED: False}

    def _catch_up(self) -> None:
        """Capture what the log holds and memory does not."""
        threads, log = self._memories.threads(), self._log()
        known = threads.blobs(self._thread, _CAPTURED, keys=[_UPTO])
        at, _, id_ = known[0].data.decode().partition(" ") if known else ("0", "", "")
        new = log.messages(after=max(int(at) - 1, 0))
        if known and new and (new[0].position, new[0].id) == (int(at), id_):
            del new[0]
        elif known:  # cleared while it was captured: this is another log
            new = log.messages()
        if not new:
            return
        said = [_named(each) for each in new if each.value.get(_CAPTURED) is not False]
        captured(self._memories.cube(), to_engine(said, self._roles), self._session)
        upto = f"{new[-1].position} {new[-1].id}".encode()
        threads.put_blobs(self._thread, [Blob(_CAPTURED, _UPTO, "1", "", upto)])


def _named(logged: Logged) -> BaseMessage:
    """A message of the log under an id by which it is captured once."""
    message = from_json(logged.value)
    if not message.id:
        message.id = logged.id
    return message


def _whole_turns(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages from the first that begins a turn on."""
    starts = (
        n for n, m in enumerate(messages) if not isinstance(m, (AIMessage, ToolMessage, FunctionMessage))
    )
    return list(messages[next(starts, len(messages)) :])


def _digest(value: JsonValue) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

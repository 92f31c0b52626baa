"""A session's chat history that also remembers: what is put is captured at once, what is asked is recalled.

It knows messages, a session's log and a cube; what fits into a prompt is `window`'s to say. Recalled memories
stand in the copies that `get` returns, never in the log, so that memory is not made of memory.

LlamaIndex writes a workflow's state out and reads it back between two runs of one context. `from_dict` finds
the memory that is still alive in this process. In another process it makes one without its MemOS, which is
falsy: an agent then takes the memory that it is handed, as in `agent.run(..., ctx=ctx, memory=memory)`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Self, Unpack
from uuid import uuid4
from weakref import WeakValueDictionary

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory.memory import InsertMethod
from llama_index.core.memory.types import BaseMemory
from llama_index.core.utils import get_tokenizer
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

from memos_adapters._capture import REMEMBERED_ROLES, captured
from memos_adapters._chat_log import Logged
from memos_adapters._identity import Isolation, Memories
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, RecallCounts, Recaller
from memos_adapters._text import TEMPLATE, check_template
from memos_adapters.llamaindex.bound import Handle, Name, as_name, bound
from memos_adapters.llamaindex.memory_settings import MEMORY_SHARE, TOKEN_LIMIT, MemorySettings
from memos_adapters.llamaindex.messages import from_json, own_part, to_engine, words_of
from memos_adapters.llamaindex.prompt import composed
from memos_adapters.llamaindex.session_log import SessionLog
from memos_engine import AccessDenied, BadInput, Context, MemCube, MemOS, MemosError, Message

_log = logging.getLogger(__name__)
_IDENTITY = ("session_id", "user_id", "agent_id", "cube", "isolation")
_alive: WeakValueDictionary[str, MemosMemory] = WeakValueDictionary()


def _tokens(text: str) -> list[int]:
    return list(get_tokenizer()(text))


class _Question(NamedTuple):
    """What is recalled for a prompt."""

    text: str
    turn: Hashable
    """The same for every `get` of one turn."""
    logged: bool
    """The last user message asks it. Else it will be logged later, or never."""


class MemosMemory(Handle, BaseMemory):
    """The history of one session of one user, with what MemOS remembers of them put in."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    memos: MemOS | None = Field(default=None, exclude=True, repr=False, frozen=True)
    session_id: Name = Field(frozen=True)
    user_id: Name | None = Field(default=None, frozen=True)
    agent_id: Name | None = Field(default=None, frozen=True)
    cube: str = Field(default="memories", frozen=True)
    isolation: Isolation = Field(default="user", frozen=True)
    token_limit: int = Field(default=TOKEN_LIMIT, ge=1)
    insert_method: InsertMethod = InsertMethod.USER
    budget_tokens: int = Field(default=BUDGET_TOKENS, ge=1)
    min_score: float | None = Field(default=None, ge=0, le=1)
    timeout_s: float | None = TIMEOUT_S
    strict: bool = False
    template: str = TEMPLATE
    roles: frozenset[str] = REMEMBERED_ROLES
    tokenizer_fn: Callable[[str], Sequence[Any]] = Field(default=_tokens, exclude=True, repr=False)

    _memories: Memories | None = PrivateAttr(default=None)
    _recaller: Recaller = PrivateAttr(default_factory=Recaller)
    _changing: threading.RLock = PrivateAttr(default_factory=threading.RLock)
    _captured_to: int | None = PrivateAttr(default=None)  # None: what the cube holds is not known yet
    _resets: int = PrivateAttr(default=0)
    _failed_captures: int = PrivateAttr(default=0)
    _name: str = PrivateAttr(default="")

    def __init__(
        self, memos: MemOS, session_id: str | None = None, **settings: Unpack[MemorySettings]
    ) -> None:
        """Remember for one user, in one session.

        Args:
            memos: What `MemOS.open` or `acting_as` returned.
            session_id: The conversation; its history goes on where it was. None starts a new one.
            **settings: `user_id` and the others of `MemorySettings`.

        Raises:
            IdentityMissing: neither `memos` nor `user_id` or `agent_id` says whose memory it is.
            BadInput: `memos` is no MemOS, or a setting cannot be taken.
        """
        fields: dict[str, Any] = {
            "memos": _checked(memos),
            "session_id": uuid4().hex if session_id is None else session_id,
            **settings,
        }
        try:
            super().__init__(**fields)
        except ValidationError as exc:
            raise BadInput(f"a setting cannot be taken, see MemorySettings: {exc}") from exc
        check_template(self.template)
        self._memories = bound(
            memos,
            user_id=self.user_id,
            agent_id=self.agent_id,
            session_id=self.session_id,
            cube=self.cube,
            isolation=self.isolation,
        )
        self._recaller = Recaller(
            budget_tokens=max(1, min(self.budget_tokens, int(self.token_limit * MEMORY_SHARE))),
            count_tokens=self._count,
            min_score=self.min_score,
            timeout_s=self.timeout_s,
            strict=self.strict,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosMemory"

    @classmethod
    def from_defaults(  # type: ignore[override] # -- the base takes anything and promises nothing
        cls,
        memos: MemOS | None = None,
        session_id: str | None = None,
        chat_history: Sequence[ChatMessage] | None = None,
        **settings: Unpack[MemorySettings],
    ) -> Self:
        """As the constructor; `chat_history` becomes the session's.

        Raises:
            IdentityMissing, BadInput: as the constructor.
        """
        memory = cls(_checked(memos), session_id, **settings)
        if chat_history is not None:
            memory.set(list(chat_history))
        return memory

    def __bool__(self) -> bool:
        """Whether it has its MemOS: see `from_dict`."""
        return self.memos is not None

    @property
    def counts(self) -> RecallCounts:
        """What became of the recalls so far."""
        return self._recaller.counts

    @property
    def failed_captures(self) -> int:
        """How often a capture failed; the next `put` makes up for it."""
        return self._failed_captures

    # Read

    def get(self, input: str | ChatMessage | None = None, **kwargs: Any) -> list[ChatMessage]:
        """The newest part of the history within the token limit, with recalled memories put in.

        Args:
            input: What is asked. None: the last user message.
            **kwargs: `initial_token_count` is what else will stand in the prompt; others tell nothing.

        Raises:
            AccessDenied: the user may not read their memory any more.
        """
        entries, cube, question = self._opened(input)
        context = self._recaller.recall(cube, question.text, question.turn)
        return self._prompt(entries, context, question, kwargs)

    async def aget(self, input: str | ChatMessage | None = None, **kwargs: Any) -> list[ChatMessage]:
        """As `get`, off the event loop."""
        entries, cube, question = await asyncio.to_thread(self._opened, input)
        context = await self._recaller.arecall(cube, question.text, question.turn)
        return await asyncio.to_thread(self._prompt, entries, context, question, kwargs)

    def get_all(self) -> list[ChatMessage]:
        """The whole history, without memories."""
        return [from_json(entry.value) for entry in self._session().entries()]

    # Write

    def put(self, message: ChatMessage) -> None:
        """Add a message; it is logged and captured when this returns."""
        self.put_messages([message])

    def put_messages(self, messages: Sequence[ChatMessage]) -> None:
        """Add messages in order; they are logged and captured when this returns.

        When capture fails they are logged all the same and captured by the next `put`; `failed_captures` counts it.

        Raises:
            StoreError: they could not be logged.
            AccessDenied: the user may not write to their memory any more.
            MemosError: `strict` only: what else failed.
        """
        mine = self._own(messages)
        if not mine:
            return
        with self._changing:
            self._capture(self._session().put(mine))

    def set(self, messages: Sequence[ChatMessage]) -> None:
        """Make these messages the history, as agents do that are handed one.

        What stood there at the start and still does is left alone. A message that comes back is known by its
        role and words, so nothing is captured twice. Memories of what is no longer in the history stay.
        """
        mine = self._own(messages)
        with self._changing:
            self._resets += 1
            self._capture(self._session().set(mine))

    def reset(self) -> None:
        """Erase the history. What was remembered of it stays: `MemCube.forget` erases memories."""
        with self._changing:
            self._resets += 1
            self._session().clear()
            self._captured_to = None

    # Write out and read back

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Identity and settings as JSON, without the MemOS and without messages, which are stored already."""
        if self.memos is not None and _alive.get(self._name) is not self:
            self._name = secrets.token_hex(16)  # not to be guessed: it opens this memory
            _alive[self._name] = self
        fields = self.model_dump(mode="json", **kwargs)
        return {**fields, "roles": sorted(self.roles), "alive_as": self._name}

    @classmethod
    def from_dict(cls, data: dict[str, Any], memos: MemOS | None = None, **kwargs: Any) -> Self:
        """The memory that `to_dict` wrote.

        Args:
            data: Trusted as far as `memos` is handed over: it says whose memory it is.
            memos: The MemOS to open it in. None: the very memory, if it is alive in this process; else one
                without its MemOS, which is falsy and raises BadInput when it is used.
            **kwargs: Settings in place of those in `data`.

        Raises:
            IdentityMissing, BadInput: as the constructor.
            AccessDenied: the data name a memory that is alive, and say that it is another's.
        """
        settings = {name: value for name, value in {**data, **kwargs}.items() if name in cls.model_fields}
        if memos is not None:
            return cls(memos, **settings)
        alive = _alive.get(str(data.get("alive_as")))
        if isinstance(alive, cls):
            _check_same(alive, settings)
            return alive
        _log.warning("a memory was read back without its MemOS", extra={"action": "from_dict"})
        memory = cls.__new__(cls)
        super().__init__(memory, **settings)
        return memory

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle settings alone, as `to_dict` does."""
        return type(self).from_dict, (self.to_dict(),)

    # Inside

    def _count(self, text: str) -> int:
        return len(self.tokenizer_fn(text))

    def _bound(self) -> Memories:
        if self._memories is None:
            raise BadInput(
                "this memory was read back in another process and has no MemOS: hand the memory over anew, as in "
                "agent.run(..., ctx=ctx, memory=memory), or use MemosMemory.from_dict(data, memos=memos)"
            )
        return self._memories

    def _session(self) -> SessionLog:
        return SessionLog(self._bound().threads(), self.session_id)

    def _own(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        parts = (own_part(message, self.template) for message in messages)
        return [part for part in parts if part is not None]

    def _opened(self, input: str | ChatMessage | None) -> tuple[list[Logged], MemCube, _Question]:
        entries = self._session().entries()
        return entries, self._bound().cube(), self._asked(entries, input)

    def _asked(self, entries: Sequence[Logged], input: str | ChatMessage | None) -> _Question:
        """What is asked: `input`, or else the last user message; often the two are one."""
        last = next(
            (entry for entry in reversed(entries) if entry.value.get("role") == MessageRole.USER.value), None
        )
        message = None if last is None else from_json(last.value)
        wanted = words_of(input) if isinstance(input, ChatMessage) else input
        if message is None or last is None or wanted not in (None, message.content, words_of(message)):
            following = entries[-1].position + 1 if entries else 1  # where it will be logged, most likely
            return _Question(wanted or "", (self._resets, following), logged=False)
        return _Question(words_of(message), (self._resets, last.position), logged=True)

    def _prompt(
        self, entries: Sequence[Logged], context: Context, question: _Question, kwargs: dict[str, Any]
    ) -> list[ChatMessage]:
        return composed(
            entries,
            context,
            thread=self.session_id,
            limit=self.token_limit - int(kwargs.get("initial_token_count") or 0),
            count=self._count,
            template=self.template,
            into_question=self.insert_method is InsertMethod.USER and question.logged,
        )

    def _capture(self, fresh: Sequence[Logged]) -> None:
        """Capture what was just logged, and what the cube may lack from before.

        A question at its end is recalled before it is captured: else it would be its own best answer.
        """
        if not fresh:
            return
        if fresh[-1].value["role"] == MessageRole.USER.value:
            question = self._asked(fresh, None)
            self._recaller.recall(self._bound().cube(), question.text, question.turn)
        wanted = fresh
        if self._captured_to is None or fresh[0].position != self._captured_to + 1:
            wanted = self._session().entries()
        try:
            captured(self._bound().cube(), self._said(wanted), self.session_id)
        except AccessDenied:
            raise
        except Exception as exc:
            self._failed_captures += 1
            if self.strict:
                raise
            told = f": {exc}" if isinstance(exc, MemosError) else ""  # a foreign one may hold what was said
            _log.warning(
                "what was said is logged, and not captured yet",
                extra={"action": "capture", "error": f"{type(exc).__name__}{told}"},
            )
        else:
            self._captured_to = fresh[-1].position

    def _said(self, entries: Sequence[Logged]) -> list[Message]:
        return [
            turn
            for entry in entries
            for turn in to_engine(from_json(entry.value), self.roles, id=entry.id, template=self.template)
        ]


def _checked(memos: object) -> MemOS:
    if not isinstance(memos, MemOS):
        raise BadInput(
            f"memos is a {type(memos).__name__}: hand over what MemOS.open(path) returns, as in "
            "MemosMemory(memos, session_id, user_id=...)"
        )
    return memos


def _check_same(memory: MemosMemory, said: dict[str, Any]) -> None:
    """Refuse data that say a memory is another one.

    Raises:
        AccessDenied: they do.
    """
    other = [name for name in _IDENTITY if name in said and as_name(said[name]) != getattr(memory, name)]
    if other:
        told = ", ".join(f"{name}={said[name]!r}" for name in other)
        raise AccessDenied(
            f"the memory that was read back is not the one of {told}: hand over the data as to_dict returned "
            "them, or the MemOS to open another memory in, as in from_dict(data, memos=memos)"
        )

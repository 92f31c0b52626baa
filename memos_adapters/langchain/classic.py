"""Memory for LangChain's classic chains: what is remembered about the input, and the last turns.

For new code LangChain has agents with middleware; this serves `ConversationChain`, `LLMChain`,
`AgentExecutor` and every other chain that takes a `memory=`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_classic.base_memory import BaseMemory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, get_buffer_string
from pydantic import Field, PrivateAttr

from memos_adapters._capture import REMEMBERED_ROLES, captured
from memos_adapters._identity import Isolation, Memories
from memos_adapters._langchain_messages import to_engine, words_of
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, RecallCounts, Recaller
from memos_adapters._text import TEMPLATE, check_template, rendered
from memos_adapters.langchain._config import configurable
from memos_adapters.langchain.chat_history import MemosChatMessageHistory
from memos_engine import BadInput, BadLimit, MemCube, MemOS

SESSION = "default"
"""The session of calls that name none."""
_NOT_SAID = frozenset({"stop", "intermediate_steps"})
"""Keys of chains that are neither a question nor an answer."""
_ANSWERS = ("output", "text", "response", "answer", "result")
"""Keys of the answer, where a chain's outputs have several."""


class MemosMemory(BaseMemory):
    """Fills a prompt's `{history}`: memories about the input, then the session's last turns.

    Each turn of the chain is added to the session's log and captured into the user's memory. Whose that
    is must be said here, by `user_id` or `default_user`: LangChain shows a memory the config of a call
    only when the chain runs inside of another runnable, and then its `user_id` and `session_id` count too.

    Args:
        memos: What `MemOS.open` returned, or with `window=0` a `MemCube` of it.
        **fields: The fields below.

    Raises:
        BadInput: a field cannot be taken.
    """

    memos: Any = Field(exclude=True, repr=False)
    user_id: str | None = None
    """Whose memory, for good. None: each call says it."""
    agent_id: str | None = None
    session_id: str | None = None
    """The session, for good. None: each call says it, or is of the session `default`."""
    default_user: str | None = None
    """Who is meant when a call names nobody."""
    cube: str = "memories"
    """Name of the cube of each user."""
    isolation: Isolation = "user"
    """What has a cube of its own."""
    memory_key: str = "history"
    """The variable of the prompt that is filled."""
    input_key: str | None = None
    """Which input is what the user said. None: the only one beside the memory's own."""
    output_key: str | None = None
    """Which output is the answer. None: the only one, or else `output`, `text`, `response`, `answer`, `result`."""
    return_messages: bool = False
    """Fill with messages, for a `MessagesPlaceholder`; else with text."""
    window: int = 5
    """How many of the session's last turns, a question with its answer each, stand behind the memories.
    0: none, and no log is kept."""
    human_prefix: str = "Human"
    ai_prefix: str = "AI"
    template: str = TEMPLATE
    """What stands around the memories, which take the place of `{memories}`."""
    budget_tokens: int = BUDGET_TOKENS
    """The memories never cost more, as in `MemCube.recall`."""
    count_tokens: Callable[[str], int] | None = Field(default=None, exclude=True, repr=False)
    min_score: float | None = None
    """As in `MemCube.recall`. None: its default."""
    timeout_s: float | None = TIMEOUT_S
    """Seconds after which a turn goes on without memories. None: it waits."""
    strict: bool = False
    """Raise when recall fails instead of going on without memories."""
    _recaller: Recaller = PrivateAttr()

    def __init__(self, memos: MemOS | MemCube, **fields: Any) -> None:
        super().__init__(memos=memos, **fields)  # type: ignore[call-arg] # -- it takes our fields
        self._memories()
        check_template(self.template)
        if self.window < 0:
            raise BadLimit(f"window is {self.window!r}: hand over how many turns, 0 for none")
        if self.window and isinstance(memos, MemCube):
            raise BadInput("a MemCube keeps no log of turns: hand over the MemOS and a user_id, or window=0")
        self._recaller = Recaller(
            budget_tokens=self.budget_tokens,
            count_tokens=self.count_tokens,
            min_score=self.min_score,
            timeout_s=self.timeout_s,
            strict=self.strict,
        )

    @property
    def memory_variables(self) -> list[str]:
        """The variable that is filled."""
        return [self.memory_key]

    @property
    def counts(self) -> RecallCounts:
        """What became of the recalls so far."""
        return self._recaller.counts

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the prompt's variable is filled with; without an input, the last turns alone.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not read.
            BadInput: it cannot be told which input is the question.
        """
        question, said = self._question(inputs), configurable()
        context = self._recaller.recall(self._memories().cube(said), question)
        turns = self._history(said).messages if self.window else []
        return {self.memory_key: self._filled(context.text, turns)}

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As `load_memory_variables`."""
        question, said = self._question(inputs), configurable()
        cube = await asyncio.to_thread(self._memories().cube, said)
        context = await self._recaller.arecall(cube, question)
        turns = await self._history(said).aget_messages() if self.window else []
        return {self.memory_key: self._filled(context.text, turns)}

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Add a turn to the session's log and capture it; durable when it returns.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not write.
            BadInput: it cannot be told what was said, or it is no text and no message.
        """
        self._save(self._turn(inputs, outputs), configurable())

    async def asave_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """As `save_context`."""
        await asyncio.to_thread(self._save, self._turn(inputs, outputs), configurable())

    def clear(self) -> None:
        """Erase the log of the session's turns; what was captured of them stays in memory.

        Raises:
            IdentityMissing: nothing names a user or an agent.
        """
        if self.window:
            self._history(configurable()).clear()

    async def aclear(self) -> None:
        """As `clear`."""
        if self.window:
            await self._history(configurable()).aclear()

    def _memories(self) -> Memories:
        """Made anew for each call, so that a copy or a changed field never acts as the one before."""
        return Memories(
            self.memos, user_id=self.user_id, agent_id=self.agent_id, session_id=self.session_id,
            default_user=self.default_user, cube=self.cube, isolation=self.isolation,
        )  # fmt: skip

    def _history(self, said: Mapping[str, Any]) -> MemosChatMessageHistory:
        scope = self._memories().scope(said)
        return MemosChatMessageHistory(
            self.memos, scope.session or SESSION, user_id=scope.user, agent_id=scope.agent, cube=self.cube,
            isolation=self.isolation, limit=2 * self.window,
        )  # fmt: skip

    def _save(self, turn: Sequence[BaseMessage], said: Mapping[str, Any]) -> None:
        cube = self._memories().cube(said)  # refuses who may not, before anything is written
        if self.window:
            self._history(said).add_messages(turn)
            return
        named = [message.model_copy(update={"id": message.id or uuid4().hex}) for message in turn]
        session = self._memories().scope(said).session if isinstance(self.memos, MemOS) else None
        captured(cube, to_engine(named, REMEMBERED_ROLES, self.template), session or SESSION)

    def _question(self, inputs: Mapping[str, Any]) -> str:
        if not self._own(inputs):
            return ""
        asked = [words_of(message) for message in self._said(inputs) if isinstance(message, HumanMessage)]
        return asked[-1] if asked else ""

    def _turn(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[BaseMessage]:
        key = _key(outputs, self.output_key, "output", _ANSWERS)
        return [*self._said(inputs), *_messages(outputs[key], AIMessage, key)]

    def _said(self, inputs: Mapping[str, Any]) -> list[BaseMessage]:
        key = _key(self._own(inputs), self.input_key, "input")
        return _messages(inputs[key], HumanMessage, key)

    def _own(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs without what this memory put among them."""
        return {key: value for key, value in inputs.items() if key != self.memory_key}

    def _filled(self, memories: str, turns: Sequence[BaseMessage]) -> str | list[BaseMessage]:
        block = rendered(memories, self.template)
        if self.return_messages:
            return [*([SystemMessage(block)] if block else []), *turns]
        lines = get_buffer_string(turns, self.human_prefix, self.ai_prefix)
        return "\n\n".join(part for part in (block, lines) if part)


def _key(values: Mapping[str, Any], named: str | None, what: str, likely: Sequence[str] = ()) -> str:
    """Which of a chain's inputs or outputs is meant.

    Raises:
        BadInput: it cannot be told.
    """
    keys = [key for key in values if key == named or (named is None and key not in _NOT_SAID)]
    if len(keys) > 1:
        keys = [key for key in likely if key in keys][:1]
    if len(keys) != 1:
        raise BadInput(
            f"the chain's {what}s are {sorted(values)}, and {what}_key is {named!r}: name the one to remember "
            f"with {what}_key="
        )
    return keys[0]


def _messages(value: object, kind: type[HumanMessage | AIMessage], key: str) -> list[BaseMessage]:
    """What a chain was given or gave, as messages.

    Raises:
        BadInput: it is something else.
    """
    if isinstance(value, str):
        return [kind(content=value)]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    messages = [each for each in values if isinstance(each, BaseMessage)]
    if not messages or len(messages) != len(values):
        raise BadInput(
            f"{key!r} of the chain is a {type(value).__name__}: only texts and messages are remembered, name "
            "another key with input_key= or output_key="
        )
    return messages

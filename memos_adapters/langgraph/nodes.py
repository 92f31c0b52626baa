"""Recall and capture as nodes of hand-built graphs.

    builder.add_node("recall", recall_node(memos))    # state["memories"]: a text for the prompt
    builder.add_node("model", ...)
    builder.add_node("capture", capture_node(memos))

Both run in `invoke` and in `ainvoke`, over a state that is a mapping, a dataclass or a pydantic model. They
know nothing of the state but where its messages are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.runtime import Runtime, get_runtime

from memos_adapters._capture import REMEMBERED_ROLES, captured
from memos_adapters._identity import Isolation, Memories
from memos_adapters._langchain_messages import handed_over, last_question, to_engine, words_of
from memos_adapters._langgraph_runtime import cube_for, thread_of
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, Recaller
from memos_adapters._text import TEMPLATE, check_template, own_words, rendered
from memos_engine import BadInput, BadName, MemCube, MemOS


def recall_node(
    memos: MemOS | MemCube,
    *,
    key: str = "memories",
    messages_key: str = "messages",
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    default_user: str | None = None,
    cube: str = "memories",
    isolation: Isolation = "user",
    template: str = TEMPLATE,
    budget_tokens: int = BUDGET_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
    min_score: float | None = None,
    timeout_s: float | None = TIMEOUT_S,
    strict: bool = False,
) -> Runnable[Any, dict[str, str]]:
    """A node that puts what is remembered about the last user message into the state.

    Unlike what a middleware does, this text is part of the checkpoint.

    Args:
        memos: A `MemCube` is that memory for every run. Of a `MemOS` each user has a cube of their own.
        key: Where in the state the text goes, a `str`; empty when nothing is remembered. The state must
            have it.
        messages_key: Where in the state the messages are.
        user_id: Whose memory, for good. None: the run says it, in its context or configurable.
        agent_id: The agent, for good.
        session_id: The session, for good.
        default_user: Who is meant when a run names nobody. None: such a run is refused.
        cube: Name of the cube of each user.
        isolation: What has a cube of its own.
        template: What stands around the memories.
        budget_tokens: They never cost more.
        count_tokens: As in `MemCube.recall`. None counts bytes.
        min_score: As in `MemCube.recall`. None: its default.
        timeout_s: Seconds after which the graph goes on without memories. None: it waits.
        strict: Raise when recall fails or is late, instead of going on without.

    Raises:
        BadInput: an argument cannot be taken.
    """
    memories = Memories(
        memos,
        user_id=user_id,
        agent_id=agent_id,
        session_id=session_id,
        default_user=default_user,
        cube=cube,
        isolation=isolation,
    )
    recaller = Recaller(
        budget_tokens=budget_tokens,
        count_tokens=count_tokens,
        min_score=min_score,
        timeout_s=timeout_s,
        strict=strict,
    )
    return _Recalling(memories, recaller, key, messages_key, check_template(template)).node()


def capture_node(
    memos: MemOS | MemCube,
    *,
    messages_key: str = "messages",
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    default_user: str | None = None,
    cube: str = "memories",
    isolation: Isolation = "user",
    roles: Iterable[str] = REMEMBERED_ROLES,
    template: str = TEMPLATE,
    whole_thread: bool | None = None,
) -> Runnable[Any, dict[str, Any]]:
    """A node that captures what was said and is not captured yet, durable when it is done. It changes no state.

    A node that fails fails the run; what was said is captured when the run is resumed.

    Args:
        memos: A `MemCube` is that memory for every run. Of a `MemOS` each user has a cube of their own.
        messages_key: Where in the state the messages are.
        user_id: Whose memory, for good. None: the run says it, in its context or configurable.
        agent_id: The agent, for good.
        session_id: The session, for good.
        default_user: Who is meant when a run names nobody. None: such a run is refused.
        cube: Name of the cube of each user.
        isolation: What has a cube of its own.
        roles: Whose words are captured: user, assistant, tool, system.
        template: What stands around recalled memories, which are not captured.
        whole_thread: Hand over all of the thread each time. Else the turn at hand alone, since earlier ones
            may be another user's, or sent anew under other ids: from the last user message on, with those
            just before it that have the same `name`. None: where every run is for one user, and names its
            thread.

    Raises:
        BadInput: an argument cannot be taken.
    """
    memories = Memories(
        memos,
        user_id=user_id,
        agent_id=agent_id,
        session_id=session_id,
        default_user=default_user,
        cube=cube,
        isolation=isolation,
    )
    return _Capturing(memories, messages_key, frozenset(roles), check_template(template), whole_thread).node()


@dataclass(frozen=True, slots=True)
class _Recalling:
    """What `recall_node` does."""

    memories: Memories
    recaller: Recaller
    key: str
    messages_key: str
    template: str

    def node(self) -> Runnable[Any, dict[str, str]]:
        return RunnableLambda(self._recall, afunc=self._arecall, name="recall")

    def _recall(self, state: Any) -> dict[str, str]:
        runtime = _runtime()
        cube = self._cube(runtime)
        if cube is None:
            return {self.key: ""}
        context = self.recaller.recall(cube, *self._question(state, runtime))
        return {self.key: rendered(context.text, self.template)}

    async def _arecall(self, state: Any) -> dict[str, str]:
        runtime = _runtime()
        cube = await asyncio.to_thread(self._cube, runtime)
        if cube is None:
            return {self.key: ""}
        context = await self.recaller.arecall(cube, *self._question(state, runtime))
        return {self.key: rendered(context.text, self.template)}

    def _cube(self, runtime: Runtime[Any] | None) -> MemCube | None:
        """Whose memory a run is about. None: it cannot be opened, and the run goes on without."""
        try:
            return cube_for(self.memories, runtime)
        except BadName:  # no name of anybody: as good as none
            raise
        except Exception as exc:  # noqa: BLE001 -- the graph goes on: what failed is counted and told
            self.recaller.without(exc)
            return None

    def _question(self, state: object, runtime: Runtime[Any] | None) -> tuple[str, tuple[str, str] | None]:
        """What is asked, and the turn it is asked in."""
        asked = last_question(_messages(state, self.messages_key))
        if asked is None:
            return "", None
        turn = None if asked.id is None else (thread_of(self.memories, runtime), asked.id)
        return own_words(words_of(asked), self.template), turn


@dataclass(frozen=True, slots=True)
class _Capturing:
    """What `capture_node` does."""

    memories: Memories
    messages_key: str
    roles: frozenset[str]
    template: str
    whole_thread: bool | None

    def node(self) -> Runnable[Any, dict[str, Any]]:
        return RunnableLambda(self._capture, afunc=self._acapture, name="capture")

    def _capture(self, state: Any) -> dict[str, Any]:
        runtime = _runtime()
        cube, thread = cube_for(self.memories, runtime), thread_of(self.memories, runtime)
        whole = self.whole_thread
        if whole is None:
            whole = bool(thread) and self.memories.of_one_user
        heard = handed_over(_messages(state, self.messages_key), thread, whole=whole)
        captured(cube, to_engine(heard, self.roles, self.template), thread)
        return {}

    async def _acapture(self, state: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self._capture, state)


def _runtime() -> Runtime[Any] | None:
    """The runtime of the graph that runs the node. None: it is invoked outside of a graph."""
    runtime: Runtime[Any] | None = get_runtime()
    return runtime


def _messages(state: object, key: str) -> Sequence[AnyMessage]:
    """The messages of a state, as messages.

    Raises:
        BadInput: there are none under that key.
    """
    found = state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)
    if found is None:
        raise BadInput(f"the state has no messages under {key!r}: say where they are with messages_key=")
    return convert_to_messages(found)  # type: ignore[return-value] # -- BaseMessage is all it claims

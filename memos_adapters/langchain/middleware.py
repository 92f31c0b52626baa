"""Memory for LangChain agents: recalled on the way to the model, captured once the agent has answered.

    agent = create_agent(model, tools, middleware=[MemosMiddleware(memos)])
    agent.invoke({"messages": [...]}, context={"user_id": "alice"})

What is recalled stands in the request alone, never in the state or a checkpoint. It knows no run: one
instance serves all of them at once, in threads and in event loops.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.typing import ContextT

from memos_adapters._capture import REMEMBERED_ROLES, captured
from memos_adapters._identity import Isolation, Memories
from memos_adapters._langchain_messages import handed_over, last_question, to_engine, words_of
from memos_adapters._langgraph_runtime import cube_for, thread_of
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, RecallCounts, Recaller
from memos_adapters._text import TEMPLATE, check_template, own_words, rendered
from memos_adapters.langchain.tools import TOOL_NAMES, ToolName, memory_tools
from memos_engine import AccessDenied, BadInput, BadName, MemCube, MemOS, MemosError

Inject = Literal["before_last_user", "system", "tool"]
CaptureOn = Literal["turn", "model"]
CaptureErrors = Literal["raise", "log"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MemoryCounts:
    """What became of the recalls and captures so far."""

    recalls: RecallCounts
    captures: int = 0
    """Times that what was said was handed over and is durable."""
    messages: int = 0
    """Messages that were new to the memory."""
    failed_captures: int = 0


class MemosMiddleware(AgentMiddleware[AgentState[Any], ContextT]):
    """Recalls what the last user message is about, and captures what was said. Safe to share between runs.

    Args:
        memos: A `MemCube` is that memory for every run. Of a `MemOS` each user has a cube of their own.
        user_id: Whose memory, for good. None: the run says it, in its context or configurable.
        agent_id: The agent, for good.
        session_id: The session, for good.
        default_user: Who is meant when a run names nobody. None: such a run is refused.
        cube: Name of the cube of each user.
        isolation: What has a cube of its own.
        inject: Where recalled memories stand in a request. `before_last_user`: at the head of the last
            user message, so that all before it stays as it was. `system`: at the end of the system
            message. `tool`: as the answer to a call of `search_memory` right after that message; for
            providers that accept calls their model did not make. None: nowhere.
        template: What stands around them.
        tools: Give the model the memory tools, or those named. For the tools of two memories in one
            agent, hand `create_memory_tools(..., prefix=...)` to the agent instead.
        budget_tokens: They never cost more.
        count_tokens: As in `MemCube.recall`. None counts bytes.
        min_score: As in `MemCube.recall`. None: its default.
        timeout_s: Seconds after which the model is called without memories. None: it waits.
        strict: Raise when recall fails or is late, instead of going on without.
        roles: Whose words are captured: user, assistant, tool, system.
        capture_on: `turn`: when the agent is done; also whenever the model calls tools, for from then on
            the thread may be summarised or interrupted. `model`: before every call of the model too, so
            that what was said outlives a crash. None: never.
        capture_errors: `raise`: a run whose words cannot be captured fails, after its answer is in the
            state; resume it to capture again. `log`: it is counted and told to the log, and what was
            said is lost to memory unless the thread is handed over whole by its next turn.
        whole_thread: Hand over all of the thread each time, so that what could not be captured before
            is captured now. Else the turn at hand alone, since earlier ones may be another user's, or
            sent anew under other ids: from the last user message on, with those just before it that
            have the same `name`. None: where every run is for one user, and names its thread.
        name: The middleware's name, to have two of them in one agent. None: the name of the class.

    Raises:
        BadInput: an argument is none of its choices, or cannot be taken.
    """

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        default_user: str | None = None,
        cube: str = "memories",
        isolation: Isolation = "user",
        inject: Inject | None = "before_last_user",
        template: str = TEMPLATE,
        tools: bool | Sequence[ToolName] = False,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        min_score: float | None = None,
        timeout_s: float | None = TIMEOUT_S,
        strict: bool = False,
        roles: Iterable[str] = REMEMBERED_ROLES,
        capture_on: CaptureOn | None = "turn",
        capture_errors: CaptureErrors = "raise",
        whole_thread: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        _check("inject", inject, ("before_last_user", "system", "tool", None))
        _check("capture_on", capture_on, ("turn", "model", None))
        _check("capture_errors", capture_errors, ("raise", "log"))
        self._memories = Memories(
            memos,
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
            default_user=default_user,
            cube=cube,
            isolation=isolation,
        )
        self._inject = inject
        self._template = check_template(template)
        self._recaller = Recaller(
            budget_tokens=budget_tokens,
            count_tokens=count_tokens,
            min_score=min_score,
            timeout_s=timeout_s,
            strict=strict,
        )
        self._roles = frozenset(roles)
        self._capture_on = capture_on
        self._capture_errors = capture_errors
        self._whole_thread = whole_thread
        self._name = name or type(self).__name__
        self._lock = threading.Lock()
        self._captures = MemoryCounts(RecallCounts())
        self.tools = memory_tools(
            self._memories,
            names=_tool_names(tools, inject),
            budget_tokens=budget_tokens,
            count_tokens=count_tokens,
            min_score=min_score,
            changed=self._recaller.drop,
        )

    @property
    def name(self) -> str:
        """Unique among the middleware of an agent."""
        return self._name

    @property
    def counts(self) -> MemoryCounts:
        """What became of the recalls and captures so far."""
        return replace(self._captures, recalls=self._recaller.counts)

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Call the model with what is remembered about the last user message.

        Raises:
            IdentityMissing: nothing says whose memory the run is about; the model is not called.
            AccessDenied: the run is for another than the memory is bound to; the model is not called.
        """
        cube = self._cube(request.runtime)
        if cube is not None and (question := self._question(request)):
            context = self._recaller.recall(cube, question.words, question.turn)
            request = self._with_memories(request, question, context.text)
        if self._capture_on == "model":
            self._capture(request.state, request.runtime)
        response = handler(request)
        if self._capture_on == "turn" and _calls_tools(response):
            self._capture(request.state, request.runtime)
        return response

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """As `wrap_model_call`, without blocking the event loop."""
        cube = await asyncio.to_thread(self._cube, request.runtime)
        if cube is not None and (question := self._question(request)):
            context = await self._recaller.arecall(cube, question.words, question.turn)
            request = self._with_memories(request, question, context.text)
        if self._capture_on == "model":
            await asyncio.to_thread(self._capture, request.state, request.runtime)
        response = await handler(request)
        if self._capture_on == "turn" and _calls_tools(response):
            await asyncio.to_thread(self._capture, request.state, request.runtime)
        return response

    def after_agent(self, state: AgentState[Any], runtime: Runtime[ContextT]) -> dict[str, Any] | None:
        """Capture what was said and is not captured yet; durable when it returns.

        Raises:
            AccessDenied: the run names nobody, or may not write to this memory.
            StoreError: nothing was captured; only where `capture_errors` is `raise`.
        """
        if self._capture_on is not None:
            self._capture(state, runtime)
        return None

    async def aafter_agent(self, state: AgentState[Any], runtime: Runtime[ContextT]) -> dict[str, Any] | None:
        """As `after_agent`, without blocking the event loop."""
        if self._capture_on is not None:
            await asyncio.to_thread(self._capture, state, runtime)
        return None

    def _cube(self, runtime: Runtime[ContextT]) -> MemCube | None:
        """Whose memory a run is about. None: it cannot be opened, and the run goes on without."""
        try:
            return cube_for(self._memories, runtime)
        except BadName:  # no name of anybody: as good as none
            raise
        except Exception as exc:  # noqa: BLE001 -- the turn goes on: what failed is counted and told
            self._recaller.without(exc)
            return None

    def _question(self, request: ModelRequest[ContextT]) -> _Question | None:
        """What the user asks in a request. None: nobody asks, or nothing is to be recalled."""
        message = last_question(request.messages) if self._inject is not None else None
        if message is None:
            return None
        # other middleware may have put something before the words; the state has them as they were said
        said = next(
            (m for m in request.state["messages"] if m.id is not None and m.id == message.id), message
        )
        words = own_words(words_of(said), self._template)
        thread = thread_of(self._memories, request.runtime)
        return _Question(message, words, None if message.id is None else (thread, message.id))

    def _with_memories(
        self, request: ModelRequest[ContextT], question: _Question, memories: str
    ) -> ModelRequest[ContextT]:
        """The request with the memories in their place; the state keeps none of it."""
        block = rendered(memories, self._template)
        if not block:
            return request
        if self._inject == "system":
            return request.override(system_message=_system_with(request.system_message, block))
        at = max(n for n, message in enumerate(request.messages) if message is question.message)
        before, after = request.messages[:at], request.messages[at + 1 :]
        if self._inject == "before_last_user":
            return request.override(messages=[*before, _headed(question.message, block), *after])
        exchange = _exchange(question, block)
        tools = list(request.tools)
        if not any(getattr(tool, "name", None) == TOOL_NAMES[0] for tool in tools):
            tools += [tool for tool in self.tools if tool.name == TOOL_NAMES[0]]
        return request.override(messages=[*before, question.message, *exchange, *after], tools=tools)

    def _capture(self, state: AgentState[Any], runtime: Runtime[ContextT]) -> None:
        thread = thread_of(self._memories, runtime)
        whole = self._whole_thread
        if whole is None:
            whole = bool(thread) and self._memories.of_one_user
        heard = handed_over(state["messages"], thread, whole=whole)
        try:
            cube = cube_for(self._memories, runtime)
            result = captured(cube, to_engine(heard, self._roles, self._template), thread)
        except Exception as exc:
            self._count(failed_captures=1)
            if self._capture_errors == "raise" or isinstance(exc, (AccessDenied, BadName)):
                raise
            told = f": {exc}" if isinstance(exc, MemosError) else ""  # a foreign one may hold what was said
            _log.warning(
                "what was said could not be captured",
                extra={"action": "capture", "error": f"{type(exc).__name__}{told}"},
            )
        else:
            self._count(captures=1, messages=result.new)

    def _count(self, *, captures: int = 0, messages: int = 0, failed_captures: int = 0) -> None:
        with self._lock:
            now = self._captures
            self._captures = MemoryCounts(
                now.recalls,
                now.captures + captures,
                now.messages + messages,
                now.failed_captures + failed_captures,
            )


@dataclass(frozen=True, slots=True)
class _Question:
    """What memories are recalled for."""

    message: HumanMessage
    words: str
    turn: tuple[str, str] | None
    """Thread and id of the message. None: it has no id."""


def _check(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise BadInput(f"{name} is {value!r}: choose one of {', '.join(map(repr, known))}")


def _tool_names(tools: bool | Sequence[ToolName], inject: Inject | None) -> list[ToolName]:  # noqa: FBT001 -- as the caller said it
    """Which tools the agent gets: providers refuse an exchange with a tool that is not among them."""
    names: list[ToolName] = [*TOOL_NAMES] if tools is True else list(tools or ())
    return ["search_memory", *names] if inject == "tool" and "search_memory" not in names else names


def _calls_tools(response: ModelResponse[Any] | AIMessage) -> bool:
    answers = [response] if isinstance(response, AIMessage) else response.result
    return any(isinstance(message, AIMessage) and message.tool_calls for message in answers)


def _headed(message: HumanMessage, block: str) -> HumanMessage:
    """A copy of a message with a block of text before its own content."""
    content = message.content
    headed = (
        f"{block}\n\n{content}"
        if isinstance(content, str)
        else [{"type": "text", "text": f"{block}\n\n"}, *content]
    )
    return message.model_copy(update={"content": headed})


def _system_with(message: SystemMessage | None, block: str) -> SystemMessage:
    """A system message that ends with a block of text."""
    if message is None:
        return SystemMessage(block)
    content = message.content
    ended = (
        f"{content}\n\n{block}"
        if isinstance(content, str)
        else [*content, {"type": "text", "text": f"\n\n{block}"}]
    )
    return message.model_copy(update={"content": ended})


def _exchange(question: _Question, block: str) -> list[AnyMessage]:
    """A call of `search_memory` and its answer, the same each time the turn is asked for."""
    digest = hashlib.sha256(repr((question.turn, question.words)).encode("utf-8", "surrogatepass"))
    call_id = f"memos_{digest.hexdigest()[:16]}"
    call = {"name": TOOL_NAMES[0], "args": {"query": question.words}, "id": call_id, "type": "tool_call"}
    return [
        AIMessage("", tool_calls=[call]),
        ToolMessage(block, tool_call_id=call_id, name=TOOL_NAMES[0]),
    ]

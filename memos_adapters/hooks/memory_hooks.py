"""Memory for an agent loop that serves many users, sync and async: the settings, and the calls of a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from memos_adapters._capture import REMEMBERED_ROLES
from memos_adapters._identity import Isolation, Memories
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, RecallCounts, Recaller
from memos_adapters._text import TEMPLATE, check_template
from memos_adapters.hooks.capturing import Capturing
from memos_adapters.hooks.turn_memory import TurnMemory
from memos_adapters.hooks.turns import Turn, remembering
from memos_engine import BadInput, CaptureResult, Context, MemCube, MemOS

M = TypeVar("M")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class HookCounts:
    """What became of the turns so far."""

    recalls: RecallCounts
    captured: int
    """Messages that were captured; one that was captured before is not counted."""
    waiting: int
    """Messages that wait for the end of an interval, durable already."""
    failed: int
    """Captures that failed without failing a turn; what they were about is captured later."""


class _Hooks:
    """Settings, and what is the same for sync and async loops."""

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
        session_prefix: str = "",
        session_suffix: str = "",
        roles: frozenset[str] = REMEMBERED_ROLES,
        whole_thread: bool = True,
        capture_interval_s: float = 0.0,
        template: str = TEMPLATE,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        min_score: float | None = None,
        timeout_s: float | None = TIMEOUT_S,
        strict: bool = False,
    ) -> None:
        """Serve the callers named here, or by each call.

        Args:
            memos: A `MemCube` is that memory for every call. Of a `MemOS` each user has a cube of their own.
            user_id, agent_id, session_id: Whose memory, which agent and which conversation it is for good: a
                call for another is refused.
            default_user: Who is meant when a call names nobody. None: such a call is refused.
            cube: Name of the cube of each user.
            isolation: What has a cube of its own: a user, each agent of a user, or each session of these.
            session_prefix, session_suffix: Put around the name of every session: channels stay apart.
            roles: Which roles are remembered; add `tool` for what tools answer.
            whole_thread: Each call hands over the whole conversation, of which what is new is captured. False:
                new messages alone.
            capture_interval_s: Least seconds between two captures of a session. What is said meanwhile is
                durable at once, and recalled when it is captured: at most that much later.
            template: What stands around memories in a prompt, with `{memories}` for their text.
            budget_tokens, count_tokens, min_score: As in `MemCube.recall`; None is its default.
            timeout_s: Seconds after which a turn goes on without memories. None: it waits.
            strict: Raise what failed instead of going on without.

        Raises:
            BadInput: a setting cannot be taken, or does not go with a `MemCube`.
        """
        bound = session_id if isinstance(memos, MemCube) else None
        memories = Memories(
            memos, user_id=user_id, agent_id=agent_id, session_id=None if bound else session_id,
            default_user=default_user, cube=cube, isolation=isolation,
            session_prefix=session_prefix, session_suffix=session_suffix,
        )  # fmt: skip
        recaller = Recaller(
            budget_tokens=budget_tokens, count_tokens=count_tokens, min_score=min_score, timeout_s=timeout_s,
            strict=strict,
        )  # fmt: skip
        self._memory = TurnMemory(
            memories.bound_to(session_id=bound),
            recaller,
            Capturing(memos, capture_interval_s),
            _roles(roles),
            whole_thread,
            check_template(template),
            strict,
        )

    @property
    def counts(self) -> HookCounts:
        """What became of the turns so far."""
        done = self._memory.capturing
        return HookCounts(self._memory.recaller.counts, done.new, done.waiting, done.failed)

    def turn(
        self,
        messages: Sequence[M],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> Turn[M]:
        """A turn to be taken inside of `with` or `async with`: recalled at its head, captured at its end."""
        return Turn(self._memory, messages, _said(user_id, agent_id, session_id))

    @overload
    def remembers(self, agent: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def remembers(
        self, /, *, answer: Callable[[Any], object]
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def remembers(
        self, agent: Callable[..., Any] | None = None, /, *, answer: Callable[[Any], object] | None = None
    ) -> Callable[..., Any]:
        """Decorate an agent, a function of messages, so that each of its calls is a `turn`.

        It is handed the messages with memories put in, by its parameter `messages` or else its first one;
        its own parameters `user_id`, `agent_id` and `session_id`, if it has them, say who a call is for.

        Args:
            agent: A function or coroutine function that returns its answer: text, a message, or several.
            answer: What to capture of anything else that it returns.

        Raises:
            BadInput: it takes no messages, or is a generator function: stream inside of a `turn`.
        """
        if agent is None:
            return lambda agent: remembering(self._memory, agent, answer)
        return remembering(self._memory, agent, answer)


class MemoryHooks(_Hooks):
    """Recall before and capture after the turns of any agent loop. Thread-safe.

    A turn never fails for its memory: a recall that is late or fails leaves it without memories, a capture
    that fails at the end of a `turn` is told to the log, and both are counted. Who may not is refused.
    """

    def recall_before(
        self,
        messages: Sequence[object],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> Context:
        """What is remembered about the latest user message; put it in with `with_memories`.

        Raises:
            AccessDenied: nobody is named, or one who may not.
            BadInput: a message or a name cannot be taken.
            MemosError: `strict` only: what failed.
        """
        return self._memory.recall(messages, _said(user_id, agent_id, session_id))

    def capture_after(
        self,
        messages: Sequence[object],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> CaptureResult | None:
        """Capture the turns that are new; durable when it returns. None: they wait for the interval to end.

        Without a session a conversation cannot be known again: of its messages the turn at hand, the last
        user message and what follows it, is captured then, as new.

        Raises:
            AccessDenied: nobody is named, or one who may not.
            BadInput: a message or a name cannot be taken; none was stored.
            StoreError: not all of them are stored; handed over again, they are.
        """
        return self._memory.capture(messages, _said(user_id, agent_id, session_id))

    def flush(self) -> None:
        """Capture all that waits, and what other processes left behind.

        Raises:
            MemosError: something could not be captured; it waits on.
        """
        self._memory.capturing.flush()

    def close(self) -> None:
        """Flush; no turn is taken afterwards. What cannot be captured stays durable.

        Raises:
            MemosError: something could not be captured.
        """
        self._memory.capturing.close()

    def __enter__(self) -> Self:
        self._memory.capturing.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncMemoryHooks(_Hooks):
    """The async twin of `MemoryHooks`: the same names, awaited. It keeps no event loop, and serves several.

    It is handed the sync `MemOS`, and calls it in threads.
    """

    async def recall_before(
        self,
        messages: Sequence[object],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> Context:
        """As `MemoryHooks.recall_before`."""
        return await self._memory.arecall(messages, _said(user_id, agent_id, session_id))

    async def capture_after(
        self,
        messages: Sequence[object],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> CaptureResult | None:
        """As `MemoryHooks.capture_after`."""
        said = _said(user_id, agent_id, session_id)
        return await asyncio.to_thread(self._memory.capture, list(messages), said)

    async def flush(self) -> None:
        """As `MemoryHooks.flush`."""
        await asyncio.to_thread(self._memory.capturing.flush)

    async def close(self) -> None:
        """As `MemoryHooks.close`."""
        await asyncio.to_thread(self._memory.capturing.close)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._memory.capturing.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _roles(roles: frozenset[str]) -> frozenset[str]:
    """Return the roles as a set.

    Raises:
        BadInput: they are one text.
    """
    if isinstance(roles, str):
        raise BadInput(f"roles is one text, {roles!r:.40}: hand over a set of them, as in {{'user', 'tool'}}")
    return frozenset(roles)


def _said(user_id: str | None, agent_id: str | None, session_id: str | None) -> dict[str, object]:
    return {"user_id": user_id, "agent_id": agent_id, "session_id": session_id}

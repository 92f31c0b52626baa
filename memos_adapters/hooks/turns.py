"""One turn of an agent: recalled at its head, captured at its end, as a context manager and a decorator.

Both serve sync and async agents: `async with` and a coroutine function never block the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from memos_adapters.hooks.messages import is_message
from memos_adapters.hooks.turn_memory import TurnMemory
from memos_engine import BadInput, Context, Message

M = TypeVar("M")


class Turn(Generic[M]):
    """One turn, to be entered once.

    At its end the conversation and the answer are captured. When the agent fails, what the user said is
    captured all the same: it was said.
    """

    def __init__(self, memory: TurnMemory, messages: Sequence[M], said: Mapping[str, object]) -> None:
        """Use `MemoryHooks.turn`."""
        self._memory = memory
        # a copy: what the loop adds to its list meanwhile is told by `answer`, or comes with the next turn
        self._given = list(messages) if isinstance(messages, (list, tuple)) else messages
        self._said = said
        self._answers: list[object] = []
        self.context = Context()
        """What was recalled; empty before the turn is entered."""
        self.messages: list[M] = list(messages)
        """For the agent: a copy with what was recalled right before the words of the last user message."""

    def answer(self, answer: object) -> None:
        """Tell what the agent answered: text, a message, or several, such as its calls of tools.

        Of a list that holds the conversation too, what follows the last user message is taken.

        Raises:
            BadInput: it is none of these.
        """
        if answer is None:
            return
        if isinstance(answer, (list, tuple)):
            for each in self._behind_question(answer):
                self.answer(each)
        elif isinstance(answer, str):
            self._answers.append(Message("assistant", answer))
        elif is_message(answer):
            self._answers.append(answer)
        else:
            raise BadInput(
                f"an answer is a {type(answer).__name__}: hand over its text or message, or decorate the agent "
                "with remembers(answer=...), a function that takes it out"
            )

    def __enter__(self) -> Self:
        return self._begun(self._memory.recall(self._given, self._said))

    async def __aenter__(self) -> Self:
        try:
            return self._begun(await self._memory.arecall(self._given, self._said))
        except asyncio.CancelledError:
            await self._kept(broken=True)  # nobody leaves what was not entered
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory.keep([*self._given, *self._answers], self._said, broken=error is not None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._kept(broken=error is not None)

    async def _kept(self, *, broken: bool) -> None:
        messages = [*self._given, *self._answers]
        keeping = asyncio.to_thread(self._memory.keep, messages, self._said, broken=broken)
        await asyncio.shield(keeping)  # who is cancelled now has said it all the same

    def _begun(self, context: Context) -> Self:
        self.context = context
        self.messages = self._memory.shown(self._given, context)
        return self

    def _behind_question(self, answer: Sequence[object]) -> Sequence[object]:
        """What follows the last user message, where an agent returns the conversation it was handed."""
        asked = self._memory.question(self._given)
        for place in range(len(answer) - 1, -1, -1):
            each = answer[place]
            if asked and is_message(each) and self._memory.question([each]) == asked:
                return answer[place + 1 :]
        return answer


def remembering(
    memory: TurnMemory, agent: Callable[..., Any], answer: Callable[[Any], object] | None
) -> Callable[..., Any]:
    """The agent, each call of which is a turn.

    Raises:
        BadInput: it takes no messages, or is a generator function.
    """
    called = (
        agent if inspect.isroutine(agent) or isinstance(agent, functools.partial) else type(agent).__call__
    )
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise BadInput(f"{agent!r} streams: stream inside of `with hooks.turn(messages) as turn:`")
    call = _Call(agent)
    taken = answer or (lambda result: result)

    def begun(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[inspect.BoundArguments, Turn[Any]]:
        bound = call.bound(args, kwargs)
        return bound, Turn(memory, bound.arguments[call.messages], call.said(bound))

    if inspect.iscoroutinefunction(called):

        @functools.wraps(agent)
        async def remembered_async(*args: Any, **kwargs: Any) -> Any:
            bound, turn = begun(args, kwargs)
            async with turn:
                bound.arguments[call.messages] = turn.messages
                result = await agent(*bound.args, **bound.kwargs)
                turn.answer(taken(result))
            return result

        return remembered_async

    @functools.wraps(agent)
    def remembered(*args: Any, **kwargs: Any) -> Any:
        bound, turn = begun(args, kwargs)
        with turn:
            bound.arguments[call.messages] = turn.messages
            result = agent(*bound.args, **bound.kwargs)
            turn.answer(taken(result))
        return result

    return remembered


class _Call:
    """Where an agent takes its messages, and who a call of it is for."""

    def __init__(self, agent: Callable[..., Any]) -> None:
        self._signature = inspect.signature(agent)
        names = list(self._signature.parameters)
        if not names:
            raise BadInput(f"{agent!r} takes no messages: give it a parameter `messages`")
        self.messages = "messages" if "messages" in names else names[0]
        parameters = self._signature.parameters.values()
        self._others = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), "")

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound

    def said(self, bound: inspect.BoundArguments) -> dict[str, object]:
        """The identity that a call names: by parameters of the agent's, or by what it passes on."""
        known: dict[str, object] = {**bound.arguments.get(self._others, {}), **bound.arguments}
        return {name: known.get(name) for name in ("user_id", "agent_id", "session_id")}

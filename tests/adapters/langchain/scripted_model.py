"""A chat model that answers by script and keeps what it was asked, and the little that every agent test needs."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from memos_engine import MemCube, MemOS, Scope

Answer = str | AIMessage | Exception


class ScriptedModel(BaseChatModel):
    """Gives its answers one after the other, the last one for ever; an error among them is raised in its turn."""

    answers: list[Any]
    _requests: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _tools: list[list[str]] = PrivateAttr(default_factory=list)

    @property
    def requests(self) -> list[list[BaseMessage]]:
        """The messages of every call, in order."""
        return self._requests

    @property
    def tools(self) -> list[list[str]]:
        """The names of the tools of every call, in order."""
        return self._tools

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model, told the names of its tools."""
        names = [tool.name for tool in tools if isinstance(tool, BaseTool)]
        return self.bind(tool_names=names, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages, **kwargs))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._next(messages, **kwargs)
        for token in re.split(r"(?<= )", str(answer.content)):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=n)
            for n, call in enumerate(answer.tool_calls)
        ]
        last = AIMessageChunk(content="", tool_call_chunks=calls, chunk_position="last")
        yield ChatGenerationChunk(message=last)

    def _next(self, messages: list[BaseMessage], tool_names: Sequence[str] = (), **kwargs: Any) -> AIMessage:
        self._requests.append(copy.deepcopy(messages))
        self._tools.append(list(tool_names))
        answer = self.answers[min(len(self._requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return AIMessage(answer) if isinstance(answer, str) else answer.model_copy(deep=True)


def calls(*tools: tuple[str, dict[str, Any]], text: str = "") -> AIMessage:
    """An answer that calls tools; their ids are `call-1`, `call-2` and so on."""
    return AIMessage(
        text,
        tool_calls=[
            {"name": name, "args": args, "id": f"call-{n}", "type": "tool_call"}
            for n, (name, args) in enumerate(tools, start=1)
        ],
    )


def run_of(user: str | None, thread: str | None = None) -> RunnableConfig:
    """The config of a run for a user, in a thread."""
    named = {"user_id": user, "thread_id": thread}
    return {"configurable": {name: value for name, value in named.items() if value is not None}}


def memory_of(memos: MemOS, user: str, cube: str = "memories") -> MemCube:
    """A user's cube, as the adapters name it."""
    return memos.acting_as(Scope(user=user)).cube(cube)


def said_in(cube: MemCube) -> list[tuple[str | None, str]]:
    """Role and words of every turn that a cube holds, in order of capture."""
    return [(item.role, item.text) for item in reversed(cube.list(kinds=["episode"], limit=1_000))]

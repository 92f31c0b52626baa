"""Language models of LlamaIndex that say what they were told to, and keep what they were asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool
from pydantic import PrivateAttr


class ScriptedLLM(CustomLLM):
    """Answers in turn, and keeps the messages of every call."""

    _answers: list[str] = PrivateAttr(default_factory=list)
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self._answers = list(answers)

    @property
    def asked(self) -> list[list[ChatMessage]]:
        """The messages of every call, in order."""
        return self._asked

    @property
    def metadata(self) -> LLMMetadata:
        """It chats, and calls no functions."""
        return LLMMetadata(is_chat_model=True)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer."""
        self._asked.append([message.model_copy(deep=True) for message in messages])
        text = self._answers.pop(0)
        return ChatResponse(message=ChatMessage(text, role=MessageRole.ASSISTANT), delta=text)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse]:
        """The next answer, word by word."""
        text = self.chat(messages).message.content or ""
        return _words(text)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer."""
        return self.chat(messages)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse]:
        """The next answer, word by word."""
        return _awords(self.stream_chat(messages))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The next answer."""
        return CompletionResponse(text=self.chat([ChatMessage(prompt)]).message.content or "")

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse]:
        """The next answer at once."""
        yield self.complete(prompt)


class ScriptedToolLLM(FunctionCallingLLM):
    """As ScriptedLLM, for agents that call functions; an answer may be a call, as (tool, arguments)."""

    _answers: list[str | tuple[str, dict[str, Any]]] = PrivateAttr(default_factory=list)
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    def __init__(self, *answers: str | tuple[str, dict[str, Any]]) -> None:
        super().__init__()
        self._answers = list(answers)

    @property
    def asked(self) -> list[list[ChatMessage]]:
        """The messages of every call, in order."""
        return self._asked

    @property
    def metadata(self) -> LLMMetadata:
        """It calls functions."""
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer."""
        self._asked.append([message.model_copy(deep=True) for message in messages])
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            return ChatResponse(message=ChatMessage(answer, role=MessageRole.ASSISTANT), delta=answer)
        name, arguments = answer
        call = ToolCallBlock(tool_call_id=f"call-{len(self._asked)}", tool_name=name, tool_kwargs=arguments)
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, blocks=[call]))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer."""
        return self.chat(messages)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse]:
        """The next answer at once."""
        yield self.chat(messages)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse]:
        """The next answer at once."""
        return _awords(self.stream_chat(messages))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The next answer."""
        return CompletionResponse(text=self.chat([ChatMessage(prompt)]).message.content or "")

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse]:
        """The next answer at once."""
        yield self.complete(prompt)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The next answer."""
        return self.complete(prompt)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse]:
        """Not asked for by any agent."""
        raise NotImplementedError

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return {"messages": chat_history or []}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls that a response makes."""
        return [
            ToolSelection(
                tool_id=str(block.tool_call_id),
                tool_name=block.tool_name,
                tool_kwargs=block.tool_kwargs if isinstance(block.tool_kwargs, dict) else {},
            )
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]


def prompt_text(messages: Sequence[ChatMessage]) -> str:
    """All texts of a prompt."""
    return "\n".join(message.content or "" for message in messages)


def _words(text: str) -> Generator[ChatResponse]:
    so_far = ""
    for word in text.split(" "):
        delta = f" {word}" if so_far else word
        so_far += delta
        yield ChatResponse(message=ChatMessage(so_far, role=MessageRole.ASSISTANT), delta=delta)


async def _awords(responses: Generator[ChatResponse]) -> AsyncGenerator[ChatResponse]:
    for response in responses:
        yield response

"""Subclasses of LangChain's bases that do nothing: what the framework itself costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware.types import AgentMiddleware, ModelRequest, ModelResponse
from langchain_classic.base_memory import BaseMemory
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore


class NoRetriever(BaseRetriever):
    """Finds nothing."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return []

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return []


class NoVectorStore(VectorStore):
    """Holds nothing."""

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return []

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return []

    @classmethod
    def from_texts(cls, *_: object, **__: object) -> NoVectorStore:
        return cls()


class NoMemory(BaseMemory):
    """Remembers nothing."""

    @property
    def memory_variables(self) -> list[str]:
        return ["history"]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"history": ""}

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"history": ""}

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        pass

    async def asave_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        pass

    def clear(self) -> None:
        pass


class NoHistory(BaseChatMessageHistory):
    """Keeps nothing."""

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        pass

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        pass

    def clear(self) -> None:
        pass


class NoMiddleware(AgentMiddleware):
    """Has the hooks that a memory needs."""

    def wrap_model_call(
        self, request: ModelRequest[None], handler: Callable[[ModelRequest[None]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        return handler(request)

    async def awrap_model_call(
        self,
        request: ModelRequest[None],
        handler: Callable[[ModelRequest[None]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        return await handler(request)

    def after_agent(self, state: object, runtime: object) -> None:
        pass

    async def aafter_agent(self, state: object, runtime: object) -> None:
        pass

"""LangChain on MemOS: agent middleware, retriever, stores, chat model, chat history, classic memory, tools.

Names load on first use: each needs only the packages it is built on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_adapters.langchain.byte_store import MemosByteStore
    from memos_adapters.langchain.chat_history import MemosChatMessageHistory
    from memos_adapters.langchain.chat_model import MemosChatModel
    from memos_adapters.langchain.classic import MemosMemory
    from memos_adapters.langchain.middleware import MemosMiddleware
    from memos_adapters.langchain.retriever import MemosRetriever
    from memos_adapters.langchain.tools import create_memory_tools
    from memos_adapters.langchain.vectorstore import MemosVectorStore

__all__ = [
    "MemosByteStore",
    "MemosChatMessageHistory",
    "MemosChatModel",
    "MemosMemory",
    "MemosMiddleware",
    "MemosRetriever",
    "MemosVectorStore",
    "create_memory_tools",
]

_HOME_OF = {
    "MemosByteStore": "byte_store",
    "MemosChatMessageHistory": "chat_history",
    "MemosChatModel": "chat_model",
    "MemosMemory": "classic",
    "MemosMiddleware": "middleware",
    "MemosRetriever": "retriever",
    "MemosVectorStore": "vectorstore",
    "create_memory_tools": "tools",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOME_OF[name]}")
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"{name} needs {exc.name}, which is not installed: pip install 'memos-adapters[langchain]', "
            "for MemosMemory 'memos-adapters[langchain-classic]'",
            name=exc.name,
        ) from exc
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__

"""LlamaIndex on MemOS: memory, memory block, chat stores, LLM, retriever, postprocessor, tools.

Names load on first use: each needs only the packages it is built on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_adapters.llamaindex.block import MemosMemoryBlock
    from memos_adapters.llamaindex.chat_store import MemosChatStore, MemosSimpleChatStore
    from memos_adapters.llamaindex.llm import MemosLLM
    from memos_adapters.llamaindex.memory import MemosMemory
    from memos_adapters.llamaindex.postprocessor import MemosPostprocessor
    from memos_adapters.llamaindex.retriever import MemosRetriever
    from memos_adapters.llamaindex.tools import MemosToolSpec

__all__ = [
    "MemosChatStore",
    "MemosLLM",
    "MemosMemory",
    "MemosMemoryBlock",
    "MemosPostprocessor",
    "MemosRetriever",
    "MemosSimpleChatStore",
    "MemosToolSpec",
]

_HOME_OF = {
    "MemosChatStore": "chat_store",
    "MemosLLM": "llm",
    "MemosMemory": "memory",
    "MemosMemoryBlock": "block",
    "MemosPostprocessor": "postprocessor",
    "MemosRetriever": "retriever",
    "MemosSimpleChatStore": "chat_store",
    "MemosToolSpec": "tools",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOME_OF[name]}")
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"{name} needs {exc.name}, which is not installed: pip install 'memos-adapters[llamaindex]'",
            name=exc.name,
        ) from exc
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__

"""LangGraph on MemOS: the long-term store, the checkpointer, and nodes that recall and capture.

Names load on first use: each needs only the packages it is built on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_adapters.langgraph.nodes import capture_node, recall_node
    from memos_adapters.langgraph.saver import MemosSaver
    from memos_adapters.langgraph.store import MemosStore

__all__ = ["MemosSaver", "MemosStore", "capture_node", "recall_node"]

_HOME_OF = {"MemosSaver": "saver", "MemosStore": "store", "capture_node": "nodes", "recall_node": "nodes"}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOME_OF[name]}")
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"{name} needs {exc.name}, which is not installed: pip install 'memos-adapters[langgraph]'",
            name=exc.name,
        ) from exc
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__

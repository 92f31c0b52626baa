"""Memory for language-model agents: capture what was said, recall what is needed. The public door.

    with MemOS.open("memories") as memos:
        alice = memos.cube("alice")
        alice.capture([Message("user", "I moved to Lisbon in May.")])
        print(alice.recall("Where does she live?").text)

Nothing outside `__all__` and `_LOCAL` is public. Names load on first use, so that importing this package
costs no more than its data types need; it never imports torch, chromadb or an agent framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_engine.aio import (
        AsyncActivationMemory,
        AsyncChatStream,
        AsyncKeyValues,
        AsyncMemCube,
        AsyncMemOS,
        AsyncThreads,
    )
    from memos_engine.blocks.handle import ActivationMemory
    from memos_engine.capture.reader import MemReader
    from memos_engine.chat.stream import ChatStream
    from memos_engine.cube import MemCube
    from memos_engine.engine import MemOS
    from memos_engine.errors import (
        AccessDenied,
        ArchiveDamaged,
        ArchiveError,
        ArchiveForeign,
        ArchiveUnsafe,
        BadInput,
        BadLimit,
        BadName,
        BadRoot,
        BadText,
        BadTime,
        BadValue,
        BadVector,
        Closed,
        Conflict,
        CubeNotFound,
        EmbedderMismatch,
        EmbedderUnavailable,
        IdempotencyConflict,
        IdentityMissing,
        ItemNotFound,
        JobFailed,
        MemosError,
        MessageConflict,
        ModelFailed,
        ModelRefused,
        ModelUnavailable,
        NotFound,
        SchemaTooNew,
        StoreBusy,
        StoreDamaged,
        StoreError,
        StoreFull,
        VersionConflict,
    )
    from memos_engine.items import (
        ActivationStats,
        BlockEvent,
        BlockInfo,
        CaptureResult,
        Change,
        ChatAnswer,
        CheckReport,
        Context,
        ContextSource,
        CubeRow,
        CubeStats,
        Edge,
        Erased,
        Hit,
        ItemVersion,
        Job,
        KVBudgets,
        KvDelete,
        KvEntry,
        KvPut,
        MemoryItem,
        Message,
        Reason,
        Scope,
        Source,
        TreeNode,
    )
    from memos_engine.kv.entries import KeyValues
    from memos_engine.models.embed import FunctionEmbedder, SentenceEmbedder
    from memos_engine.models.http import HttpChatModel, HttpReranker

    # `as`: exported without standing in __all__, see _LOCAL
    from memos_engine.models.local import LocalModel as LocalModel
    from memos_engine.models.local_values import Capabilities as Capabilities
    from memos_engine.models.local_values import Generation as Generation
    from memos_engine.models.local_values import KVBlock as KVBlock
    from memos_engine.models.local_values import ModelKey as ModelKey
    from memos_engine.models.local_values import Rates as Rates
    from memos_engine.models.rerank import CrossEncoderReranker, FunctionReranker
    from memos_engine.models.rewrite import ChatRewriter
    from memos_engine.models.served import ServedAnswer, ServedModel, ServedUsage
    from memos_engine.mos import MOS
    from memos_engine.ports import ChatMessage, ChatModel, Embedder, Reranker
    from memos_engine.store.thread_reading import ThreadsView
    from memos_engine.store.thread_values import Blob, ThreadEntry, ThreadInfo
    from memos_engine.store.threads import Threads

__all__ = [
    "MOS",
    "AccessDenied",
    "ActivationMemory",
    "ActivationStats",
    "ArchiveDamaged",
    "ArchiveError",
    "ArchiveForeign",
    "ArchiveUnsafe",
    "AsyncActivationMemory",
    "AsyncChatStream",
    "AsyncKeyValues",
    "AsyncMemCube",
    "AsyncMemOS",
    "AsyncThreads",
    "BadInput",
    "BadLimit",
    "BadName",
    "BadRoot",
    "BadText",
    "BadTime",
    "BadValue",
    "BadVector",
    "Blob",
    "BlockEvent",
    "BlockInfo",
    "CaptureResult",
    "Change",
    "ChatAnswer",
    "ChatMessage",
    "ChatModel",
    "ChatRewriter",
    "ChatStream",
    "CheckReport",
    "Closed",
    "Conflict",
    "Context",
    "ContextSource",
    "CrossEncoderReranker",
    "CubeNotFound",
    "CubeRow",
    "CubeStats",
    "Edge",
    "Embedder",
    "EmbedderMismatch",
    "EmbedderUnavailable",
    "Erased",
    "FunctionEmbedder",
    "FunctionReranker",
    "Hit",
    "HttpChatModel",
    "HttpReranker",
    "IdempotencyConflict",
    "IdentityMissing",
    "ItemNotFound",
    "ItemVersion",
    "Job",
    "JobFailed",
    "KVBudgets",
    "KeyValues",
    "KvDelete",
    "KvEntry",
    "KvPut",
    "MemCube",
    "MemOS",
    "MemReader",
    "MemoryItem",
    "MemosError",
    "Message",
    "MessageConflict",
    "ModelFailed",
    "ModelRefused",
    "ModelUnavailable",
    "NotFound",
    "Reason",
    "Reranker",
    "SchemaTooNew",
    "Scope",
    "SentenceEmbedder",
    "ServedAnswer",
    "ServedModel",
    "ServedUsage",
    "Source",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "ThreadEntry",
    "ThreadInfo",
    "Threads",
    "ThreadsView",
    "TreeNode",
    "VersionConflict",
]

_HOMES = {
    "aio": (
        "AsyncActivationMemory",
        "AsyncChatStream",
        "AsyncKeyValues",
        "AsyncMemCube",
        "AsyncMemOS",
        "AsyncThreads",
    ),
    "blocks.handle": ("ActivationMemory",),
    "capture.reader": ("MemReader",),
    "chat.stream": ("ChatStream",),
    "cube": ("MemCube",),
    "engine": ("MemOS",),
    "errors": (
        "AccessDenied",
        "ArchiveDamaged",
        "ArchiveError",
        "ArchiveForeign",
        "ArchiveUnsafe",
        "BadInput",
        "BadLimit",
        "BadName",
        "BadRoot",
        "BadText",
        "BadTime",
        "BadValue",
        "BadVector",
        "Closed",
        "Conflict",
        "CubeNotFound",
        "EmbedderMismatch",
        "EmbedderUnavailable",
        "IdempotencyConflict",
        "IdentityMissing",
        "ItemNotFound",
        "JobFailed",
        "MemosError",
        "MessageConflict",
        "ModelFailed",
        "ModelRefused",
        "ModelUnavailable",
        "NotFound",
        "SchemaTooNew",
        "StoreBusy",
        "StoreDamaged",
        "StoreError",
        "StoreFull",
        "VersionConflict",
    ),
    "items": (
        "ActivationStats",
        "BlockEvent",
        "BlockInfo",
        "CaptureResult",
        "Change",
        "ChatAnswer",
        "CheckReport",
        "Context",
        "ContextSource",
        "CubeRow",
        "CubeStats",
        "Edge",
        "Erased",
        "Hit",
        "ItemVersion",
        "Job",
        "KVBudgets",
        "KvDelete",
        "KvEntry",
        "KvPut",
        "MemoryItem",
        "Message",
        "Reason",
        "Scope",
        "Source",
        "TreeNode",
    ),
    "kv.entries": ("KeyValues",),
    "models.embed": ("FunctionEmbedder", "SentenceEmbedder"),
    "models.http": ("HttpChatModel", "HttpReranker"),
    "models.rerank": ("CrossEncoderReranker", "FunctionReranker"),
    "models.rewrite": ("ChatRewriter",),
    "models.served": ("ServedAnswer", "ServedModel", "ServedUsage"),
    "mos": ("MOS",),
    "ports": ("ChatMessage", "ChatModel", "Embedder", "Reranker"),
    "store.thread_reading": ("ThreadsView",),
    "store.thread_values": ("Blob", "ThreadEntry", "ThreadInfo"),
    "store.threads": ("Threads",),
}
_LOCAL = {
    "models.local": ("LocalModel",),
    "models.local_values": ("Capabilities", "Generation", "KVBlock", "ModelKey", "Rates"),
}
"""Public as the others are, but they load torch: so they are asked for by name, and `import *` leaves them out."""
_HOME_OF = {name: home for home, names in (_HOMES | _LOCAL).items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME_OF[name]
    try:
        module = import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as exc:
        if home not in _LOCAL or (exc.name or __name__).startswith(__name__):
            raise
        raise ImportError(
            f"{name} needs {exc.name}, which is not installed: pip install 'memos-adapters[local]'"
        ) from exc
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for names in _LOCAL.values() for name in names)]

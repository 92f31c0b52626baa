"""Memory for language-model agents: capture what was said, recall what is needed. The public door.

    with MemOS.open("memories") as memos:
        alice = memos.cube("alice")
        alice.capture([Message("user", "I moved to Lisbon in May.")])
        print(alice.recall("Where does she live?").text)

Nothing outside `__all__` is public. Names load on first use, so that importing this package costs
no more than its data types need; it never imports torch, chromadb or an agent framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_engine.aio import AsyncKeyValues, AsyncMemCube, AsyncMemOS, AsyncThreads
    from memos_engine.capture.reader import MemReader
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
        CaptureResult,
        Change,
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
    from memos_engine.models.rerank import CrossEncoderReranker, FunctionReranker
    from memos_engine.models.rewrite import ChatRewriter
    from memos_engine.mos import MOS
    from memos_engine.ports import ChatMessage, ChatModel, Embedder, Reranker
    from memos_engine.store.thread_reading import ThreadsView
    from memos_engine.store.thread_values import Blob, ThreadEntry, ThreadInfo
    from memos_engine.store.threads import Threads

__all__ = [
    "MOS",
    "AccessDenied",
    "ArchiveDamaged",
    "ArchiveError",
    "ArchiveForeign",
    "ArchiveUnsafe",
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
    "CaptureResult",
    "Change",
    "ChatMessage",
    "ChatModel",
    "ChatRewriter",
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
    "aio": ("AsyncKeyValues", "AsyncMemCube", "AsyncMemOS", "AsyncThreads"),
    "capture.reader": ("MemReader",),
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
        "CaptureResult",
        "Change",
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
    "mos": ("MOS",),
    "ports": ("ChatMessage", "ChatModel", "Embedder", "Reranker"),
    "store.thread_reading": ("ThreadsView",),
    "store.thread_values": ("Blob", "ThreadEntry", "ThreadInfo"),
    "store.threads": ("Threads",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__

"""The same names for async callers: every call that may touch a disk or a model runs in a thread.

There is no second copy of any logic, no loop is kept, and a handle may be used from any loop. What
holds no I/O (`acting_as`, `chat_stream`, `kv`, `activation`, `threads`, names and ids) is plain.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from memos_engine.blocks.handle import ActivationMemory
from memos_engine.chat.stream import ChatStream
from memos_engine.cube import MemCube
from memos_engine.engine import MemOS
from memos_engine.errors import BadInput
from memos_engine.fields import NewItem
from memos_engine.host import PAGE_BYTES_MAX
from memos_engine.items import ChatAnswer, CubeRow, KVBudgets, MemoryItem, Scope
from memos_engine.kv.entries import KeyValues
from memos_engine.ports import Clock, Embedder, Reranker, RewriteQuery
from memos_engine.schedule.policy import INDEX_ABOVE
from memos_engine.store.threads import Threads
from memos_engine.upkeep import Progress

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


def _forward(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[_Twin[S], P], Coroutine[Any, Any, R]]:
    """The async twin of a sync method: same name, same parameters, run in a thread."""

    @functools.wraps(method)
    async def call(self: _Twin[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self._sync, *args, **kwargs)

    return call


class _Twin(Generic[S_co]):
    """Holds the sync object that does the work."""

    def __init__(self, sync: S_co) -> None:
        """Speak for `sync`."""
        self._sync = sync

    def __repr__(self) -> str:
        return f"Async{self._sync!r}"


class AsyncKeyValues(_Twin[KeyValues]):
    """The async twin of `KeyValues`."""

    put = _forward(KeyValues.put)
    get = _forward(KeyValues.get)
    get_many = _forward(KeyValues.get_many)
    delete = _forward(KeyValues.delete)
    batch = _forward(KeyValues.batch)
    search = _forward(KeyValues.search)
    list_namespaces = _forward(KeyValues.list_namespaces)
    sweep = _forward(KeyValues.sweep)


class AsyncThreads(_Twin[Threads]):
    """The async twin of `Threads`."""

    read = _forward(Threads.read)
    append = _forward(Threads.append)
    replace = _forward(Threads.replace)
    remove = _forward(Threads.remove)
    list = _forward(Threads.list)
    put_blobs = _forward(Threads.put_blobs)
    blobs = _forward(Threads.blobs)
    remove_blobs = _forward(Threads.remove_blobs)
    threads = _forward(Threads.threads)
    copy = _forward(Threads.copy)
    delete = _forward(Threads.delete)


class AsyncActivationMemory(_Twin[ActivationMemory]):
    """The async twin of `ActivationMemory`."""

    build = _forward(ActivationMemory.build)
    list = _forward(ActivationMemory.list)
    pin = _forward(ActivationMemory.pin)
    unpin = _forward(ActivationMemory.unpin)
    drop = _forward(ActivationMemory.drop)
    stats = _forward(ActivationMemory.stats)
    log = _forward(ActivationMemory.log)
    promote = _forward(ActivationMemory.promote)


class AsyncChatStream:
    """The async twin of `ChatStream`: `async for piece in cube.chat_stream(model, messages)`.

    Everything runs in a thread, a piece at a time; what `chat_stream` refuses is raised with the first one.
    """

    def __init__(self, begin: Callable[[], ChatStream]) -> None:
        """Speak for the stream that `begin` makes."""
        self._begin = begin
        self._making = threading.Lock()
        self._stream: ChatStream | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        piece = await asyncio.to_thread(self._next)
        if piece is None:
            raise StopAsyncIteration
        return piece

    @property
    def answer(self) -> ChatAnswer:
        """The whole answer.

        Raises:
            BadInput: the stream is not over yet, or an error ended it.
        """
        if self._stream is None:
            raise BadInput("there is no answer yet: go through the stream to its end, or await aclose()")
        return self._stream.answer

    async def aclose(self) -> None:
        """As `ChatStream.close`."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _next(self) -> str | None:
        with self._making:
            if self._stream is None and not self._closed:
                self._stream = self._begin()
        return None if self._stream is None else next(self._stream, None)

    def _close(self) -> None:
        with self._making:
            self._closed = True
        if self._stream is not None:
            self._stream.close()


def _streamed(
    method: Callable[Concatenate[MemCube, P], ChatStream],
) -> Callable[Concatenate[AsyncMemCube, P], AsyncChatStream]:
    """The async twin of a method that returns a stream; it does nothing before the first piece."""

    @functools.wraps(method)
    def call(self: AsyncMemCube, /, *args: P.args, **kwargs: P.kwargs) -> AsyncChatStream:
        return AsyncChatStream(functools.partial(method, self._sync, *args, **kwargs))

    return call


class AsyncMemCube(_Twin[MemCube]):
    """The async twin of `MemCube`."""

    @property
    def id(self) -> str:
        """The cube's id, unique over all roots."""
        return self._sync.id

    @property
    def name(self) -> str:
        """The cube's name, unique per owner."""
        return self._sync.name

    @property
    def info(self) -> CubeRow:
        """What the catalog says of it."""
        return self._sync.info

    @property
    def scope(self) -> Scope | None:
        """Under whose identity this handle acts. None: the root's, who opened the folder."""
        return self._sync.scope

    @property
    def kv(self) -> AsyncKeyValues:
        """The key-value entries of this cube."""
        return AsyncKeyValues(self._sync.kv)

    @property
    def activation(self) -> AsyncActivationMemory:
        """The passages of this cube whose keys and values local models keep."""
        return AsyncActivationMemory(self._sync.activation)

    @overload
    async def add(self, text: str, **fields: Unpack[NewItem]) -> MemoryItem: ...

    @overload
    async def add(self, text: list[str] | tuple[str, ...], **fields: Unpack[NewItem]) -> list[MemoryItem]: ...

    @functools.wraps(MemCube.add)
    async def add(
        self, text: str | list[str] | tuple[str, ...], **fields: Unpack[NewItem]
    ) -> MemoryItem | list[MemoryItem]:
        """As `MemCube.add`."""
        return await asyncio.to_thread(self._sync.add, text, **fields)  # type: ignore[arg-type] # -- a union of its overloads

    capture = _forward(MemCube.capture)
    chat = _forward(MemCube.chat)
    chat_stream = _streamed(MemCube.chat_stream)
    warm = _forward(MemCube.warm)
    update = _forward(MemCube.update)
    forget = _forward(MemCube.forget)
    recall = _forward(MemCube.recall)
    recall_many = _forward(MemCube.recall_many)
    search = _forward(MemCube.search)
    get = _forward(MemCube.get)
    history = _forward(MemCube.history)
    list = _forward(MemCube.list)
    tree = _forward(MemCube.tree)
    stats = _forward(MemCube.stats)
    check = _forward(MemCube.check)
    rebuild = _forward(MemCube.rebuild)
    dump = _forward(MemCube.dump)
    grant = _forward(MemCube.grant)
    revoke = _forward(MemCube.revoke)
    grants = _forward(MemCube.grants)


class AsyncMemOS(_Twin[MemOS]):
    """The async twin of `MemOS`: `async with await AsyncMemOS.open(path) as memos`."""

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        embedder: Embedder | None = None,
        reranker: Reranker | None = None,
        rewrite: RewriteQuery | None = None,
        clock: Clock | None = None,
        background: bool = True,
        page_bytes_max: int = PAGE_BYTES_MAX,
        index_above: int = INDEX_ABOVE,
        kv_budgets: KVBudgets | None = None,
    ) -> Self:
        """As `MemOS.open`."""
        sync = await asyncio.to_thread(
            functools.partial(
                MemOS.open, path, embedder=embedder, reranker=reranker, rewrite=rewrite, clock=clock,
                background=background, page_bytes_max=page_bytes_max, index_above=index_above, kv_budgets=kv_budgets,
            )
        )  # fmt: skip
        return cls(sync)

    @property
    def scope(self) -> Scope | None:
        """Under whose identity this handle acts. None: the root's, who opened the folder."""
        return self._sync.scope

    @property
    def embedder(self) -> Embedder:
        """What makes the vectors; it runs in the caller's thread."""
        return self._sync.embedder

    def acting_as(self, scope: Scope) -> Self:
        """As `MemOS.acting_as`."""
        return type(self)(self._sync.acting_as(scope))

    async def cube(self, name: str, *, owner: str | Scope | None = None, create: bool = True) -> AsyncMemCube:
        """As `MemOS.cube`."""
        return AsyncMemCube(await asyncio.to_thread(self._sync.cube, name, owner=owner, create=create))

    async def load(
        self, path: str | Path, *, name: str | None = None, progress: Progress = None
    ) -> AsyncMemCube:
        """As `MemOS.load`."""
        return AsyncMemCube(await asyncio.to_thread(self._sync.load, path, name=name, progress=progress))

    @property
    def threads(self) -> AsyncThreads:
        """As `MemOS.threads`."""
        return AsyncThreads(self._sync.threads)

    cubes = _forward(MemOS.cubes)
    delete = _forward(MemOS.delete)
    check = _forward(MemOS.check)
    rebuild = _forward(MemOS.rebuild)
    reembed = _forward(MemOS.reembed)
    drain = _forward(MemOS.drain)
    jobs = _forward(MemOS.jobs)
    close = _forward(MemOS.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

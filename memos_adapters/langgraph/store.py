"""MemosStore: LangGraph's long-term store over `cube.kv`, durable, searchable, for one principal.

    with MemosStore.from_conn_string("memories", index={"dims": 384, "embed": embeddings}) as store:
        graph = builder.compile(store=store)

What the operations mean is the engine's affair; here is the order of a batch: all is checked, then
all reads see the state before it, then its writes are one commit.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Op,
    Result,
    SearchOp,
    TTLConfig,
)
from typing_extensions import override

from memos_adapters.langgraph.saver_opening import folder_of
from memos_adapters.langgraph.store_cubes import CubeOf, Cubes
from memos_adapters.langgraph.store_index import (
    AWAITED,
    Answers,
    NoEmbedder,
    TextsWanted,
    embedder_of,
    fields_of,
)
from memos_adapters.langgraph.store_methods import StoreMethods
from memos_adapters.langgraph.store_ops import (
    checked_op,
    last_writes,
    matches,
    query_of,
    to_item,
    to_search_item,
    to_write,
)
from memos_adapters.langgraph.store_sweeper import Sweeper
from memos_engine import BadInput, KvDelete, KvEntry, KvPut, MemCube, MemOS

SWEEP_INTERVAL_MINUTES = 5.0
NAMESPACES_PER_READ = 100_000
_Opened: TypeAlias = "Callable[[Path], tuple[MemOS, MemosStore]]"


class MemosStore(StoreMethods):
    """LangGraph's `BaseStore` in one cube, whose namespaces are columns in it.

    It acts as whoever the handle it was given acts as: over `memos.acting_as(Scope(user="alice"))` nobody
    else's items are in reach, whatever namespace a model or a tool names. Sync and async calls go
    together, from any thread and any loop.

    Beyond LangGraph's own stores: labels may hold dots; filters know $in, $nin, $and, $or, $exists and
    $contains, dotted and nested fields; a query goes by meaning and words, and leaves no item out.

    Attributes:
        index_config: As `from_conn_string` was given it. None otherwise.
        embeddings: What LangGraph made of its `embed`.
    """

    supports_ttl = True

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        cube: str = "store",
        cube_of: CubeOf | None = None,
        fields: list[str] | None = None,
        ttl: TTLConfig | None = None,
        embed: bool = True,
    ) -> None:
        """Serve the items of `memos`; nothing is opened or made yet.

        Args:
            memos: As whom to act. A `MemCube` is the one that items live in.
            cube: Name of the principal's cube that items live in.
            cube_of: Gives namespaces cubes of their own, named `<cube>/<what it returns>`: to hand over or erase
                one by itself. It is asked for namespaces and for their beginnings, and returns None where a
                beginning does not tell; a search or listing by such goes through all cubes. Given up with it:
                a batch is one commit per cube, not one, and a search through all takes as long as all.
            fields: Paths of the fields that a query finds an item by, as `text` or `messages[*].content`.
                None: the whole value. `[]`: none, whatever a put says, so that no model is ever asked.
            ttl: Default and refreshing of expiry, in minutes.
            embed: False: queries go by words alone, and no model is ever asked; `memos.reembed(cube)` makes up
                for what was put so.

        Raises:
            BadInput: an argument cannot be taken.
        """
        super().__init__()
        if isinstance(fields, str):
            raise BadInput(
                f"fields is the text {fields!r}: hand over a list of paths, as in fields=[{fields!r}]"
            )
        self._cubes = Cubes(memos, cube, cube_of)
        self._home = cube
        self._fields = None if fields is None else tuple(fields)
        self._embed = embed
        self._sweeper = Sweeper(self.sweep_ttl)
        self.ttl_config = ttl
        self.index_config: IndexConfig | None = None
        self.embeddings: Embeddings | None = None

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | Path,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        cube: str = "store",
        fingerprint: str | None = None,
    ) -> StoreConnection:
        """A store with a folder of its own, for `with` and `async with` alike.

        Args:
            conn_string: The folder; ":memory:" for one that is removed on the way out.
            index: LangGraph's: `dims`, `embed` (Embeddings, a function, an async function, "provider:model",
                or an embedder of the engine) and `fields`. None: queries go by words alone.
            ttl: As of `MemosStore`.
            cube: As of `MemosStore`.
            fingerprint: A name of the model behind `embed`, another for other vectors. None: what the class or
                function is called, with the model it names.

        Raises:
            BadInput: the index cannot be taken. On entering, what `MemOS.open` raises.
        """
        embedder = NoEmbedder() if index is None else embedder_of(index, fingerprint)

        def opened(folder: Path) -> tuple[MemOS, MemosStore]:
            memos = MemOS.open(folder, embedder=embedder)
            fields = None if index is None else fields_of(index)
            store = cls(memos, cube=cube, fields=fields, ttl=ttl, embed=index is not None)
            store.index_config = index
            store.embeddings = getattr(embedder, "embeddings", None)
            return memos, store

        return StoreConnection(opened, conn_string)

    def setup(self) -> None:
        """Make what the store lives in. Never required: the first write does it.

        Raises:
            StoreError: it cannot be made; the leaf says why.
            EmbedderMismatch: its vectors were made by another embedder.
        """
        self._cubes.make()

    async def asetup(self) -> None:
        """As `setup`."""
        await asyncio.to_thread(self.setup)

    @override
    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do operations at once: all reads see the state before the batch, and its writes are one commit.

        Of several writes of one item the last wins. When one operation cannot be taken, none is done. With
        `cube_of` the writes are one commit per cube, in the order of their first writes: all of them are checked
        and have their vectors before the first. What shows at a commit (a full disk, an entry that is frozen or
        another's private one) leaves the commits before it standing.

        Raises:
            BadInput: an operation cannot be taken; the leaf says why.
            AccessDenied: this principal may not read, or write, here.
            Conflict: an entry is frozen.
            EmbedderUnavailable: the embedder's model cannot be had.
        """
        asked = [checked_op(op) for op in ops]
        writes = self._writes(asked)
        results: list[Any] = [None] * len(asked)
        for refresh in (True, False):
            gets = {
                n: op for n, op in enumerate(asked) if isinstance(op, GetOp) and op.refresh_ttl is refresh
            }
            for n, item in zip(gets, self._get_all(list(gets.values()), refresh=refresh), strict=True):
                results[n] = item
        for n, op in enumerate(asked):
            if isinstance(op, SearchOp):
                results[n] = [to_search_item(entry) for entry in self._search(op)]
            elif isinstance(op, ListNamespacesOp):
                results[n] = self._list(op)
        pending = [(self._cubes.to_write(name), changes) for name, changes in writes.items()]
        if pending:
            (first, changes), *others = pending
            first.batch(changes, also=others)
        return results

    @override
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`, in a thread; an async embedding function is awaited on the caller's loop.

        Vectors are asked for before the first commit: a batch that is run again has written nothing yet.
        """
        asked, answers = list(ops), Answers()
        token = AWAITED.set(answers)
        try:
            while True:
                try:
                    return await asyncio.to_thread(self.batch, asked)
                except TextsWanted as wanted:
                    await wanted.answer(answers)
        finally:
            AWAITED.reset(token)

    # Time to live

    def sweep_ttl(self) -> int:
        """Erase the items whose time is over, and return how many; reads pass them over anyway.

        Raises:
            AccessDenied: this principal may not write here.
        """
        return sum(kv.sweep() for kv in self._cubes.below(()))

    async def asweep_ttl(self) -> int:
        """As `sweep_ttl`."""
        return await asyncio.to_thread(self.sweep_ttl)

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep from time to time, in a thread, until `stop_ttl_sweeper`; nothing new where that goes on already.

        Args:
            sweep_interval_minutes: None: as `ttl` says, else 5.

        Returns:
            Done when the thread ends; to cancel it stops the thread.
        """
        told = (self.ttl_config or {}).get("sweep_interval_minutes")
        return self._sweeper.start(60 * float(sweep_interval_minutes or told or SWEEP_INTERVAL_MINUTES))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper, if it runs; False when it still does after `timeout` seconds."""
        return self._sweeper.stop(timeout)

    # How

    def _writes(self, ops: Sequence[Op]) -> dict[str, list[KvPut | KvDelete]]:
        """What is to be written, by cube."""
        found: dict[str, list[KvPut | KvDelete]] = {}
        for op in last_writes(ops):
            name = self._cubes.name_of(tuple(op.namespace))
            found.setdefault(name, []).append(to_write(op, self._fields, embed=self._embed))
        return found

    def _get_all(self, ops: Sequence[GetOp], *, refresh: bool) -> list[Item | None]:
        found: list[Item | None] = [None] * len(ops)
        by_cube: dict[str, list[int]] = {}
        for n, op in enumerate(ops):
            by_cube.setdefault(self._cubes.name_of(tuple(op.namespace)), []).append(n)
        for name, numbers in by_cube.items():
            kv = self._cubes.to_read(name)
            if kv is not None:
                entries = kv.get_many([(ops[n].namespace, ops[n].key) for n in numbers], refresh_ttl=refresh)
                for n, entry in zip(numbers, entries, strict=True):
                    found[n] = to_item(entry)
        return found

    def _search(self, op: SearchOp) -> list[KvEntry]:
        prefix = tuple(op.namespace_prefix)
        cubes = self._cubes.below(prefix)
        if len(cubes) == 1:
            return cubes[0].search(
                prefix, query=query_of(op), filter=op.filter, limit=op.limit, offset=op.offset,
                embed=self._embed, refresh_ttl=op.refresh_ttl,
            )  # fmt: skip
        last = op.limit + op.offset
        found = [
            (entry, kv)
            for kv in cubes
            for entry in kv.search(
                prefix, query=query_of(op), filter=op.filter, limit=last, embed=self._embed
            )
        ]
        found.sort(key=lambda pair: pair[0].updated_at, reverse=True)
        found.sort(key=lambda pair: -2.0 if pair[0].score is None else pair[0].score, reverse=True)
        page = found[op.offset : last]
        if op.refresh_ttl:
            for kv in cubes:
                kv.get_many(
                    [(each.namespace, each.key) for each, home in page if home is kv], refresh_ttl=True
                )
        return [entry for entry, _ in page]

    def _list(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        plain = (
            tuple(each.path) for each in conditions if each.match_type == "prefix" and "*" not in each.path
        )
        start = max(plain, key=len, default=())
        found: set[tuple[str, ...]] = set()
        for kv in self._cubes.below(start):
            for offset in range(0, 2**62, NAMESPACES_PER_READ):
                part = kv.list_namespaces(prefix=start, limit=NAMESPACES_PER_READ, offset=offset)
                found |= {each for each in part if all(matches(each, condition) for condition in conditions)}
                if len(part) < NAMESPACES_PER_READ:
                    break
        return sorted({each[: op.max_depth] for each in found})[op.offset : op.offset + op.limit]


class StoreConnection(AbstractContextManager[MemosStore], AbstractAsyncContextManager[MemosStore]):
    """A store with a folder of its own: open within `with`, or `async with`, and closed after it."""

    def __init__(self, opened: _Opened, conn_string: str | Path) -> None:
        """Private: use `MemosStore.from_conn_string`."""
        self._opened = opened
        self._conn_string = conn_string
        self._open: list[tuple[MemOS, MemosStore, Path | None]] = []

    @override
    def __enter__(self) -> MemosStore:
        temporary = Path(tempfile.mkdtemp(prefix="memos-store-")) if self._conn_string == ":memory:" else None
        try:
            memos, store = self._opened(temporary or folder_of(self._conn_string))
        except BaseException:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._open.append((memos, store, temporary))
        return store

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        memos, store, temporary = self._open.pop()
        store.stop_ttl_sweeper()
        memos.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)  # the system may not let go of a file yet

    @override
    async def __aenter__(self) -> MemosStore:
        return await asyncio.to_thread(self.__enter__)

    @override
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

"""MemosSaver: LangGraph's checkpoints in the threads of a MemOS folder.

    with MemosSaver.from_conn_string("memories") as saver:
        graph = builder.compile(checkpointer=saver)

Every call is durable when it returns. The async methods run the sync ones in a thread: there is one
copy of the logic, and no event loop is held or blocked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol

from memos_adapters.langgraph.saver_config import Address, address_of, before_of, config_of, thread_address
from memos_adapters.langgraph.saver_opening import Opening
from memos_adapters.langgraph.saver_pruning import dropped, latest
from memos_adapters.langgraph.saver_reading import ThreadReader, all_threads, matches, places
from memos_adapters.langgraph.saver_rows import (
    CheckpointRow,
    channel_blobs,
    checkpoint_blob,
    joined,
    write_blobs,
)
from memos_adapters.langgraph.saver_serde import Codec, serializer
from memos_engine import BadInput, BadLimit, MemOS, Scope, ThreadsView

_END = object()
_STRATEGIES = ("keep_latest", "delete")


class MemosSaver(BaseCheckpointSaver[str]):
    """Checkpoints of LangGraph in the threads of one principal of a MemOS. Thread-safe.

    `MemosSaver(memos.acting_as(Scope(user="alice")))` sees Alice's threads alone: Bob's of the same id are
    others. A thread here is the engine's thread `langgraph:<thread_id>`.
    """

    def __init__(
        self,
        memos: MemOS,
        *,
        serde: SerializerProtocol | None = None,
        encryption: bytes | CipherProtocol | None = None,
    ) -> None:
        """Keep checkpoints in `memos`, which stays its opener's to close.

        Args:
            memos: What `MemOS.open(path)` or `acting_as` returned.
            serde: Makes bytes of values. None: LangGraph's own. Nothing is stored or read as pickle.
            encryption: An AES key of 16, 24 or 32 bytes (needs pycryptodome), or a cipher of LangGraph's
                protocol. Encrypted are channel values, pending writes and the checkpoint's own fields.
                Plain on disk stay: thread ids, namespaces, checkpoint and parent ids, all metadata
                (with what a config's `metadata` and `configurable` hold), names and versions of
                channels, ids and paths of tasks, kinds and sizes.

        Raises:
            BadInput: one of these cannot be taken.
            Closed: `memos` is closed.
        """
        if not isinstance(memos, MemOS):
            raise BadInput(f"memos is a {type(memos).__name__}: hand over what MemOS.open(path) returns")
        super().__init__(serde=serializer(serde, encryption))
        self._threads = memos.threads

    @classmethod
    def from_conn_string(
        cls,
        path: str | Path,
        *,
        scope: Scope | None = None,
        serde: SerializerProtocol | None = None,
        encryption: bytes | CipherProtocol | None = None,
    ) -> Opening[Self]:
        """Return a saver over a folder, to be entered by `with` or `async with`, which closes it.

        Args:
            path: The MemOS folder, made when it is not there. ":memory:" is one that is removed at the end.
            scope: Whose threads. None: the root's.
            serde: As of the class.
            encryption: As of the class.

        Raises:
            BadInput: one of these cannot be taken; raised when it is entered, as is the next.
            StoreError: the folder cannot be used; the leaf says why.
        """
        return Opening(path, scope, lambda memos: cls(memos, serde=serde, encryption=encryption))

    def setup(self) -> None:
        """See that the threads can be read. Never needed: they are made when the folder is opened.

        Raises:
            Closed: the MemOS is closed.
            StoreError: they cannot be read.
        """
        self._threads.threads(limit=0)

    # Checkpoints

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and the values of its new channel versions, both or neither, and return its config.

        Raises:
            BadInput: the config names no thread, metadata is not JSON, or a value would be pickled.
        """
        address = address_of(config)
        ns, codec = address.ns or "", self._codec
        plain = get_checkpoint_metadata(config, metadata)
        blobs = channel_blobs(ns, checkpoint["channel_values"], new_versions, codec)
        blobs.append(checkpoint_blob(ns, checkpoint, address.checkpoint_id, plain, codec))
        self._threads.put_blobs(address.thread, blobs)
        return config_of(address.thread_id, ns, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote, beside its checkpoint, which may come later.

        A task's write is stored once per position; errors, interrupts and the like replace earlier ones.

        Raises:
            BadInput: the config names no checkpoint, or a value would be pickled.
        """
        address = address_of(config, needs_checkpoint=True)
        key = joined(address.ns or "", address.checkpoint_id or "")
        replacing, once = write_blobs(key, writes, task_id, task_path, self._codec)
        self._threads.put_blobs(address.thread, replacing, if_absent=once)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a config means, the latest of its namespace if it names none.

        Raises:
            BadInput: the config names no thread, or something is stored that does not open.
        """
        address = address_of(config)
        return self._threads.read(partial(self._tuple, address, None))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each channel is rebuilt from, by one walk through one state of the thread.

        Raises:
            BadInput: the config names no thread, or something is stored that does not open.
        """
        address = address_of(config)
        return self._threads.read(
            lambda view: self._reader(view, address).delta_history(
                address.ns or "", address.checkpoint_id, channels
            )
        )

    # Threads

    def delete_thread(self, thread_id: str) -> None:
        """Erase all checkpoints and writes of a thread, from the disk too."""
        self._threads.delete(thread_address(thread_id).thread)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase the checkpoints and writes of these runs, in whatever thread.

        A checkpoint stays if one of another run needs it to rebuild a `DeltaChannel`.
        """
        wanted = set(_ids(run_ids, "run_ids"))

        def others(rows: Sequence[CheckpointRow]) -> set[tuple[str, str]]:
            return {(row.ns, row.id) for row in rows if row.metadata.get("run_id") not in wanted}

        for address in self._threads.read(all_threads) if wanted else ():
            self._drop(address, others)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread to one that is not there, all or nothing.

        Raises:
            NotFound: there is no such source.
            Conflict: the target holds something.
        """
        self._threads.copy(thread_address(source_thread_id).thread, thread_address(target_thread_id).thread)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Erase checkpoints of threads with their writes, and the values that no other one needs.

        A run that goes on from an erased checkpoint loses its state: prune no thread that is being resumed.

        Args:
            thread_ids: Whose.
            strategy: "keep_latest" keeps the latest of each namespace, and the ancestors from which its
                `DeltaChannel`s are rebuilt. "delete" keeps nothing.

        Raises:
            BadInput: there is no such strategy.
        """
        if strategy not in _STRATEGIES:
            raise BadInput(f"strategy is {strategy!r}: choose 'keep_latest' or 'delete'")
        for thread_id in _ids(thread_ids, "thread_ids"):
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                self._drop(thread_address(thread_id), latest)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return a version that sorts after `current`; two forks never make the same one."""
        number = 0 if current is None else int(str(current).split(".", 1)[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 -- tells forks apart, keeps no secret

    # The same from an event loop

    async def asetup(self) -> None:
        """As `setup`."""
        await asyncio.to_thread(self.setup)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await asyncio.to_thread(self.get_delta_channel_history, config=config, channels=channels)

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        found = await asyncio.to_thread(self.list, config, filter=filter, before=before, limit=limit)
        while (item := await asyncio.to_thread(next, found, _END)) is not _END:
            yield cast("CheckpointTuple", item)

    # Inside

    @property
    def _codec(self) -> Codec:
        return Codec(self.serde)  # made anew: LangGraph gives a copy of this saver another serde

    def _reader(self, view: ThreadsView, address: Address) -> ThreadReader:
        return ThreadReader(view, address, self._codec)

    def _tuple(
        self, address: Address, wanted: Mapping[str, Any] | None, view: ThreadsView
    ) -> CheckpointTuple | None:
        """A checkpoint whose metadata has what is wanted. None: there is none, or not any more."""
        reader = self._reader(view, address)
        row = reader.row(address.ns or "", address.checkpoint_id)
        return reader.whole(row) if row is not None and matches(row, wanted) else None

    def _drop(
        self, address: Address, keep: Callable[[Sequence[CheckpointRow]], Collection[tuple[str, str]]]
    ) -> None:
        names = self._threads.read(lambda view: dropped(self._reader(view, address), keep))
        if names:
            self._threads.remove_blobs(address.thread, named=names)

    def list(  # the last one: it hides the builtin from what follows it in the class
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Return checkpoints, the newest first; each is read when its turn comes.

        Args:
            config: Whose: a thread, in it a namespace and a checkpoint if it names them. None: every thread.
            filter: Values that metadata must have, all of them.
            before: The checkpoint before which they are to be, by id.
            limit: How many at most. None means all.

        Raises:
            BadInput: `config` is given and names no thread, or something is stored that does not open.
            BadLimit: `limit` is negative.
        """
        if limit is not None and limit < 0:
            raise BadLimit(f"limit is {limit!r}: it must be at least 0, or None for all")
        address = None if config is None else address_of(config)
        bound = before_of(before)
        at_most = limit if not filter else None
        named = self._threads.read(lambda view: places(view, address, before=bound, limit=at_most))
        found = (self._threads.read(partial(self._tuple, each, filter)) for each in named)
        return islice((each for each in found if each is not None), limit)


def _ids(ids: Sequence[str], what: str) -> Sequence[str]:
    if isinstance(ids, str):
        raise BadInput(f"{what} is one str, {ids[:40]!r}: hand over a list of them")
    return ids

"""The blocks of one cube: found, fetched, built, dropped, counted. Rights are settled by its caller.

KV is never a risk: a block that is anything but right is a miss with a reason, and the text is read.
What it holds is decided by rows; files and memory follow them.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memos_engine.activation import folder
from memos_engine.activation.codec import Scheme
from memos_engine.activation.folder import Bound
from memos_engine.activation.manifest import Miss
from memos_engine.activation.prefixes import Prefixes, prefix_salt
from memos_engine.blocks.building import build_block
from memos_engine.blocks.standing import is_fresh
from memos_engine.errors import MemosError, NotFound, StoreError
from memos_engine.items import ActivationStats, BlockEvent, BlockInfo, BlockOp, KVBudgets
from memos_engine.store.block_files import block_path, seal_of
from memos_engine.store.block_rows import StoredBlock
from memos_engine.store.moments import micros

if TYPE_CHECKING:
    from pathlib import Path

    from memos_engine.activation.tiers import Tiers
    from memos_engine.activation.values import KVBlock
    from memos_engine.models.local import LocalModel
    from memos_engine.shelf import TextShelf
    from memos_engine.store.writing import CubeWriter

FRESH_MAX = 10_000
"""Blocks of which it is remembered that they hold what their items say, and that their files are what was written."""
_PASSING = frozenset({"unreadable", "newer", "other_model", "slow"})
"""Misses for which a block is not to blame, or not ours to judge: it stays."""

_log = logging.getLogger(__name__)


class ActivationShelf:
    """The blocks of one cube. Thread-safe.

    Args:
        text: The shelf of the items they are made of.
        tiers: Those of this process, for all cubes.
        budgets: What they may take.
    """

    def __init__(self, text: TextShelf, tiers: Tiers, budgets: KVBudgets) -> None:
        self.text = text
        self.tiers = tiers
        self.budgets = budgets
        self._building = threading.Lock()  # of two that build the same at once, one would work for nothing
        self._counting = threading.Lock()
        self._hits = 0
        self._misses: Counter[str] = Counter()
        self._fresh: dict[str, tuple[int, ...]] = {}
        self._sealed: dict[str, tuple[int, ...]] = {}
        self._followed: tuple[int, int] | None = None

    @property
    def cube(self) -> str:
        """Id of the cube."""
        return self.text.file.cube

    @property
    def prefixes(self) -> Prefixes:
        """Conversations that were read before, of all cubes: only with `salt` is one found.

        Those of this cube are let go first where anything of it was erased since, by whatever process.
        """
        prefixes = self.tiers.prefixes
        try:
            self._follow(prefixes)
        except MemosError as exc:  # nobody can say that nothing was erased
            prefixes.drop_cube(self.cube)
            _log.warning(
                "conversations that were read before are read again",
                extra={"action": "chat", "cube": self.cube, "error": str(exc)},
            )
        return prefixes

    def _follow(self, prefixes: Prefixes) -> None:
        """Let go of the conversations of this cube if an item was erased since this was asked last."""
        state = self.text.file.data_version()
        if state == self._followed:
            return
        since = prefixes.seen(self.cube)
        with self.text.file.read() as reader:
            revision = reader.revision()
            erased = since is not None and reader.erased_since(since)
        if erased:
            prefixes.drop_cube(self.cube)
        prefixes.see(self.cube, revision)
        self._followed = state

    def salt(self, principal: str) -> str:
        """What a principal's conversations in this cube are kept under."""
        return prefix_salt(self.cube, principal)

    # Find

    def covering(self, model_digest: str, item_ids: Sequence[str]) -> list[BlockInfo]:
        """The blocks of a model that hold any of these items, the oldest first."""
        with self.text.file.read() as reader:
            found = reader.blocks_covering(model_digest, item_ids, self._now())
        return [block.info for block in found]

    def blocks(self, model_digest: str | None = None) -> list[BlockInfo]:
        """All blocks, or those of one model, the oldest first."""
        with self.text.file.read() as reader:
            return [block.info for block in reader.blocks(self._now(), model=model_digest)]

    def hot(self, model_digest: str, limit: int) -> list[tuple[str, float]]:
        """The items most used that a block of the model could hold and none does, with their uses, hottest first."""
        with self.text.file.read() as reader:
            return reader.hot_items(model_digest, self._now(), limit)

    def fetch(
        self, model: LocalModel, infos: Sequence[BlockInfo]
    ) -> tuple[dict[str, KVBlock], dict[str, Miss]]:
        """Bring blocks to where the model runs; return those that are right, and why others are not, by id.

        What is stale or damaged is taken away.
        """
        ids = list(dict.fromkeys(info.id for info in infos))
        found: dict[str, KVBlock] = {}
        misses: dict[str, Miss] = {}
        stored, stale = self._standing(ids)
        for id_ in ids:
            got = self._one(model, stored.get(id_), stale=id_ in stale)
            if isinstance(got, Miss):
                misses[id_] = got
            else:
                found[id_] = got
        self._clear({id_: miss for id_, miss in misses.items() if id_ in stored and miss.why not in _PASSING})
        for id_ in self._lost(found):
            del found[id_]
            misses[id_] = Miss("absent", "it was taken away meanwhile")
        with self._counting:
            self._hits += len(found)
            self._misses.update(miss.why for miss in misses.values())
        return found, misses

    def _standing(self, ids: Sequence[str]) -> tuple[dict[str, StoredBlock], set[str]]:
        """Those of the blocks that are there, and which of them are stale; what is gone leaves memory too."""
        now = self._now()
        held = self.tiers.held(self.cube)
        for known in (self._fresh, self._sealed):
            if len(known) > FRESH_MAX:
                known.clear()
        with self.text.file.read() as reader:
            stored = reader.blocks_by_id(ids, now)
            stale = {id_ for id_, block in stored.items() if not is_fresh(reader, block, now, self._fresh)}
            gone = held - reader.blocks_among(list(held))  # by other processes, too
        self._let_go(gone)
        return stored, stale

    def _one(self, model: LocalModel, block: StoredBlock | None, *, stale: bool) -> KVBlock | Miss:
        if block is None:
            return Miss("absent", "there is no such block in this cube")
        info = block.info
        if info.model != model.key.digest:
            return Miss("other_model", "another model made it")
        if stale:
            return Miss("stale", "its items say something else, or not to all")
        try:
            return self._brought(model, block)
        except (RuntimeError, MemoryError) as exc:  # torch says so that memory is full
            return Miss("unreadable", f"it cannot be brought to where the model runs: {type(exc).__name__}")

    def _brought(self, model: LocalModel, block: StoredBlock) -> KVBlock | Miss:
        """The block where the model runs: from memory, else from its file."""
        info = block.info
        at_hand = self.tiers.get(self.cube, info.id, model.device)
        if at_hand is not None:
            return at_hand
        if _load_s(info, model) > _read_s(info, model):
            return Miss("slow", "this machine reads its text faster than its file")
        bound = Bound(self.cube, info.id, block.digest)
        path = block_path(self.text.file.folder, info.id)
        read = folder.load(path, model, bound)
        if isinstance(read, Miss):
            return read
        unlike = self._unlike(path, block)
        if unlike is not None:
            return unlike
        saved_s = _load_s(info, model)
        return self.tiers.put(self.cube, info.id, read, model.device, saved_s=saved_s, pinned=info.pinned)

    def _unlike(self, path: Path, block: StoredBlock) -> Miss | None:
        """Why a file is not what its row says; one that was is not read again while it is the same."""
        try:
            found = path.stat()
            state = found.st_ino, found.st_size, found.st_mtime_ns
            if self._sealed.get(block.info.id) == state:
                return None
            if seal_of(path) != block.seal:
                return Miss("damaged", "it is not what was written")
        except FileNotFoundError:
            return Miss("absent", "there is no such file")
        except OSError as exc:
            return Miss("unreadable", str(exc))
        self._sealed[block.info.id] = state
        return None

    def _clear(self, misses: dict[str, Miss]) -> None:
        """Take away what is stale or damaged; where that fails it stays a miss, and the text is read all the same."""
        try:
            for stale in (True, False):
                ids = [id_ for id_, miss in misses.items() if (miss.why == "stale") == stale]
                self.drop(ids, op="stale" if stale else "drop", reason=_reasons(misses, ids))
        except StoreError as exc:
            _log.warning(
                "blocks that are of no use could not be taken away",
                extra={"action": "fetch", "cube": self.cube, "error": str(exc)},
            )

    def _lost(self, found: dict[str, KVBlock]) -> set[str]:
        """Which were taken away while they were read: whoever did could not let go of what came after."""
        if not found:
            return set()
        with self.text.file.read() as reader:
            lost = found.keys() - reader.blocks_among(list(found))
        self._let_go(lost)
        return lost

    # Change

    def build(
        self,
        model: LocalModel,
        item_ids: Sequence[str],
        *,
        reason: str,
        pinned: bool = False,
        scheme: Scheme = "int8",
        uses: float = 0.0,
    ) -> BlockInfo:
        """Encode items in a row as a passage, durable when it returns; what is there already is returned as it is.

        Args:
            model: It alone can use the block.
            item_ids: In their order.
            reason: Why, for the log.
            pinned: The block stays when space is wanted.
            scheme: How its numbers are stored.
            uses: So many are expected beside those that were counted.

        Raises:
            ItemNotFound: one is not in this cube.
            BadInput: there are none, one is not live or not for everyone, a block holds one of them already
                among others, or the model keeps no blocks or cannot read so much.
            BadLimit: there is no room within the budget but that of blocks that save more.
            Conflict: an item was changed or erased meanwhile.
            StoreFull: the disk is full; nothing is left of it.
            StoreError: it cannot be written; nothing is left of it.
        """
        with self._building:
            info = build_block(
                self.text,
                model,
                item_ids,
                reason=reason,
                pinned=pinned,
                scheme=scheme,
                budget_bytes=self.budgets.disk_bytes,
                uses=uses,
            )
        if pinned and not info.pinned:
            self.pin(info.id, pinned=True)
            return replace(info, pinned=True)
        return info

    def drop(self, ids: Sequence[str], *, op: BlockOp, reason: str) -> list[str]:
        """Take blocks away, with their files; return the ids of those that were there."""
        if not ids:
            return []
        dropped = self.text.file.touch(lambda writer: writer.drop_blocks(ids, op=op, reason=reason))
        self._let_go(set(dropped))
        return dropped

    def pin(self, id_: str, *, pinned: bool) -> None:
        """Keep a block when space is wanted, or let it leave.

        Raises:
            NotFound: it is not there.
        """
        if not self.text.file.touch(lambda writer: writer.pin_block(id_, pinned=pinned)):
            raise NotFound(f"no block {id_!r} in this cube: list() tells which there are")
        self.tiers.pin(self.cube, id_, pinned=pinned)

    def used(self, block_ids: Sequence[str], item_ids: Sequence[str]) -> None:
        """Count a use of blocks and of items, in one commit; those that are gone are passed over."""
        if block_ids or item_ids:
            self.text.file.touch(lambda writer: _count(writer, block_ids, item_ids))

    # Tell

    def stats(self) -> ActivationStats:
        """Counts and sizes."""
        with self.text.file.read() as reader:
            blocks, tokens, disk_bytes = reader.block_sums()
        ram_bytes, device_bytes = self.tiers.sizes(self.cube)
        with self._counting:
            return ActivationStats(
                blocks, tokens, disk_bytes, ram_bytes, device_bytes, self._hits, dict(self._misses)
            )

    def log(self, limit: int) -> tuple[BlockEvent, ...]:
        """What happened to blocks, the newest first."""
        with self.text.file.read() as reader:
            return tuple(reader.block_events(limit))

    def _let_go(self, ids: set[str]) -> None:
        if ids:
            self.tiers.drop(self.cube, ids)
            for id_ in ids:
                self._fresh.pop(id_, None)
                self._sealed.pop(id_, None)

    def _now(self) -> int:
        return micros(self.text.clock())


def _load_s(info: BlockInfo, model: LocalModel) -> float:
    """What it takes, by measured rates, to bring a block's file to where the model runs."""
    tensors_bytes = info.tokens * model.capabilities.bytes_per_token
    return info.bytes / model.rates.read_bytes_per_s + tensors_bytes / model.rates.copy_bytes_per_s


def _read_s(info: BlockInfo, model: LocalModel) -> float:
    """What it takes to read its tokens instead, where the model is quickest."""
    return info.tokens / max(model.rates.prefill_tokens_per_s.values())


def _count(writer: CubeWriter, block_ids: Sequence[str], item_ids: Sequence[str]) -> None:
    writer.use_blocks(list(dict.fromkeys(block_ids)))
    writer.use_items(list(dict.fromkeys(item_ids)))


def _reasons(misses: dict[str, Miss], ids: Sequence[str]) -> str:
    """Why files were of no use, as a log may keep it: our own words only."""
    return "; ".join(sorted({f"{misses[id_].why}: {misses[id_].detail}" for id_ in ids}))

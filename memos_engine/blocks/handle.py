"""`cube.activation`: the blocks of one cube, as one principal may use them. Imports no torch until one is needed."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from memos_engine.capture.validate import check_limit, check_name, check_several
from memos_engine.errors import BadInput, BadName, NotFound
from memos_engine.items import ActivationStats, BlockEvent, BlockInfo, Right
from memos_engine.store.rows import View

if TYPE_CHECKING:
    from memos_engine.blocks.shelf import ActivationShelf
    from memos_engine.models.local import LocalModel
    from memos_engine.shelf import Actor

LOG_MAX = 10_000
ASKED_USES = 4.0
"""Uses that a block is given whose maker names it: unused, it stays for some two weeks."""


class ActivationMemory:
    """Keys and values of memories, for models of this machine. Get it from `cube.activation`.

    A block is one passage of memories, encoded once by one model. Which memories a prompt holds is
    never its business: it only spares the model to read them again. It goes with the first of its
    memories that is changed or forgotten.
    """

    def __init__(
        self, cube: str, shelf: Callable[[], ActivationShelf], actor: Callable[[Right], Actor]
    ) -> None:
        """`actor` decides who acts and refuses who may not."""
        self._cube = cube
        self._shelf = shelf
        self._actor = actor

    def __repr__(self) -> str:
        return f"ActivationMemory(cube={self._cube!r})"

    # Write

    def build(
        self,
        model: LocalModel,
        item_ids: Sequence[str],
        *,
        precision: Literal["int8", "bfloat16", "float32"] = "int8",
        pinned: bool = False,
    ) -> BlockInfo:
        """Encode memories, in the order given, as one block; durable when it returns.

        Args:
            model: It alone can use the block.
            item_ids: Memories that all readers of the cube may see, best neighbours of one conversation. Just
                these in a block already: that one is returned.
            precision: int8 takes the fewest bytes, at an error far below that of moving a block.
            pinned: It stays when space is wanted.

        Raises:
            AccessDenied: this scope may not write here.
            ItemNotFound: one is not in this cube, or not yours to see.
            BadInput: there are none, one is not live or not for everyone, a block holds one of them among others,
                or the model keeps no blocks or cannot read so much.
            BadLimit: there is no room within the budget but that of blocks that save more.
            Conflict: an item was changed or forgotten meanwhile.
            StoreError: it cannot be written; nothing is left of it.
        """
        actor = self._actor("write")
        checked_model(model)
        ids = [check_name(id_, "item_id") for id_ in check_several(item_ids, "item_ids", BadName)]
        shelf = self._shelf()
        for id_ in ids:
            shelf.text.get(id_, actor.view)
        reason = f"{actor.principal} asked for it"
        return shelf.build(model, ids, reason=reason, pinned=pinned, scheme=precision, uses=ASKED_USES)

    def promote(self, model: LocalModel) -> tuple[BlockEvent, ...]:
        """Make the blocks that are worth it for `model`, and drop those that are not; return what was done.

        The job `activate` does the same in the background, for models that this process chatted with.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: it is no LocalModel.
            StoreError: the disk or the database failed; what was done before stands.
        """
        self._actor("write")
        checked_model(model)
        from memos_engine.blocks.promote import promote  # noqa: PLC0415 -- where a model is, torch is

        return promote(self._shelf(), model)

    def pin(self, block_id: str) -> None:
        """Keep a block when space is wanted.

        Raises:
            AccessDenied: this scope may not write here.
            NotFound: it is not in this cube, or not yours to see.
        """
        self._shelf_with(block_id).pin(block_id, pinned=True)

    def unpin(self, block_id: str) -> None:
        """Let a block leave when space is wanted.

        Raises:
            AccessDenied: this scope may not write here.
            NotFound: it is not in this cube, or not yours to see.
        """
        self._shelf_with(block_id).pin(block_id, pinned=False)

    def drop(self, block_id: str) -> None:
        """Take a block away; its memories stay, and are read as text.

        Raises:
            AccessDenied: this scope may not write here.
            NotFound: it is not in this cube, or not yours to see.
        """
        shelf = self._shelf_with(block_id)
        principal = self._actor("write").principal
        if not shelf.drop([block_id], op="drop", reason=f"{principal} asked for it"):
            raise _no_block(block_id)

    # Read

    def list(self) -> builtins.list[BlockInfo]:
        """The blocks all whose memories you may see, the oldest first.

        Raises:
            AccessDenied: this scope may not read here.
        """
        view = self._actor("read").view
        return _seen(self._shelf(), view)

    def stats(self) -> ActivationStats:
        """Counts and sizes.

        Raises:
            AccessDenied: this scope may not read here.
        """
        self._actor("read")
        return self._shelf().stats()

    def log(self, *, limit: int = 100) -> tuple[BlockEvent, ...]:
        """What happened to blocks and why, the newest first.

        Raises:
            AccessDenied: only the owner may.
            BadLimit: the limit cannot be taken.
        """
        self._actor("owner")
        return self._shelf().log(check_limit(limit, "limit", most=LOG_MAX))

    def _shelf_with(self, block_id: str) -> ActivationShelf:
        """The shelf, once the principal may write and the block is one of those it sees."""
        view = self._actor("write").view
        shelf = self._shelf()
        if check_name(block_id, "block_id") not in {info.id for info in _seen(shelf, view)}:
            raise _no_block(block_id)
        return shelf


def checked_model(model: object) -> None:
    """Refuse what is no model of this machine.

    Raises:
        BadInput: it is none.
    """
    local = sys.modules.get("memos_engine.models.local")  # without it there is no such model
    if local is None or not isinstance(model, local.LocalModel):
        raise BadInput(f"model is a {type(model).__name__}: hand over LocalModel(folder)")


def _seen(shelf: ActivationShelf, view: View) -> builtins.list[BlockInfo]:
    with shelf.text.file.read() as reader:
        return [
            block.info
            for block in reader.blocks(view.now)
            if not any(reader.hidden(n, view) for n in block.refs)
        ]


def _no_block(block_id: str) -> NotFound:
    return NotFound(f"no block {block_id!r} in this cube that you may see: list() tells which there are")

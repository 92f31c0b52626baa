"""The activation shelves of one root, made on first use, and what this process holds of blocks. Torch comes then."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from memos_engine.errors import BadInput, BadLimit, ModelUnavailable
from memos_engine.items import KVBudgets

if TYPE_CHECKING:
    from memos_engine.activation.tiers import Tiers
    from memos_engine.blocks.shelf import ActivationShelf
    from memos_engine.shelf import TextShelf

__all__ = ["Activations", "checked_budgets"]

_INSTALL = (
    "Activation memory needs torch and transformers ({exc}). Type: pip install 'memos-adapters[local]'."
)


class Activations:
    """Blocks of all cubes of a root, as this process holds them. Thread-safe."""

    def __init__(self, budgets: KVBudgets) -> None:
        """Nothing is held yet."""
        self._budgets = budgets
        self._lock = threading.Lock()
        self._tiers: Tiers | None = None
        self._shelves: dict[str, ActivationShelf] = {}

    def of(self, text: TextShelf) -> ActivationShelf:
        """The blocks of the cube of `text`.

        Raises:
            ModelUnavailable: torch or transformers are not installed.
        """
        try:
            from memos_engine.activation.tiers import Tiers  # noqa: PLC0415 -- torch takes seconds
            from memos_engine.blocks.shelf import ActivationShelf  # noqa: PLC0415 -- as above
        except ImportError as exc:
            raise ModelUnavailable(_INSTALL.format(exc=exc)) from exc
        with self._lock:
            if self._tiers is None:
                self._tiers = Tiers(self._budgets.ram_bytes, self._budgets.device_bytes)
            shelf = self._shelves.get(text.file.cube)
            if shelf is None or shelf.text is not text:
                shelf = ActivationShelf(text, self._tiers, self._budgets)
                self._shelves[text.file.cube] = shelf
            return shelf

    def let_go(self, cube: str, blocks: Sequence[str], erased: bool) -> None:  # noqa: FBT001 -- a hook is called so
        """Blocks of a cube are no more; where items were erased, what was read of conversations goes too."""
        tiers = self._tiers
        if tiers is not None:
            tiers.drop(cube, blocks)
            if erased:
                tiers.prefixes.drop_cube(cube)

    def drop(self, cube: str) -> None:
        """Let go of all that is held for a cube."""
        with self._lock:
            self._shelves.pop(cube, None)
            tiers = self._tiers
        if tiers is not None:
            tiers.drop_cube(cube)

    def close(self) -> None:
        """Let go of everything. A second call does nothing."""
        with self._lock:
            self._shelves.clear()
            self._tiers = None


def checked_budgets(budgets: KVBudgets | None) -> KVBudgets:
    """The budgets, or those by default.

    Raises:
        BadInput: they are none.
        BadLimit: one is negative, or no whole number.
    """
    if budgets is None:
        return KVBudgets()
    if not isinstance(budgets, KVBudgets):
        raise BadInput(f"kv_budgets is a {type(budgets).__name__}: hand over KVBudgets(disk_bytes=...)")
    for field in fields(budgets):
        value = getattr(budgets, field.name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadLimit(
                f"kv_budgets.{field.name} is {value!r}: it must be a whole number of bytes, 0 or more"
            )
    return budgets

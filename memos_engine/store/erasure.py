"""What goes with an item that is forgotten: what is derived only from it, and nodes nothing else points to.

A theme bears the names of some of its things, and goes with the first of these.
"""

from __future__ import annotations

from collections.abc import Iterable

from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import View

_TO_NODES = ("mentions", "same_session", "parent")


def closure(reader: CubeReader, refs: Iterable[int], *, sources: bool, view: View) -> set[int]:
    """`refs` with all that goes with them; what is kept from `view` stays where it is.

    Args:
        reader: The state to look at.
        refs: What is forgotten.
        sources: Also take the episodes that `refs` were derived from.
        view: Who forgets.
    """
    chosen = set(refs)
    if sources:
        chosen |= _seen(reader, {far for _, far in reader.linked(chosen, ("derived_from",), out=True)}, view)
    while grown := _seen(reader, _only_from(reader, chosen, ("derived_from",)), view):
        chosen |= grown
    while grown := reader.nodes_among(_only_to(reader, chosen)):
        chosen |= grown
    return chosen | reader.themes_named_after(chosen)


def _seen(reader: CubeReader, refs: set[int], view: View) -> set[int]:
    return {n for n in refs if not reader.hidden(n, view)}


def _only_from(reader: CubeReader, chosen: set[int], kinds: tuple[str, ...]) -> set[int]:
    """What points at `chosen` and at nothing else."""
    found = {far for _, far in reader.linked(chosen, kinds, out=False)} - chosen
    others = {near for near, far in reader.linked(found, kinds, out=True) if far not in chosen}
    return found - others


def _only_to(reader: CubeReader, chosen: set[int]) -> set[int]:
    """What `chosen` points at, and nothing else does."""
    found = {far for _, far in reader.linked(chosen, _TO_NODES, out=True)} - chosen
    others = {near for near, far in reader.linked(found, _TO_NODES, out=False) if far not in chosen}
    return found - others

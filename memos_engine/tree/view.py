"""The tree as one viewer is shown it: nodes with what that viewer may see below them, and no other names."""

from __future__ import annotations

from memos_engine.items import TreeNode
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import View
from memos_engine.store.tree_rows import PEOPLE


def tree_of(reader: CubeReader, view: View, *, depth: int | None, limit: int) -> tuple[TreeNode, ...]:
    """The topics with their concepts, and the concepts without a topic, each with what is below.

    A concept is shown when the viewer may see an item that mentions it; a theme when all things of its
    name are shown.
    """
    concepts = {n: (node_id, text, count) for n, node_id, text, count in reader.shown_concepts(view)}
    names = {text for _, text, _ in concepts.values()}
    topics = {
        n: (node_id, text, count)
        for n, node_id, text, count in reader.shown_topics(view)
        if text == PEOPLE or names.issuperset(text.split(", "))
    }
    above = reader.below_topics()
    below: dict[int, list[int]] = {}
    for n in concepts:
        below.setdefault(above.get(n, 0) if above.get(n) in topics else 0, []).append(n)

    def concept(n: int, left: int | None) -> TreeNode:
        node_id, text, count = concepts[n]
        rows = [] if left == 0 else reader.shown_below(n, view, limit)
        return TreeNode(node_id, "concept", text, count, tuple(TreeNode(*row, 0) for row in rows))  # type: ignore[arg-type] # -- the kind is one that is looked for

    def topic(n: int, left: int | None) -> TreeNode:
        node_id, text, count = topics[n]
        inside = [] if left == 0 else sorted(below.get(n, ()), key=lambda each: _order(*concepts[each]))
        children = tuple(concept(each, None if left is None else left - 1) for each in inside[:limit])
        return TreeNode(node_id, "topic", text, count, children)

    roots = [(_order(*topics[n]), topic, n) for n in topics]
    roots += [(_order(*concepts[n]), concept, n) for n in below.get(0, ())]
    roots.sort(key=lambda root: root[0])
    return tuple(made(n, None if depth is None else depth - 1) for _, made, n in roots[:limit])


def _order(node_id: str, text: str, count: int) -> tuple[int, str, str]:
    return -count, text, node_id

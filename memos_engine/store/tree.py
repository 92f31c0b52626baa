"""How the tree is written: the edges of items to things, and themes, so that no name outlives what it came from.

A thing is made together with the first edge to it and erased together with the last one, in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_engine.ids import new_id
from memos_engine.items import Kind, MemoryItem
from memos_engine.ports import Entry
from memos_engine.store.moments import instant
from memos_engine.store.reading import CubeReader
from memos_engine.store.tree_rows import PEOPLE
from memos_engine.store.writing import CubeWriter

WORKER = "worker"
"""Principal of background jobs, and author of what they write."""
Wanted = Mapping[int, Mapping[str, float]]
"""For each item the things it shall mention, with the weights."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be written so that items mention the things they shall."""

    new: tuple[tuple[int, str, float], ...]
    """Item, thing and weight."""
    old: tuple[tuple[int, int], ...]
    """Item and ref of the thing."""

    def __bool__(self) -> bool:
        return bool(self.new or self.old)


def difference(reader: CubeReader, wanted: Wanted) -> Difference:
    """Compare what items mention with what they shall."""
    there = reader.thing_edges(wanted)
    new, old = [], []
    for ref, things in wanted.items():
        has = there.get(ref, {})
        new += [
            (ref, text, weight) for text, weight in things.items() if has.get(text, (0, -1.0))[1] != weight
        ]
        old += [(ref, node) for text, (node, _) in has.items() if text not in things]
    return Difference(tuple(new), tuple(old))


def mention(writer: CubeWriter, wanted: Wanted) -> int:
    """Let items mention the things they shall, and no others; returns how many edges that took.

    An item that was erased, changed its state or was hidden meanwhile gets no edge.
    """
    change = difference(writer, wanted)
    writer.connection.executemany(
        "DELETE FROM edges WHERE source = ? AND kind = 'mentions' AND target = ?", change.old
    )
    shared = writer.shared_among({ref for ref, _, _ in change.new})
    new = [edge for edge in change.new if edge[0] in shared]
    nodes = _nodes(writer, list(dict.fromkeys(text for _, text, _ in new)))
    edges = [(ref, nodes[text], weight) for ref, text, weight in new if text in nodes]
    writer.connection.executemany(
        "INSERT INTO edges (source, kind, target, weight) VALUES (?, 'mentions', ?, ?)"
        " ON CONFLICT (source, kind, target) DO UPDATE SET weight = excluded.weight",
        edges,
    )
    lost = writer.unmentioned({node for _, node in change.old})
    writer.erase(lost | writer.themes_named_after(lost))
    return len(edges) + len(change.old)


def _nodes(writer: CubeWriter, texts: Sequence[str]) -> dict[str, int]:
    """Refs of the things of these texts; those that are not there are made. A person's name is none."""
    there = writer.concept_refs(texts)
    missing = [text for text in texts if text not in there]
    entries = [Entry(node(writer, "concept", text), searchable=False) for text in missing]
    made = dict(zip(missing, writer.add(entries, None) if entries else [], strict=True))
    return made | {text: n for text, (n, is_thing) in there.items() if is_thing}


def node(writer: CubeWriter, kind: Kind, text: str) -> MemoryItem:
    """A node of the tree that is yet to be added."""
    at = instant(writer.now)
    return MemoryItem(
        new_id(), writer.cube, kind, text, author=WORKER, created_at=at, updated_at=at, origin="organise"
    )


def people_topic(writer: CubeWriter) -> str:
    """Id of the topic above all people, made when it is missing."""
    there = writer.topic(PEOPLE)
    if there is not None:
        return there
    item = node(writer, "topic", PEOPLE)
    writer.add([Entry(item, searchable=False)], None)
    return item.id


def group(writer: CubeWriter, wanted: Mapping[str, Sequence[str]]) -> int:
    """Let the themes be those of `wanted`: their names, and the texts of the things below each.

    A theme that is there keeps its node; one that is not wanted goes. A theme is not made while a thing of
    its name is missing. Returns how many themes there are.
    """
    refs = {
        text: n
        for text, (n, is_thing) in writer.concept_refs(
            {t for texts in wanted.values() for t in texts}
        ).items()
        if is_thing
    }
    kept = {name: texts for name, texts in wanted.items() if all(part in refs for part in name.split(", "))}
    there = writer.themes()
    writer.erase(n for name, n in there.items() if name not in kept)
    names = [name for name in kept if name not in there]
    entries = [Entry(node(writer, "topic", name), searchable=False) for name in names]
    themes = there | dict(zip(names, writer.add(entries, None) if entries else [], strict=True))
    for name, texts in kept.items():
        below = {refs[text] for text in texts if text in refs}
        now = {source for _, source in writer.linked([themes[name]], ("parent",), out=False)}
        writer.connection.executemany(
            "DELETE FROM edges WHERE source = ? AND kind = 'parent' AND target = ?",
            [(source, themes[name]) for source in sorted(now - below)],
        )
        writer.connection.executemany(
            "INSERT INTO edges (source, kind, target) VALUES (?, 'parent', ?)",
            [(source, themes[name]) for source in sorted(below - now)],
        )
    return len(kept)

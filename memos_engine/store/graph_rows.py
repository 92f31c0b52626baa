"""What capture and the tree ask of the truth: edges, nodes, turns of a thread, calls made before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import log2

from memos_engine.items import Edge
from memos_engine.ports import StoredTurn, ThreadEnd
from memos_engine.store.questions import chunks, marks
from memos_engine.store.rows import LIVE, NODES, from_micros
from memos_engine.store.tree_rows import THING, TreeQuestions


class GraphQuestions(TreeQuestions):
    """Questions about edges, nodes and turns."""

    def edges(self, item_id: str) -> list[Edge]:
        """Edges out of and into an item."""
        rows = self.rows(
            "SELECT s.id, e.kind, t.id, e.weight FROM edges e JOIN items s ON s.n = e.source"
            " JOIN items t ON t.n = e.target WHERE s.id = ?1 UNION "
            "SELECT s.id, e.kind, t.id, e.weight FROM edges e JOIN items s ON s.n = e.source"
            " JOIN items t ON t.n = e.target WHERE t.id = ?1",
            [item_id],
        )
        return [Edge(*row) for row in rows]

    def all_edges(self) -> Iterator[tuple[int, str, int, float]]:
        """Every edge by refs: source, kind, target, weight."""
        yield from self.rows("SELECT source, kind, target, weight FROM edges ORDER BY source, kind, target")

    def concepts(self, names: Collection[str]) -> dict[str, str]:
        """Ids of the concept nodes of `names`, by name."""
        found: dict[str, str] = {}
        for part in chunks(list(names)):
            sql = f"SELECT text, id FROM items WHERE kind = 'concept' AND text IN ({marks(part)})"
            found.update(self.rows(sql, part))
        return found

    def derived_from(self, refs: Sequence[int]) -> dict[int, list[int]]:
        """For each of `refs` that was derived: the refs it was derived from."""
        found: dict[int, list[int]] = {}
        for part in chunks(refs):
            for source, target in self.rows(
                f"SELECT source, target FROM edges WHERE kind = 'derived_from' AND source IN ({marks(part)})",
                part,
            ):
                found.setdefault(source, []).append(target)
        return found

    def linked(self, refs: Iterable[int], kinds: Sequence[str], *, out: bool) -> list[tuple[int, int]]:
        """Pairs of a ref and what it points to (`out`), or what points to it."""
        near, far = ("source", "target") if out else ("target", "source")
        return [
            (one, other)
            for part in chunks(sorted(refs))
            for one, other in self.rows(
                f"SELECT {near}, {far} FROM edges WHERE {near} IN ({marks(part)}) AND kind IN ({marks(kinds)})",
                [*part, *kinds],
            )
        ]

    def of_kinds(self, refs: Iterable[int], kinds: Sequence[str]) -> set[int]:
        """Which of `refs` are of these kinds."""
        return {
            n
            for part in chunks(sorted(refs))
            for (n,) in self.rows(
                f"SELECT n FROM items WHERE n IN ({marks(part)}) AND kind IN ({marks(kinds)})",
                [*part, *kinds],
            )
        }

    def nodes_among(self, refs: Iterable[int]) -> set[int]:
        """Which of `refs` are nodes of the tree."""
        return self.of_kinds(refs, NODES)

    def neighbourhood(self, refs: Iterable[int]) -> dict[tuple[str, str, str], list[Edge]]:
        """Id, kind and text of `refs`, of the people they mention, and of what stands below those, with their edges.

        Things, the concepts that `organise` makes, and edges to them are left out.
        """
        near = set(refs)
        for part in chunks(sorted(near)):
            rows = self.rows(
                f"SELECT target FROM edges WHERE kind IN ('mentions', 'parent') AND source IN ({marks(part)})"
                " UNION SELECT s.source FROM edges s WHERE s.kind = 'parent' AND s.target IN"
                f" (SELECT target FROM edges WHERE kind = 'mentions' AND source IN ({marks(part)}))",
                [*part, *part],
            )
            near.update(row[0] for row in rows)
        found: dict[tuple[str, str, str], list[Edge]] = {}
        for part in chunks(sorted(near)):
            for row in self.rows(
                f"SELECT id, kind, text FROM items WHERE n IN ({marks(part)}) AND NOT {THING}", part
            ):
                found[row] = []
            names = {node[0]: node for node in found}
            for edge in self.rows(
                "SELECT s.id, e.kind, t.id, e.weight FROM edges e JOIN items s ON s.n = e.source"
                f" JOIN items t ON t.n = e.target WHERE e.source IN ({marks(part)})"
                " AND NOT (t.kind = 'concept' AND t.origin = 'organise')",
                part,
            ):
                if edge[0] in names:
                    found[names[edge[0]]].append(Edge(*edge))
        return found

    def changed(self, *, since: int, kinds: Sequence[str], limit: int) -> list[tuple[int, int]]:
        """Sequence numbers and refs of items of `kinds` that changed after `since`, oldest change first."""
        return self.rows(
            "SELECT c.seq, c.item FROM changes c JOIN items i ON i.n = c.item"
            f" WHERE c.seq > ? AND i.kind IN ({marks(kinds)}) ORDER BY c.seq LIMIT ?",
            [since, *kinds, limit],
        )

    def topic(self, text: str) -> str | None:
        """Id of the topic node with this text."""
        found: str | None = self.value(
            "SELECT id FROM items WHERE kind = 'topic' AND text = ? ORDER BY n LIMIT 1", [text]
        )
        return found

    def related(self, refs: Sequence[int], limit_per_node: int = 50) -> list[tuple[int, int, float]]:
        """Live items that mention a person or a thing that one of `refs` mentions: (ref, other, weight), by ref.

        The weight is the sum over what both mention of the product of their edges' weights, divided by
        log2(2 + number of items that mention it). What more than `limit_per_node` items mention is passed
        over: it tells little, and costs much. Who may see the others is for the caller to look at.
        """
        near = [
            row
            for part in chunks(list(dict.fromkeys(refs)))
            for row in self.rows(
                f"SELECT target, source, weight FROM edges WHERE kind = 'mentions' AND source IN ({marks(part)})",
                part,
            )
        ]
        found: dict[tuple[int, int], float] = {}
        holders: dict[int, list[tuple[int, float]]] = {}
        for node, ref, weight in near:
            if node not in holders:
                holders[node] = self._holders(node, limit_per_node)
            share = weight / log2(2 + len(holders[node]))
            for other, its in holders[node]:
                if other != ref:
                    found[ref, other] = found.get((ref, other), 0.0) + share * its
        live = self._live_among({other for _, other in found})
        return sorted((ref, other, weight) for (ref, other), weight in found.items() if other in live)

    def _holders(self, node: int, most: int) -> list[tuple[int, float]]:
        """Refs of what mentions a concept, with the weights; none where there are more than `most`."""
        rows: list[tuple[int, float]] = self.rows(
            "SELECT source, weight FROM edges WHERE target = ? AND kind = 'mentions' LIMIT ?",
            [node, most + 1],
        )
        return rows if len(rows) <= most else []

    def _live_among(self, refs: Iterable[int]) -> set[int]:
        return {
            n
            for part in chunks(sorted(refs))
            for (n,) in self.rows(
                f"SELECT n FROM items WHERE n IN ({marks(part)}) AND state IN ({marks(LIVE)})", [*part, *LIVE]
            )
        }

    def expired(self, now: int, limit: int) -> list[int]:
        """Refs of live items whose time is over; a frozen one waits until it is thawed."""
        rows = self.rows(
            "SELECT n FROM items WHERE expires_at <= ? AND state IN ('generated', 'activated') ORDER BY expires_at"
            " LIMIT ?",
            [now, limit],
        )
        return [row[0] for row in rows]

    # Turns

    def turns(self, thread: str, keys: Collection[str]) -> dict[str, StoredTurn]:
        """Episodes of `thread` by their message key, with the text they were captured with."""
        found: dict[str, StoredTurn] = {}
        for part in chunks(list(keys)):
            for key, id_, text, role, said_at, version in self.rows(
                "SELECT message_key, id, text, role, event_at, version FROM items"
                f" WHERE thread = ? AND message_key IN ({marks(part)})",
                [thread, *part],
            ):
                first = text if version == 1 else self._first_text(id_) or text
                found[key] = StoredTurn(id_, first, role, from_micros(said_at))
        return found

    def _first_text(self, item_id: str) -> str | None:
        """The text of an item's first version that had another text than the current one."""
        found: str | None = self.value(
            "SELECT json_extract(v.state, '$.text') FROM versions v JOIN items i ON i.n = v.item"
            " WHERE i.id = ? AND json_extract(v.state, '$.text') IS NOT NULL ORDER BY v.version LIMIT 1",
            [item_id],
        )
        return found

    def last_turn(self, thread: str) -> ThreadEnd | None:
        """The episode captured last in `thread`, with its session's node."""
        rows = self.rows(
            "SELECT i.id, i.event_at, (SELECT t.id FROM edges e JOIN items t ON t.n = e.target"
            " WHERE e.source = i.n AND e.kind = 'same_session') FROM items i"
            " WHERE i.kind = 'episode' AND i.thread = ? ORDER BY i.n DESC LIMIT 1",
            [thread],
        )
        return ThreadEnd(rows[0][0], from_micros(rows[0][1]), rows[0][2]) if rows else None

    def erased_turns(self, turns: Sequence[bytes]) -> set[bytes]:
        """Which hashes of (thread, message key) stand in the tombstones."""
        found: set[bytes] = set()
        for part in chunks(turns):
            found.update(
                row[0]
                for row in self.rows(f"SELECT turn FROM tombstones WHERE turn IN ({marks(part)})", part)
            )
        return found

    def call(self, key: str) -> tuple[bytes, str] | None:
        """Digest and result of the call that carried an idempotency key."""
        row = self.rows("SELECT digest, result FROM calls WHERE key = ?", [key])
        return (row[0][0], row[0][1]) if row else None

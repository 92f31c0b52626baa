"""What the tree is asked: which texts to look at, which things and themes there are, what stands below them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from memos_engine.store.questions import Questions, chunks, marks, visible
from memos_engine.store.rows import LIVE, View

PEOPLE = "People"
"""The topic above every concept that names a person."""
READ_KINDS = ("episode", "fact", "preference")
"""Kinds whose texts are looked through for things."""
THING = "(kind = 'concept' AND origin = 'organise')"
"""The condition that an item is a thing; a person's concept is made at capture."""
THEME = f"(kind = 'topic' AND origin = 'organise' AND text <> '{PEOPLE}')"
_LIVE = "('" + "', '".join(LIVE) + "')"
_READ_KINDS = "('" + "', '".join(READ_KINDS) + "')"
_SHARED_TEXT = f"kind IN {_READ_KINDS} AND visibility = 'cube' AND state IN {_LIVE}"
"""Only what every reader of the cube may see shapes things, which every reader may see."""


class TreeQuestions(Questions):
    """Questions about things, themes and people as nodes of the tree."""

    # Texts

    def shared_texts(self, *, after: int, limit: int) -> list[tuple[int, str, int | None]]:
        """Ref, text and session (None: no episode) of live items that all may see, in order of refs."""
        return self.rows(
            "SELECT n, text, CASE kind WHEN 'episode' THEN coalesce((SELECT target FROM edges"
            " WHERE source = n AND kind = 'same_session' LIMIT 1), 0) END"
            f" FROM items WHERE n > ? AND {_SHARED_TEXT} ORDER BY n LIMIT ?",
            [after, limit],
        )

    def shared_among(self, refs: Collection[int]) -> dict[int, str]:
        """The texts of those of `refs` that `shared_texts` would return."""
        return {
            n: text
            for part in chunks(sorted(refs))
            for n, text in self.rows(
                f"SELECT n, text FROM items WHERE n IN ({marks(part)}) AND {_SHARED_TEXT}", part
            )
        }

    def shared_episodes(self) -> int:
        """How many episodes `shared_texts` would return."""
        return int(self.value(f"SELECT count(*) FROM items WHERE kind = 'episode' AND {_SHARED_TEXT}"))

    def people(self, *, before: int) -> list[str]:
        """Names of the people whose concepts have refs below `before`."""
        sql = "SELECT text FROM items WHERE kind = 'concept' AND origin <> 'organise' AND n < ?"
        return [row[0] for row in self.rows(sql, [before])]

    # Nodes

    def things(self, texts: Sequence[str] | None = None) -> dict[str, float]:
        """The weights of things by their text: of those among `texts`, or of all."""
        columns = (
            "SELECT text, (SELECT weight FROM edges WHERE target = n AND kind = 'mentions' LIMIT 1)"
            f" FROM items WHERE {THING}"
        )
        rows = (
            self.rows(columns)
            if texts is None
            else [
                row
                for part in chunks(texts)
                for row in self.rows(f"{columns} AND text IN ({marks(part)})", part)
            ]
        )
        return {text: weight for text, weight in rows if weight is not None}

    def concept_refs(self, texts: Collection[str]) -> dict[str, tuple[int, bool]]:
        """Refs of concepts by their text, and whether each is a thing."""
        return {
            text: (n, bool(thing))
            for part in chunks(sorted(texts))
            for text, n, thing in self.rows(
                f"SELECT text, n, origin = 'organise' FROM items WHERE kind = 'concept' AND text IN ({marks(part)})",
                part,
            )
        }

    def things_among(self, refs: Iterable[int]) -> set[int]:
        """Which of `refs` are things."""
        return {
            n
            for part in chunks(sorted(refs))
            for (n,) in self.rows(f"SELECT n FROM items WHERE n IN ({marks(part)}) AND {THING}", part)
        }

    def thing_edges(self, refs: Iterable[int]) -> dict[int, dict[str, tuple[int, float]]]:
        """For each of `refs` that mentions things: their refs and the edges' weights, by text."""
        found: dict[int, dict[str, tuple[int, float]]] = {}
        for part in chunks(sorted(refs)):
            for source, text, target, weight in self.rows(
                "SELECT e.source, c.text, c.n, e.weight FROM edges e JOIN items c ON c.n = e.target"
                f" WHERE e.kind = 'mentions' AND e.source IN ({marks(part)})"
                " AND c.kind = 'concept' AND c.origin = 'organise'",
                part,
            ):
                found.setdefault(source, {})[text] = (target, weight)
        return found

    def unmentioned(self, nodes: Iterable[int]) -> set[int]:
        """Which concepts no item mentions any more."""
        return {
            n
            for part in chunks(sorted(nodes))
            for (n,) in self.rows(
                f"SELECT n FROM items WHERE n IN ({marks(part)}) AND NOT EXISTS"
                " (SELECT 1 FROM edges WHERE target = n AND kind = 'mentions')",
                part,
            )
        }

    def themes(self) -> dict[str, int]:
        """Refs of the themes by their names."""
        return dict(self.rows(f"SELECT text, n FROM items WHERE {THEME}"))

    def theme_count(self) -> int:
        """How many themes there are."""
        return int(self.value(f"SELECT count(*) FROM items WHERE {THEME}"))

    def themes_named_after(self, nodes: Iterable[int]) -> set[int]:
        """Refs of the themes whose names hold the text of one of these things."""
        return {
            theme
            for part in chunks(sorted(nodes))
            for theme, name, text in self.rows(
                "SELECT t.n, t.text, c.text FROM edges e JOIN items c ON c.n = e.source JOIN items t ON t.n = e.target"
                f" WHERE e.kind = 'parent' AND e.source IN ({marks(part)}) AND t.kind = 'topic'"
                " AND t.origin = 'organise' AND c.kind = 'concept' AND c.origin = 'organise'",
                part,
            )
            if text in name.split(", ")
        }

    # What a viewer is shown

    def shown_concepts(self, view: View) -> list[tuple[int, str, str, int]]:
        """Ref, id, text of the live concepts that `view` may see, with how many items it sees below each."""
        seen, values = _seen(view)
        return self.rows(
            "SELECT c.n, c.id, c.text, count(*) FROM items c JOIN edges e ON e.target = c.n AND e.kind = 'mentions'"
            f" JOIN items i ON i.n = e.source WHERE c.kind = 'concept' AND c.state IN {_LIVE} AND {seen} GROUP BY c.n",
            values,
        )

    def shown_topics(self, view: View) -> list[tuple[int, str, str, int]]:
        """Ref, id, text of the themes and of the people's topic, with how many items `view` sees below each."""
        seen, values = _seen(view)
        return self.rows(
            "SELECT t.n, t.id, t.text, count(DISTINCT e.source) FROM items t"
            " JOIN edges p ON p.target = t.n AND p.kind = 'parent'"
            " JOIN edges e ON e.target = p.source AND e.kind = 'mentions' JOIN items i ON i.n = e.source"
            f" WHERE t.kind = 'topic' AND t.origin = 'organise' AND t.state IN {_LIVE} AND {seen} GROUP BY t.n",
            values,
        )

    def below_topics(self) -> dict[int, int]:
        """The topic of each concept that has one."""
        return dict(
            self.rows(
                "SELECT e.source, e.target FROM items t JOIN edges e ON e.target = t.n AND e.kind = 'parent'"
                " JOIN items c ON c.n = e.source AND c.kind = 'concept'"
                " WHERE t.kind = 'topic' AND t.origin = 'organise'"
            )
        )

    def shown_below(self, concept: int, view: View, limit: int) -> list[tuple[str, str, str]]:
        """Id, kind and text of the items below a concept that `view` may see: facts first, then by text."""
        seen, values = _seen(view)
        return self.rows(
            "SELECT i.id, i.kind, i.text FROM edges e JOIN items i ON i.n = e.source"
            f" WHERE e.target = ? AND e.kind = 'mentions' AND {seen} ORDER BY i.kind = 'episode', i.text, i.n LIMIT ?",
            [concept, *values, limit],
        )


def _seen(view: View) -> tuple[str, list[object]]:
    """The condition that an item `i` is shown in the tree."""
    sql, values = visible(view)
    return f"i.kind IN {_READ_KINDS} AND i.state IN {_LIVE} AND {sql}", values

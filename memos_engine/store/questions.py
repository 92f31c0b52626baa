"""What all questions to a cube's database share: rows, values, and who may see an item. In SQL.

Rights are enforced here: every question that returns items takes a View.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memos_engine.items import Filter, MemoryItem
from memos_engine.store.database import Connection
from memos_engine.store.rows import View, from_micros, namespace_column, to_micros


@dataclass(frozen=True, slots=True)
class EmbedderRow:
    """An embedder that this cube's vectors were made with."""

    n: int
    fingerprint: str
    dimension: int


class Questions:
    """One read transaction on one cube's database."""

    def __init__(self, connection: Connection, cube: str, frequencies: dict[str, int]) -> None:
        """`frequencies` is a cache of word frequencies that outlives the transaction."""
        self.connection = connection
        self.cube = cube
        self._frequencies = frequencies

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of a query's first row; None when there is no row."""
        row = self.connection.execute(sql, values).fetchone()
        return None if row is None else row[0]


def marks(values: Collection[object]) -> str:
    """The parameters' place holders for a list of values."""
    return ",".join("?" * len(values))


def where(view: View | None, wanted: Filter) -> tuple[str, list[Any]]:
    """The SQL condition on `items i` for what `view` may see of what is wanted."""
    terms: list[str] = [f"i.state IN ({marks(wanted.states)})"]
    values: list[Any] = [*wanted.states]
    if wanted.kinds:
        terms.append(f"i.kind IN ({marks(wanted.kinds)})")
        values += wanted.kinds
    if wanted.namespace is not None:
        terms.append("i.key IS NOT NULL")
        if prefix := namespace_column(wanted.namespace):
            terms.append("i.namespace >= ? AND i.namespace < ?")
            values += [prefix, prefix[:-1] + " "]  # a blank is what comes after LABEL_END
    for column, value in (("thread", wanted.thread), ("speaker", wanted.speaker)):
        if value is not None:
            terms.append(f"i.{column} = ?")
            values.append(value)
    if wanted.since is not None:
        terms.append("i.event_at >= ?")
        values.append(to_micros(wanted.since))
    if wanted.until is not None:
        terms.append("i.event_at < ?")
        values.append(to_micros(wanted.until))
    if view is not None:  # who asks for what has expired gets it
        sql, more = shared(view) if "expired" in wanted.states else visible(view)
        terms.append(sql)
        values += more
    return " AND ".join(terms), values


def visible(view: View) -> tuple[str, list[Any]]:
    """The condition that an item is not expired and that nobody keeps it from this view."""
    sql, values = shared(view)
    return f"(i.expires_at IS NULL OR i.expires_at > ? OR i.state = 'frozen') AND {sql}", [view.now, *values]


def shared(view: View) -> tuple[str, list[Any]]:
    """The condition that nobody keeps the item from this view."""
    if view.principal is None:
        return "1", []
    return (
        (
            "(i.visibility = 'cube' OR (i.visibility = 'private' AND i.author = ?)"
            " OR (i.visibility = 'session' AND i.author = ? AND i.session IS ?))"
        ),
        [view.principal, view.principal, view.session],
    )


def shows(view: View, item: MemoryItem) -> bool:
    """Whether nobody keeps this version of an item from the view: `shared`, for a version not in the table."""
    if view.principal is None or item.visibility == "cube":
        return True
    own = item.author == view.principal
    return own and (item.visibility == "private" or item.session == view.session)


def chunks(values: Sequence[Any]) -> Iterable[list[Any]]:
    """Parts small enough for one statement's parameters."""
    return (list(values[start : start + 500]) for start in range(0, len(values), 500))


def at(micros: int) -> datetime:
    """The time of a column that is never NULL."""
    moment = from_micros(micros)
    assert moment is not None, "the column is never NULL"
    return moment

"""Is the truth whole, and do the words and vectors agree with it? Reads only, apart from `rebuild_words`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apsw

from memos_engine.store.database import Connection
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import from_micros, words_of
from memos_engine.store.sqlite import chain
from memos_engine.store.writing import CubeWriter

SHOWN_MAX = 5  # refs or lines that a problem names


def problems(reader: CubeReader) -> dict[str, list[str]]:
    """What was compared -> every disagreement found; nothing found is an empty list."""
    checks: dict[str, Callable[[Connection], Iterator[str]]] = {
        "database": _database,
        "words": _words,
        "vectors": _vectors,
        "edges": _edges,
        "versions": _versions,
        "audit": _audit,
    }
    return {name: _lines(check, reader.connection) for name, check in checks.items()}


def _lines(check: Callable[[Connection], Iterator[str]], connection: Connection) -> list[str]:
    """What a check finds; damage that stops it is a finding too."""
    try:
        return list(check(connection))
    except (apsw.CorruptError, apsw.SQLError) as exc:  # a malformed page, or a table that is not there
        return [f"SQLite: {exc}: run rebuild; if it fails, restore the cube from a dump"]


def _database(connection: Connection) -> Iterator[str]:
    # a cursor makes FTS5 read its structure anew: quick_check alone trusts one of an older state, and cries wolf
    connection.execute("SELECT rowid FROM words WHERE words MATCH 'x' LIMIT 1").fetchall()
    for (line,) in connection.execute(f"PRAGMA quick_check({SHOWN_MAX})").fetchall():
        if line != "ok":
            yield f"SQLite: {line}"


def _words(connection: Connection) -> Iterator[str]:
    yield from _refs(
        connection,
        "SELECT n FROM items WHERE indexed = 1 EXCEPT SELECT id FROM words_docsize",
        "items that keyword search cannot find",
    )
    yield from _refs(
        connection,
        "SELECT id FROM words_docsize EXCEPT SELECT n FROM items WHERE indexed = 1",
        "words of items that are gone or not live",
    )


def _vectors(connection: Connection) -> Iterator[str]:
    yield from _refs(
        connection,
        "SELECT v.item FROM vectors v LEFT JOIN items i ON i.n = v.item WHERE i.n IS NULL OR i.indexed = 0",
        "vectors of items that are gone or not live",
    )
    yield from _refs(
        connection,
        "SELECT v FROM vectors JOIN embedders e ON e.n = embedder WHERE length(data) <> 4 * e.dimension",
        "vectors of a wrong length",
    )
    yield from _refs(
        connection,
        "SELECT i.n FROM items i WHERE indexed = 1 AND NOT EXISTS (SELECT 1 FROM vectors v"
        " JOIN embedders e ON e.n = v.embedder AND e.current = 1 WHERE v.item = i.n)"
        # an entry may have been put without a model: then it has no vector at all
        " AND (i.key IS NULL OR EXISTS (SELECT 1 FROM vectors v WHERE v.item = i.n))",
        "live items without a vector of the current embedder",
    )


def _edges(connection: Connection) -> Iterator[str]:
    yield from _refs(
        connection,
        "SELECT source FROM edges WHERE NOT EXISTS (SELECT 1 FROM items WHERE n = source)"
        " OR NOT EXISTS (SELECT 1 FROM items WHERE n = target)",
        "edges to items that are gone",
    )


def _versions(connection: Connection) -> Iterator[str]:
    yield from _refs(
        connection,
        "SELECT n FROM items WHERE version - 1 <> (SELECT count(*) FROM versions WHERE item = n)",
        "items whose history has a gap",
    )


def _audit(connection: Connection) -> Iterator[str]:
    previous = b""
    rows = connection.execute("SELECT seq, at, principal, action, detail, hash FROM audit ORDER BY seq")
    for seq, at, principal, action, detail, found in rows:
        previous = chain(previous, at, principal, action, detail)
        if previous != found:
            yield f"the audit chain breaks at row {seq}: that row or one before it was changed"
            return


def _refs(connection: Connection, sql: str, what: str) -> Iterator[str]:
    found = [row[0] for row in connection.execute(sql).fetchall()]
    if found:
        yield f"{len(found)} {what} (item numbers {', '.join(map(str, found[:SHOWN_MAX]))})"


def rebuild_words(writer: CubeWriter) -> int:
    """Make the keyword index anew from the items; returns how many it holds."""
    connection = writer.connection
    connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
    # It also puts the index back to the format before secure deletes, and tells other connections nothing of it:
    # one that made some would go on in the newer format, and this looks malformed. A setting makes them look.
    connection.execute("INSERT INTO words (words, rank) VALUES ('secure-delete', 1)")
    rows: list[Any] = connection.execute(
        "SELECT n, speaker, text, event_at FROM items WHERE indexed = 1"
    ).fetchall()
    connection.executemany(
        "INSERT INTO words (rowid, body) VALUES (?, ?)",
        [(n, words_of(speaker, text, from_micros(at))) for n, speaker, text, at in rows],
    )
    return len(rows)

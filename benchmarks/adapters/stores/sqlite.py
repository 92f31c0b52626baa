"""LangGraph's SqliteStore, opened as in the store benchmark: with its own defaults."""

from __future__ import annotations

from pathlib import Path

# swaps the sqlite3 module in: before anything else loads it
from benchmarks.systems import langgraph_sqlite  # isort: skip
from benchmarks.adapters.durability import told
from benchmarks.adapters.stores.base import LangGraphStore
from benchmarks.corpus import Corpus


class Sqlite(LangGraphStore, langgraph_sqlite.Sqlite):
    """Its own opening and closing, the calls of all."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        super().__init__(folder, corpus)
        self.durability = told(lambda name: self._store.conn.execute(f"PRAGMA {name}").fetchone()[0])


SYSTEM = Sqlite

"""LangGraph's SqliteStore, its vector search by the sqlite-vec extension.

The standard library's sqlite3 is often built without loadable extensions: `pysqlite3` stands in for
it in this process. The store embeds the whole JSON value unless `text_fields`, which its
documentation does not name, says otherwise; both names are given.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pysqlite3

sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2

from langgraph.store.base import PutOp, SearchItem  # noqa: E402 -- must see the module swapped in above
from langgraph.store.sqlite import SqliteStore  # noqa: E402 -- as above

from benchmarks.corpus import DIMENSION, Corpus  # noqa: E402 -- as above
from benchmarks.systems.base import LIMIT, System  # noqa: E402 -- as above

SPACE = ("bench",)


class Sqlite(System):
    """As its documentation opens it, with its own defaults: rollback journal, synchronous=FULL."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        index: Any = {
            "dims": DIMENSION,
            "embed": lambda texts: corpus.embed(texts).tolist(),
            "fields": ["text"],
            "text_fields": ["text"],
        }
        folder.mkdir(exist_ok=True)
        self._opened = SqliteStore.from_conn_string(str(folder / "store.db"), index=index)
        self._store = self._opened.__enter__()
        self._store.setup()

    def add(self, first: int, texts: list[str]) -> None:
        self._store.batch(PutOp(SPACE, f"{first + n}", {"text": text}) for n, text in enumerate(texts))

    def add_one(self, number: int, text: str) -> None:
        self._store.put(SPACE, f"{number}", {"text": text})

    def search(self, query: str) -> list[SearchItem]:
        return self._store.search(SPACE, query=query, limit=LIMIT)

    def texts_of(self, found: list[SearchItem]) -> list[str]:
        return [item.value["text"] for item in found]

    def close(self) -> None:
        self._opened.__exit__(None, None, None)


SYSTEM = Sqlite

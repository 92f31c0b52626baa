"""Key-value entries on a shelf, read: by key, by namespace, by filter and query. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from memos_engine.items import Json, MemoryItem
from memos_engine.kv.filter import matches
from memos_engine.kv.ranking import Placed, asked, placed
from memos_engine.models.rerank import checked_scores
from memos_engine.shelf import TextShelf
from memos_engine.store.kv_rows import Among
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import View

Place: TypeAlias = tuple[tuple[str, ...], str]
"""Namespace and key."""

SCAN = 500
"""Entries whose values are read at a time while a filter looks for matches."""
RERANKED = 50
"""First matches that a reranker reads."""


@dataclass(frozen=True, slots=True)
class Found:
    """A live entry, the number of its row, and its score under a query."""

    ref: int
    item: MemoryItem
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a search is for, all checked."""

    query: str | None
    condition: Mapping[str, Json]
    limit: int
    offset: int
    embed: bool
    """False: the query goes by words alone."""


def kv_get(shelf: TextShelf, places: Sequence[Place], view: View) -> list[Found | None]:
    """The live entry at each place, if `view` may see it, all of one state."""
    with shelf.file.read() as reader:
        refs = [reader.kv_ref(*place) for place in places]
        items = reader.items([n for n in refs if n is not None], view)
    return [None if n is None or n not in items else Found(n, items[n]) for n in refs]


def kv_namespaces(shelf: TextShelf, prefix: tuple[str, ...], view: View) -> list[tuple[str, ...]]:
    """Namespaces below `prefix` that hold a live entry."""
    with shelf.file.read() as reader:
        return reader.namespaces(prefix, view)


def kv_search(shelf: TextShelf, among: Among, wanted: Wanted) -> list[Found]:
    """A page of the entries: by relevance to the query, or newest change first."""
    if wanted.query is None:
        with shelf.file.read() as reader:
            return _newest(reader, among, wanted)
    question = asked(shelf, wanted.query, embed=wanted.embed)
    first, last = wanted.offset, wanted.offset + wanted.limit
    reranker = shelf.models.reranker
    if reranker is None or first >= RERANKED or not wanted.limit:
        with shelf.file.read() as reader:
            order = _matching(reader, placed(shelf, reader, among, question), wanted.condition)
            return _found(reader, islice(order, first, last), among.view)
    with shelf.file.read() as reader:
        order = _matching(reader, placed(shelf, reader, among, question), wanted.condition)
        found = _found(reader, islice(order, max(last, RERANKED)), among.view)
    return _reranked(shelf, wanted.query, found)[first:last]


def _newest(reader: CubeReader, among: Among, wanted: Wanted) -> list[Found]:
    if not wanted.condition:
        refs = reader.kv_newest(among, limit=wanted.limit, offset=wanted.offset)
        return _found(reader, ((ref, None) for ref in refs), among.view)
    order: Iterator[Placed] = ((ref, None) for ref in reader.kv_newest(among))
    page = islice(_matching(reader, order, wanted.condition), wanted.offset, wanted.offset + wanted.limit)
    return _found(reader, page, among.view)


def _matching(reader: CubeReader, order: Iterator[Placed], condition: Mapping[str, Json]) -> Iterator[Placed]:
    """Those whose value meets the condition, in their order."""
    if not condition:
        yield from order
        return
    while part := list(islice(order, SCAN)):
        values = reader.kv_values([ref for ref, _ in part])
        yield from (pair for pair in part if matches(condition, values[pair[0]]))


def _found(reader: CubeReader, order: Iterator[Placed], view: View) -> list[Found]:
    pairs = list(order)
    items = reader.items([ref for ref, _ in pairs], view)
    return [Found(ref, items[ref], score) for ref, score in pairs]


def _reranked(shelf: TextShelf, query: str, found: list[Found]) -> list[Found]:
    """The first ranked entries in the reranker's order; the scores stay with the places, so that they still fall."""
    read = [each for each in found[:RERANKED] if each.score is not None]
    if shelf.models.reranker is None or not read:
        return found
    scores = checked_scores(shelf.models.reranker.scores(query, [each.item.text for each in read]), len(read))
    order = np.argsort(-scores, kind="stable").tolist()
    better = [
        Found(read[place].ref, read[place].item, each.score) for place, each in zip(order, read, strict=True)
    ]
    return [*better, *found[len(read) :]]

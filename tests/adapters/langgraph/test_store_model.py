"""MemosStore beside LangGraph's InMemoryStore: the same answers to the same batches, but for what is told here.

Where the two differ on purpose, the model is put right first, or the case is left out:

* Without a query we return the item changed last first, InMemoryStore the one inserted first: answers are
  compared without their order, pages by their length.
* InMemoryStore keeps a namespace after its last item, and makes one for a `get`: the model loses those.
* InMemoryStore keeps the vectors of what an item said before: the model loses them before a put.
* InMemoryStore fails on two equal texts in one batch (langgraph #8822): each put says something else.
* InMemoryStore takes `True` for 1, and fails to compare what is missing: filters here do neither.
* InMemoryStore's score is the cosine alone, ours is raised by the query's words: queries here share none.
* InMemoryStore drops items without a vector from all pages but those that reach the end of the others:
  queries here ask for everything at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langgraph.store.base import (
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from memos_adapters.langgraph.store import MemosStore
from memos_engine import MemOS
from tests.adapters.langgraph.store_embeddings import DIMS, embed

FIELDS = ["text", "list[*].t"]
INDEX: IndexConfig = {"dims": DIMS, "embed": embed, "fields": FIELDS}
ALL = 1_000

PLACES = [("a",), ("a", "b"), ("ab",), ("a\x1f", "é"), ("*", "b"), (" ", "a", "b")]
"""Few, so that the operations of a batch meet."""
NAMESPACES = st.sampled_from(PLACES)
PREFIXES = st.sampled_from([(), (), *PLACES, ("a\x1f",), ("*",), (" ", "a"), ("b",)])
KEYS = st.sampled_from(["k", "a/名"])
EVERYWHERE = [(place, key) for key in ("k", "a/名") for place in PLACES]
SCALARS = st.one_of(st.sampled_from(["x", "y", ""]), st.sampled_from([0, 1, 2.5]), st.none())
NESTED = st.dictionaries(st.sampled_from(["p", "q"]), SCALARS, max_size=2)
VALUES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"n": st.integers(0, 4)},
    optional={
        "a": SCALARS,
        "of": NESTED,
        "list": st.lists(st.builds(dict, t=st.sampled_from("uvw")), max_size=2),
    },
)
NUMBERS = st.dictionaries(
    st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), st.integers(0, 4), min_size=1, max_size=2
)
FILTERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({"n": st.one_of(NUMBERS, st.integers(0, 4))}),
    st.fixed_dictionaries({}, optional={"a": SCALARS, "n": NUMBERS, "of": NESTED}),
)
WORDLESS = st.sampled_from([None, None, "zzz", "yyy zzz", ""])
"""Queries of words that no item holds."""

KINDS: st.SearchStrategy[Literal["prefix", "suffix"]] = st.sampled_from(["prefix", "suffix"])

gets = st.tuples(NAMESPACES, KEYS).map(lambda parts: GetOp(*parts))
puts = st.tuples(
    NAMESPACES, KEYS, VALUES, st.sampled_from([None, None, False, ["text"], ["list[0].t", "no.where"]])
).map(lambda parts: PutOp(*parts))
deletes = st.tuples(NAMESPACES, KEYS).map(lambda parts: PutOp(*parts, None))
searches = st.tuples(PREFIXES, FILTERS, st.just(ALL), st.just(0), WORDLESS).map(
    lambda parts: SearchOp(*parts)
)
pages = st.tuples(PREFIXES, FILTERS, st.integers(0, 5), st.integers(0, 5)).map(lambda parts: SearchOp(*parts))
conditions = st.tuples(KINDS, PREFIXES).map(lambda parts: MatchCondition(*parts))
listings = st.tuples(
    st.one_of(st.none(), st.lists(conditions, max_size=2).map(tuple)),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([100, 1, 2]),
    st.sampled_from([0, 1]),
).map(lambda parts: ListNamespacesOp(*parts))
batches = st.lists(
    st.one_of(puts, puts, puts, deletes, gets, searches, searches, pages, listings), min_size=1, max_size=8
)


class Model(InMemoryStore):
    """LangGraph's own store, without the faults that this module tells of."""

    def answers(self, ops: Sequence[Op]) -> list[Any]:
        """What the batch returns."""
        for namespace in [namespace for namespace, items in self._data.items() if not items]:
            del self._data[namespace]
        listed = {n: self.batch([op])[0] for n, op in enumerate(ops) if isinstance(op, ListNamespacesOp)}
        rest = [op for op in ops if not isinstance(op, ListNamespacesOp)]
        reads = iter(self.batch([op for op in rest if not isinstance(op, PutOp)]))
        written = [op for op in rest if isinstance(op, PutOp)]
        for op in written:
            self._vectors[op.namespace].pop(op.key, None)
        self.batch(written)
        return [
            listed[n] if n in listed else None if isinstance(op, PutOp) else next(reads)
            for n, op in enumerate(ops)
        ]


def told(op: Op, answer: Any) -> object:
    """An answer as far as the two stores agree on it."""
    if isinstance(op, SearchOp):
        if op.limit < ALL:
            return len(answer)
        return sorted(
            (item.namespace, item.key, repr(item.value), None if item.score is None else round(item.score, 3))
            for item in answer
        )
    if isinstance(answer, Item):
        return answer.namespace, answer.key, repr(answer.value)
    return answer


def distinct(ops: Sequence[Op], start: int) -> list[Op]:
    """The batch, with a text of its own in each item."""
    return [
        op._replace(value={**op.value, "text": f"said {start + n}", "list": [
            {"t": f"{each['t']} {start + n} {m}"} for m, each in enumerate(op.value.get("list", []))
        ]})
        if isinstance(op, PutOp) and op.value is not None else op
        for n, op in enumerate(ops)
    ]  # fmt: skip


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes: add it by hand
)
@given(start=st.lists(VALUES, min_size=6, max_size=12), batches=st.lists(batches, min_size=1, max_size=6))
@pytest.mark.parametrize("indexed", [True, False])
def test_it_answers_as_langgraphs_own(
    memos: MemOS, start: list[dict[str, Any]], batches: list[list[Op]], indexed: bool
) -> None:
    """Whatever batches come, both stores return the same, operation by operation."""
    model = Model(index=INDEX if indexed else None)
    store = MemosStore(memos, cube="fresh", fields=FIELDS if indexed else [])
    store.setup()
    try:
        filled: list[Op] = [
            PutOp(place, key, value) for (place, key), value in zip(EVERYWHERE, start, strict=False)
        ]
        for number, batch in enumerate([filled, *batches]):
            ops = distinct(batch, 20 * number)
            for op, mine, theirs in zip(ops, store.batch(ops), model.answers(ops), strict=True):
                assert told(op, mine) == told(op, theirs), op
    finally:
        memos.delete("fresh")


def test_scored_items_are_in_langgraphs_order(memos: MemOS) -> None:
    """Without a word in common both stores rank by the same cosine, and put what has none last."""
    model, store = Model(index=INDEX), MemosStore(memos, fields=FIELDS)
    for each in (model, store):
        for n, text in enumerate(["tea kettle", "quokka", "teapot", "quay", "kettledrum"]):
            each.put(("n",), f"k{n}", {"text": text})
        each.put(("n",), "unseen", {"text": "tea"}, index=False)
    for query in ("teaz", "kettlex", "quokk", "xyz"):
        mine, theirs = store.search(("n",), query=query), model.search(("n",), query=query)
        assert _scores(mine) == pytest.approx(_scores(theirs), abs=1e-5)
        assert mine[0].key == theirs[0].key
        assert mine[-1].key == theirs[-1].key == "unseen"


def _scores(found: Sequence[SearchItem]) -> list[float]:
    """Scores in order, -2 for none."""
    return [-2.0 if item.score is None else item.score for item in found]

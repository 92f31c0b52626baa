"""A prefix that was saved and loaded, beside reading its tokens again: logits, answers, and the hundredth query.

The published method stands beside it: what it loads is what it hands to the model, which appends to it,
so that a second query sees the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.kv import published
from benchmarks.kv.divergence import kl
from benchmarks.kv.first_token import INT8, OURS, PUBLISHED
from benchmarks.kv.subjects import Ground
from benchmarks.machine import Row, Value
from memos_engine.activation.block_file import load_block, save_block
from memos_engine.activation.codec import Scheme
from memos_engine.activation.compose import compose
from memos_engine.activation.values import KVBlock
from memos_engine.models.local import LocalModel

__all__ = ["exactness_rows"]

QUERY_TOKENS = 48
ANSWER_TOKENS = 24


def exactness_rows(ground: Ground, lengths: Sequence[int], queries: int) -> dict[str, Row]:
    """One row a system; differences are the largest over all lengths of the prefix.

    Args:
        lengths: Tokens of the prefix, the head included.
        queries: How many are asked of one block before the first is asked again.
    """
    model, folder = ground.model, ground.folder
    text = ground.text(max(lengths) + QUERY_TOKENS * queries)
    rows: dict[str, list[Row]] = {OURS: [], INT8: [], PUBLISHED: []}
    for count in lengths:
        memory, after = text[:count], text[count:]
        asked = [after[n * QUERY_TOKENS :][:QUERY_TOKENS] for n in range(queries)]
        scheme: Scheme = "float32" if model.key.dtype == "float32" else "bfloat16"
        path = folder / "exact.block"
        rows[OURS].append(_ours(model, memory, asked, path, scheme))
        rows[INT8].append(_ours(model, memory, asked[:1], path, "int8"))
        rows[PUBLISHED].append(_published(model, memory, asked[0], folder / "published.pickle"))
    return {name: _worst(each) for name, each in rows.items()}


def _ours(
    model: LocalModel, memory: tuple[int, ...], asked: Sequence[tuple[int, ...]], path: Path, scheme: Scheme
) -> Row:
    save_block(path, model.block(memory), scheme=scheme)
    block = load_block(path, model.key, model.capabilities.layers, dtype=model.network.dtype)
    assert isinstance(block, KVBlock), block
    first = _logits(model, block, asked[0])
    expected = published.full_prefill(model.network, (*memory, *asked[0]), keep=len(asked[0]))
    told = model.complete((*memory, *asked[0]), max_new_tokens=ANSWER_TOKENS).ids
    composed = compose(model, [block], asked[0])
    ours = model.complete(composed.rest, composed.prefix, max_new_tokens=ANSWER_TOKENS).ids
    row: Row = {
        "max_logit_diff": _diff(expected, first),
        "prefix_kl": float(kl(expected, first).mean()),
        "same_answer": int(ours == told),
    }
    for query in asked[1:]:
        _logits(model, block, query)
    if len(asked) > 1:
        again = _logits(model, block, asked[0])
        row |= {"queries": len(asked) + 1, "repeat_logit_diff": _diff(first, again)}
        row["repeat_kl"] = float(kl(first, again).mean())
    return row


def _logits(model: LocalModel, block: KVBlock, query: tuple[int, ...]) -> Tensor:
    composed = compose(model, [block], query)
    return model.logits(composed.rest, composed.prefix)


def _published(model: LocalModel, memory: tuple[int, ...], query: tuple[int, ...], path: Path) -> Row:
    """As its chat does it: the loaded object itself is gone on from, in every call."""
    network: Any = model.network
    published.save(path, published.cache_of(network, memory))
    cache = published.load(path)
    expected = published.full_prefill(network, (*memory, *query), keep=len(query))
    first = published.answer(network, cache, query, keep=len(query))
    again = published.answer(network, cache, query, keep=len(query))
    return {
        "max_logit_diff": _diff(expected, first),
        "prefix_kl": float(kl(expected, first).mean()),
        "queries": 2,
        "repeat_logit_diff": _diff(first, again),
        "repeat_kl": float(kl(first, again).mean()),
    }


def _diff(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def _worst(rows: Sequence[Row]) -> Row:
    """The largest of every number; of `same_answer` the least."""
    return {name: _extreme(name, [row[name] for row in rows]) for name in rows[0]}


def _extreme(name: str, values: Sequence[Value]) -> Value:
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    found = min(numbers) if name == "same_answer" else max(numbers)
    return int(found) if name in ("same_answer", "queries") else float(f"{found:.3g}")

"""Three memories behind one head: how far each way of composing them is from reading them at once, and how fast.

Divergence is over the tokens of a query: what follows the last memory, and parts of the others read again.
Times are until the first token after it, on the first samples, in turns. Interval: bootstrap over samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeAlias

from torch import Tensor

from benchmarks.adapters.legs import Spent, rounded
from benchmarks.kv import published
from benchmarks.kv.divergence import Interval, kl, mean_of, quotient_of
from benchmarks.kv.first_token import FULL, OURS, PUBLISHED, likeliest
from benchmarks.kv.text import Sample
from benchmarks.kv.timing import Leg, in_rounds, speedups, times
from benchmarks.machine import Row
from memos_engine.activation.compose import Composed, compose
from memos_engine.activation.values import KVBlock, LayerKV, Prefix
from memos_engine.models.local import LocalModel

__all__ = ["AUTO", "RECOMPUTED", "REROTATED", "SMALL", "WAYS", "composing_rows", "going_on"]

Way: TypeAlias = Mapping[str, Any]
"""Arguments of `compose`."""

AUTO, RECOMPUTED, REROTATED, SMALL = "auto", "drift 15%", "re-rotated", "drift 5%"
WAYS: Mapping[str, Way] = {
    REROTATED: {"policy": "rerotated"},
    "first 8 of each": {"policy": "first_tokens"},
    "cacheblend 5%": {"policy": "cacheblend", "share": 0.05},
    "cacheblend 15%": {"policy": "cacheblend", "share": 0.15},
    "query-aware 5%": {"policy": "query_aware", "share": 0.05},
    "query-aware 15%": {"policy": "query_aware", "share": 0.15},
    SMALL: {"policy": "drift", "share": 0.05},
    RECOMPUTED: {"policy": "drift", "share": 0.15},
    AUTO: {},
}
"""`auto` is the default: drift-corrected recomputation of 15 %, unless full prefill is as fast. Its row tells
which methods it took."""


@dataclass(slots=True)
class _Found:
    """Of one system, an entry a sample."""

    kl: list[float] = field(default_factory=list)
    last_kl: list[float] = field(default_factory=list)
    """Of the last token of each query: where an answer would begin."""
    agree: list[float] = field(default_factory=list)


def composing_rows(
    model: LocalModel, samples: Sequence[Sample], *, timed: int, tell: Callable[[str], None]
) -> dict[str, Row]:
    """One row a system.

    Args:
        timed: Samples on whose first query all are timed.
        tell: Hears how far it is.
    """
    found: dict[str, _Found] = {name: _Found() for name in (PUBLISHED, *WAYS)}
    spent: dict[str, Spent] = {}
    methods: dict[str, set[str]] = {name: set() for name in WAYS}
    model.rates  # noqa: B018 -- measured once per process, not with the first query
    for number, sample in enumerate(samples):
        prepared = _Prepared(model, sample)
        prepared.compare(found, methods)
        if number < timed:
            took, _ = in_rounds(prepared.legs(sample.queries[0]), 1)
            for name, each in took.items():
                into = spent.setdefault(name, Spent())
                into.wall_s += each.wall_s
                into.cpu_s += each.cpu_s
        tell(f"sample {number + 1} of {len(samples)}, KL so far: " + _so_far(found))
    rows = {name: _row(each, found[PUBLISHED]) for name, each in found.items()}
    for name, chosen in methods.items():
        rows[name]["methods"] = ", ".join(sorted(chosen))
    rows[FULL] = {}
    for name, each in spent.items():
        rows[name] |= times(each, "composed")
        if name != FULL:
            rows[name] |= speedups(spent[FULL], each, "composed_speedup")
    rows[OURS] = _headline(rows)
    return rows


class _Prepared:
    """A sample whose memories are encoded, each once behind the head."""

    def __init__(self, model: LocalModel, sample: Sample) -> None:
        self._model = model
        self._sample = sample
        whole = [model.prefill((*sample.head, *memory)) for memory in sample.memories]
        self._caches = [published.over(each) for each in whole]
        at = len(sample.head)
        self._blocks = [
            KVBlock(
                ids=each.ids[at:],
                behind=sample.head,
                layers=tuple(
                    LayerKV(layer.keys[:, at:].contiguous(), layer.values[:, at:].contiguous())
                    for layer in each.layers
                ),
                key=model.key,
            )
            for each in whole
        ]

    def compare(self, found: Mapping[str, _Found], methods: Mapping[str, set[str]]) -> None:
        """Note how far every system is from full prefill, the mean over the sample's queries."""
        numbers: dict[str, list[tuple[float, float, float]]] = {name: [] for name in found}
        for query in self._sample.queries:
            expected = published.full_prefill(
                self._model.network, (*self._sample.context, *query), keep=len(query)
            )
            for name in found:
                if name == PUBLISHED:
                    logits = published.answer(
                        self._model.network, published.joined(self._caches), query, keep=len(query)
                    )
                else:
                    composed = self._compose(query, WAYS[name])
                    methods[name].add(composed.method)
                    prefix, unread = going_on(composed, len(self._sample.context))
                    logits = self._model.logits(unread, prefix)[-len(query) :]
                numbers[name].append(_compared(expected, logits))
        for name, each in numbers.items():
            far, last, agree = (fmean(column) for column in zip(*each, strict=True))
            found[name].kl.append(far)
            found[name].last_kl.append(last)
            found[name].agree.append(agree)

    def legs(self, query: tuple[int, ...]) -> dict[str, Leg]:
        """Every system's way to the first token after a query."""
        network, context = self._model.network, self._sample.context

        def concatenated() -> int:
            return likeliest(published.answer(network, published.joined(self._caches), query))

        legs = {
            FULL: Leg(lambda: likeliest(published.full_prefill(network, (*context, *query)))),
            PUBLISHED: Leg(concatenated),
        }
        for name, way in WAYS.items():
            legs[name] = Leg(lambda way=way: self._first_token(query, way))  # type: ignore[misc] # -- bound now
        return legs

    def _first_token(self, query: tuple[int, ...], way: Way) -> int:
        composed = self._compose(query, way)
        return self._model.complete(composed.rest, composed.prefix, max_new_tokens=1).ids[0]

    def _compose(self, query: tuple[int, ...], way: Way) -> Composed:
        return compose(self._model, self._blocks, query, behind=self._sample.head, **way)


def going_on(composed: Composed, at: int) -> tuple[Prefix, tuple[int, ...]]:
    """What was composed, at most the first `at` tokens of it, and all tokens behind: those are read (again)."""
    prefix = composed.prefix
    layers = tuple(LayerKV(each.keys[:, :at], each.values[:, :at]) for each in prefix.layers)
    return Prefix(prefix.ids[:at], layers), (*prefix.ids[at:], *composed.rest)


def _compared(expected: Tensor, logits: Tensor) -> tuple[float, float, float]:
    far = kl(expected, logits)
    agree = (expected.argmax(-1) == logits.argmax(-1)).float().mean()
    return float(far.mean()), float(far[-1]), float(agree)


def _row(found: _Found, concatenated: _Found) -> Row:
    return {
        "samples": len(found.kl),
        **_columns("kl", mean_of(found.kl)),
        **_columns("kl_ratio", quotient_of(found.kl, concatenated.kl)),
        "kl_last_token": rounded(fmean(found.last_kl)),
        "top1": rounded(fmean(found.agree)),
    }


def _columns(name: str, told: Interval) -> Row:
    return {name: rounded(told.mean), f"{name}_low": rounded(told.low), f"{name}_high": rounded(told.high)}


def _headline(rows: Mapping[str, Row]) -> Row:
    """What the project claims, as one system's."""
    row: Row = {"samples": rows[PUBLISHED]["samples"]}
    for system, name in ((REROTATED, "kl_ratio_rerotated"), (RECOMPUTED, "kl_recomputed"), (AUTO, "kl_auto")):
        for suffix in ("", "_low", "_high"):
            row[f"{name}{suffix}"] = rows[system][f"kl_ratio{suffix}"]
        for suffix in ("", "_cpu"):
            row[f"{name}_speedup{suffix}"] = rows[system].get(f"composed_speedup{suffix}")
    return row


def _so_far(found: Mapping[str, _Found]) -> str:
    return ", ".join(f"{name} {fmean(each.kl):.4f}" for name, each in found.items())

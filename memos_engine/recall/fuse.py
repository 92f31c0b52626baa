"""Ranked lists become one score per item. Pure. The recipe's constants live here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_engine.items import Reason, Retriever

Ranked = Sequence[tuple[int, float]]
"""Refs with the retriever's own score, best first."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Constants of the first recall."""

    rrf_k: int = 20
    """Reciprocal rank fusion (Cormack et al., SIGIR 2009): score = sum 1 / (k + rank). Measured better than 60."""
    dense_weight: float = 1.0
    keyword_weight: float = 1.0
    similarity_min: float = 0.2
    """Cosine below which a vector says nothing: MiniLM puts unrelated texts at about 0.14."""
    pool: int = 50
    """Candidates taken from each retriever, at least."""


class Fusion:
    """Two rankings fused by weighted reciprocal ranks: the order of refs, and why each is there."""

    def __init__(self, dense: Ranked, keyword: Ranked, recipe: Recipe) -> None:
        """Fuse; vectors below the recipe's `similarity_min` do not count as a match."""
        near = [pair for pair in dense if pair[1] >= recipe.similarity_min]
        self._ranked: tuple[tuple[Retriever, dict[int, tuple[int, float]]], ...] = (
            ("dense", {ref: (rank, score) for rank, (ref, score) in enumerate(near, start=1)}),
            ("keyword", {ref: (rank, score) for rank, (ref, score) in enumerate(keyword, start=1)}),
        )
        scores: dict[int, float] = {}
        weights = (recipe.dense_weight, recipe.keyword_weight)
        for (_, ranks), weight in zip(self._ranked, weights, strict=True):
            for ref, (rank, _score) in ranks.items():
                scores[ref] = scores.get(ref, 0.0) + weight / (recipe.rrf_k + rank)
        self._scores = scores
        self._best = sum(weights) / (recipe.rrf_k + 1)
        self.order = sorted(scores, key=lambda ref: (-scores[ref], ref))
        """Refs, best first; ties by ref, older first."""

    def score(self, ref: int) -> float:
        """0..1: 1 when every retriever ranks it first."""
        return self._scores[ref] / self._best

    def why(self, ref: int) -> tuple[Reason, ...]:
        """Which retriever found it, at which rank."""
        return tuple(Reason(name, *ranks[ref]) for name, ranks in self._ranked if ref in ranks)


def said_once(order: Sequence[int], derived_from: Mapping[int, Sequence[int]]) -> list[tuple[int, int]]:
    """The order without repeats: pairs of the ref to show and the ref that earned its place.

    What was derived from an episode that was found too gives its place to the episode: that says the
    same in its own words, and the rest of the turn with it.
    """
    found = set(order)
    shown: dict[int, int] = {}
    for ref in order:
        for other in [origin for origin in derived_from.get(ref, ()) if origin in found] or [ref]:
            shown.setdefault(other, ref)
    return list(shown.items())

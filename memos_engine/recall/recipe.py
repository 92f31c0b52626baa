"""The constants of recall, in one place, with what chose them. Pure.

Tuned on five conversations of LoCoMo (CC BY-NC 4.0, not included) with all-MiniLM-L6-v2, leaving one
conversation out in turn; docs/benchmarks.md has the ablation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How candidates are found and ranked. A part with weight 0 is switched off."""

    pool: int = 100
    """Items taken from each of dense and keyword search, at least. Scores are standardised within the
    pool, which makes their scale independent of the cube's size."""
    similarity_min: float = 0.2
    """Cosine below which a vector alone makes no candidate: MiniLM puts unrelated texts at about 0.1."""
    dense_weight: float = 1.0
    keyword_weight: float = 1.0
    reach: int = 2
    """Turns to either side that join the pool and lend their words."""
    decay: float = 0.7
    """What a word of the turn at distance d counts: decay ** d."""
    lend: float = 0.2
    """The share of its score that a turn lends to the turns beside it."""
    person: float = 3.0
    """Bonus of what was said by the one speaker whom the query names, in standard deviations."""
    first_person: float = 1.0
    """Bonus of what users said, for a query about `me`."""
    time: float = 1.0
    """Bonus of what happened in the time that the query names."""
    latest: float = 1.0
    """Bonus of the newest item of the pool, for a query about the newest state; the oldest gets none."""
    key: float = 3.0
    """Bonus of an entry whose key stands in the query."""
    tree: float = 0.5
    """Bonus of the item most related to the first hits by concepts they share."""
    prior_rows: int = 20
    """Rows of background that are mixed into the pool's mean and deviation: a pool of few has none of its own."""
    cosine_prior: tuple[float, float] = (0.1, 0.1)
    """Mean and deviation of the cosine of unrelated texts, by MiniLM."""
    keyword_prior: tuple[float, float] = (0.0, 1.0)
    """The same of BM25 summed over a query's words."""
    novelty: float = 0.2
    """Share of the best score that a line loses when the lines packed before it hold all its words (MMR)."""


DEFAULT_RECIPE = Recipe()

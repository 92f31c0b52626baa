"""How likely it is that a cube holds what is asked: an estimated probability, and when to be silent. Pure.

Fitted on questions of which half could be answered: asked of their own conversation or of another one,
half of those with the names replaced, over cubes of 1 to 700 items, by all-MiniLM-L6-v2. A small cube says
little about what it lacks: there the estimate is drawn towards 0.5, so that it answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memos_engine.ports import Scores

SILENT_BELOW = 0.1
"""The context stays empty below: about one in a hundred answerable questions is lost by it, and about half
of those that belong to another conversation are met with silence."""
CAUTION = 20
"""Items of a cube at which its evidence counts half."""
UNSEEN = 100
"""Added to a cube's size, so that one word that a small cube lacks does not outweigh all others."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A logistic curve, 0.5 at `middle`."""

    slope: float
    middle: float

    def __call__(self, evidence: float, size: int) -> float:
        """The probability for `evidence` in a cube of `size` items."""
        drawn = self.slope * (evidence - self.middle) * size / (size + CAUTION)
        return 1 / (1 + math.exp(-min(max(drawn, -50.0), 50.0)))


BOTH, WORDS, VECTORS = Fit(12, 0.6), Fit(9, 0.47), Fit(15, 0.43)


def word_weights(held_by: Mapping[str, int], size: int) -> dict[str, float]:
    """What each word of a query weighs, summing to 1: a rare word more, one that no item holds the most."""
    # counts are about: one beyond the size is as good as the size
    raw = {word: math.log((size + UNSEEN) / (min(count, size) + 1)) for word, count in held_by.items()}
    total = sum(raw.values())
    return {word: weight / total for word, weight in raw.items()}


def confidence(cosines: Scores | None, shares: Scores | None, size: int) -> float:
    """0..1 by the best item: its cosine and its share of the query's words, in one and the same place.

    Args:
        cosines: Of the items found (N,). None when the cube has no vectors.
        shares: Of the query's words, by weight, that each holds, half by itself and half by its
            surroundings (N,). None when the query has no words.
        size: Items of the cube.
    """
    found = cosines if shares is None else shares
    if not size or found is None or not len(found):
        return 0.0
    if cosines is None:
        return WORDS(float(found.max()), size)
    if shares is None:
        return VECTORS(float(cosines.max()), size)
    return BOTH(float(np.max(cosines + shares / 2)), size)

"""The recipe of recall with one part switched off at a time. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memos_engine.items import Filter
from memos_engine.recall.recipe import DEFAULT_RECIPE, Recipe


@dataclass(frozen=True, slots=True)
class Variant:
    """How one row of the ablation recalls."""

    recipe: Recipe = DEFAULT_RECIPE
    wanted: Filter = field(default_factory=Filter)


VARIANTS: dict[str, Variant] = {
    "without dense": Variant(replace(DEFAULT_RECIPE, dense_weight=0.0)),
    "without keyword": Variant(replace(DEFAULT_RECIPE, keyword_weight=0.0)),
    "without statements (turns only)": Variant(wanted=Filter(kinds=("episode",))),
    "without neighbours in the pool": Variant(replace(DEFAULT_RECIPE, reach=0)),
    "without words of the window": Variant(replace(DEFAULT_RECIPE, decay=0.0)),
    "without spread to neighbours": Variant(replace(DEFAULT_RECIPE, lend=0.0)),
    "without person": Variant(replace(DEFAULT_RECIPE, person=0.0)),
    "without time": Variant(replace(DEFAULT_RECIPE, time=0.0, latest=0.0)),
    "without tree": Variant(replace(DEFAULT_RECIPE, tree=0.0)),
    "without novelty (MMR)": Variant(replace(DEFAULT_RECIPE, novelty=0.0)),
    "without a prior of the pool": Variant(replace(DEFAULT_RECIPE, prior_rows=0)),
}
"""By what is printed. The packing is told by `ours ranked`, the same ranking in the baselines' lines."""

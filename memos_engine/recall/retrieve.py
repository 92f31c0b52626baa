"""A query becomes ranked hits: dense and keyword search over one state of a cube, fused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Hit
from memos_engine.ports import CubeSearch
from memos_engine.recall.fuse import Fusion, Recipe, said_once

DEFAULT_RECIPE = Recipe()


def retrieve(
    cube: CubeSearch,
    text: str,
    row: NDArray[np.float32] | None,
    *,
    limit: int,
    recipe: Recipe = DEFAULT_RECIPE,
    once: bool = False,
) -> list[Hit]:
    """The best `limit` items for a query, each with its reasons; empty when nothing matches.

    Args:
        cube: What may be searched.
        text: The query.
        row: Its vector (D,). None when the cube has no vectors.
        limit: How many hits.
        recipe: Constants of the ranking.
        once: Show an episode in place of what was derived from it, so that a turn is said once.
    """
    pool = max(recipe.pool, limit)
    dense = [] if row is None else cube.nearest(row, pool)
    fusion = Fusion(dense, cube.keyword(text, pool), recipe)
    places = [(ref, ref) for ref in fusion.order]
    if once:
        places = said_once(fusion.order, cube.derived_from(fusion.order))
    chosen = places[:limit]
    items = cube.items([ref for ref, _ in chosen])
    return [Hit(items[ref], fusion.score(earned), fusion.why(ref)) for ref, earned in chosen if ref in items]

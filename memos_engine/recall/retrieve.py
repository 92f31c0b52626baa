"""A query becomes ranked hits: dense and keyword search over one state of a cube, fused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Hit
from memos_engine.ports import CubeSearch
from memos_engine.recall.fuse import Fusion, Recipe, paid_twice

DEFAULT_RECIPE = Recipe()


def retrieve(
    cube: CubeSearch,
    text: str,
    row: NDArray[np.float32] | None,
    *,
    limit: int,
    recipe: Recipe = DEFAULT_RECIPE,
    said_once: bool = False,
) -> list[Hit]:
    """The best `limit` items for a query, each with its reasons; empty when nothing matches.

    Args:
        cube: What may be searched.
        text: The query.
        row: Its vector (D,). None when the cube has no vectors.
        limit: How many hits.
        recipe: Constants of the ranking.
        said_once: Leave out an episode when what was derived from it ranks higher, and the other way round.
    """
    pool = max(recipe.pool, limit)
    dense = [] if row is None else cube.nearest(row, pool)
    fusion = Fusion(dense, cube.keyword(text, pool), recipe)
    order = fusion.order
    if said_once:
        dropped = paid_twice(order, cube.derived_from(order))
        order = [ref for ref in order if ref not in dropped]
    chosen = order[:limit]
    items = cube.items(chosen)
    return [Hit(items[ref], fusion.score(ref), fusion.why(ref)) for ref in chosen if ref in items]

"""Themes: things that are mentioned together, as communities of a networkx graph. Pure, and always the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import networkx as nx

from memos_engine.tree.things import Thing

THINGS_MAX = 2_000
"""Things that enter the search for communities, those most mentioned: it takes about a second for so many."""
MEMBERS_MIN = 3
NAMED_AFTER = 3
NEIGHBOURS = 0.5
"""What it counts to be mentioned in two turns that follow one another, as a share of being in the same turn."""
_SEED = 1


def themes(
    turns: Iterable[tuple[int, Sequence[str]]], known: Mapping[str, Thing]
) -> dict[str, tuple[str, ...]]:
    """The themes: their names, and the texts of their things, the most central first.

    Args:
        turns: Session and keys of the things of each turn, in order.
        known: The things.
    """
    said = list(turns)
    counts: dict[str, int] = {}
    for _, keys in said:
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
    chosen = sorted(counts, key=lambda key: (-counts[key], key))[:THINGS_MAX]
    places = {key: place for place, key in enumerate(sorted(chosen))}  # numbers: sets of them keep one order
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(places)))
    for (one, other), weight in sorted(_together(said, places, known).items()):
        graph.add_edge(one, other, weight=weight)
    keys = sorted(chosen)
    found: dict[str, tuple[str, ...]] = {}
    for group in nx.community.louvain_communities(graph, weight="weight", seed=_SEED):
        if len(group) >= MEMBERS_MIN:
            degree = dict(graph.subgraph(sorted(group)).degree(weight="weight"))
            order = sorted(group, key=lambda place: (-round(degree[place], 6), keys[place]))
            texts = tuple(known[keys[place]].text for place in order)
            found[", ".join(texts[:NAMED_AFTER])] = texts
    return found


def _together(
    turns: Sequence[tuple[int, Sequence[str]]], places: Mapping[str, int], known: Mapping[str, Thing]
) -> dict[tuple[int, int], float]:
    """How much each two things are mentioned together."""
    weights: dict[tuple[int, int], float] = {}

    def count(one: str, other: str, share: float) -> None:
        if one != other and one in places and other in places:
            pair = (min(places[one], places[other]), max(places[one], places[other]))
            weights[pair] = weights.get(pair, 0.0) + share * known[one].weight * known[other].weight

    before: tuple[int, Sequence[str]] | None = None
    for session, keys in turns:
        for one, other in combinations(keys, 2):
            count(one, other, 1.0)
        if before is not None and before[0] == session:
            for one in before[1]:
                for other in keys:
                    count(one, other, NEIGHBOURS)
        before = (session, keys)
    return weights

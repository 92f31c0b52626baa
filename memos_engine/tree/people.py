"""Where people and what is said of them belong in the tree, as a networkx view of the edges. Pure but for `load`.

The truth is the `edges` table; this view is built for the items at hand and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from memos_engine.items import Edge
from memos_engine.store.reading import CubeReader


def load(reader: CubeReader, refs: Iterable[int]) -> nx.MultiDiGraph[str]:
    """The graph of `refs`, what they point to, and what that points to; nodes carry kind and text.

    Nodes are item ids; an edge's key is its kind and it carries `weight`. Things are left out.
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for (source, kind, text), edges in reader.neighbourhood(refs).items():
        graph.add_node(source, kind=kind, text=text)
        for edge in edges:
            graph.add_edge(edge.source, edge.target, key=edge.kind, weight=edge.weight)
    return graph


def placements(graph: nx.MultiDiGraph[str], people: str) -> list[Edge]:
    """The edges that put unplaced items into the tree. Pure.

    A fact or preference goes below each person it mentions, a person below the topic `people` (its
    id); a fact that says the same words as an older one below the same person is its duplicate.
    """
    edges: list[Edge] = []
    said: dict[tuple[str, str], str] = {}
    for node in sorted(graph):  # ids sort by time of making: older first
        data: dict[str, str] = graph.nodes[node]
        kind = data.get("kind")
        above = [target for _, target, key in graph.out_edges(node, keys=True) if key == "parent"]
        if kind == "concept" and not above:
            edges.append(Edge(node, "parent", people))
        if kind not in ("fact", "preference"):
            continue
        for _, person, key in list(graph.out_edges(node, keys=True)):
            if key != "mentions":
                continue
            if person not in above:
                edges.append(Edge(node, "parent", person))
            words = (person, " ".join(data["text"].lower().split()))
            first = said.setdefault(words, node)
            if first != node and not graph.has_edge(node, first, key="duplicates"):
                edges.append(Edge(node, "duplicates", first))
    return list(dict.fromkeys(edges))

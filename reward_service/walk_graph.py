"""The graphs of the random-walks benchmark: 21 nodes called a to u, some edges, a goal that is never left.

Defined by the examples of trlX (CarperAI/trlx, examples/randomwalks), after the shortest-path task of the
Decision Transformer (Chen et al. 2021, arXiv:2106.01345); built here from that definition, draw for draw. The
component `walk` scores by it, the prompt source `random_walks` draws from it; it knows neither samples nor
prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

NODES = "abcdefghijklmnopqrstu"
GOAL = "a"
MAX_NODES = 10
"""A walk ends there, arrived or not."""
EDGE_PROBABILITY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkGraph:
    """Where one can go, and how far it is to the goal. A walk is the text of its nodes, such as "bca"."""

    successors: Mapping[str, str]
    """The nodes that the edges of each node lead to, in order; of the goal, itself."""
    shortest: Mapping[str, int]
    """Nodes on the shortest path from each node to the goal, both ends counted; MAX_NODES where there is no
    path, or none shorter."""

    def unsolvable(self, starts: str) -> str:
        """Those of the starts whose every walk is as good as any: the goal is out of reach."""
        return "".join(node for node in starts if self.shortest[node] >= MAX_NODES)

    def num_nodes(self, walk: str) -> int | None:
        """Nodes of the walk up to its first arrival at the goal; what follows does not matter.

        None where it never arrives, or before that takes an edge that is not there or leaves the graph.
        """
        allowed = NODES
        for number, node in enumerate(walk, start=1):
            if node not in allowed:
                return None
            if node == GOAL:
                return number
            allowed = self.successors[node]
        return None

    def optimality(self, walk: str) -> float:
        """(10 − min(n, 10)) / (10 − shortest), n the nodes up to the goal, 10 for a walk that is not valid.

        1 for a shortest path, 0 for a walk that does not arrive within 10 nodes.

        Raises:
            ValueError: the walk does not start at a node from which the goal can be reached.
        """
        start = walk[:1]
        if not start or start not in NODES or start == GOAL:
            raise ValueError(f"a walk starts at one of b to u, got {walk[:20]!r}")
        if self.unsolvable(start):
            raise ValueError(f"from {start!r} no walk reaches the goal in fewer than {MAX_NODES} nodes")
        num_nodes = min(self.num_nodes(walk) or MAX_NODES, MAX_NODES)
        return (MAX_NODES - num_nodes) / (MAX_NODES - self.shortest[start])


@lru_cache(maxsize=16)
def graph_of(seed: int) -> WalkGraph:
    """The graph that the benchmark has under this seed, 0 to 2³² − 1."""
    return _draw_graph(np.random.RandomState(seed))


def draw_walks(seed: int, num_walks: int) -> list[str]:
    """The walks that come with the graph of this seed.

    Each starts at a random node but the goal, follows random edges, and ends at the goal or after MAX_NODES.
    The first of many are the same as of few.
    """
    random = np.random.RandomState(seed)
    graph = _draw_graph(random)
    return [_draw_walk(graph, random) for _ in range(num_walks)]


def _draw_graph(random: np.random.RandomState) -> WalkGraph:
    """Matrices are drawn until every node has an edge; then those of the goal are replaced by a loop."""
    while True:
        has_edge = random.rand(len(NODES), len(NODES)) > 1 - EDGE_PROBABILITY
        np.fill_diagonal(has_edge, False)
        if has_edge.any(axis=1).all():
            break
    successors = {
        node: "".join(NODES[i] for i in np.flatnonzero(row))
        for node, row in zip(NODES, has_edge, strict=True)
    }
    successors[GOAL] = GOAL
    return WalkGraph(successors=successors, shortest=_shortest(successors))


def _draw_walk(graph: WalkGraph, random: np.random.RandomState) -> str:
    walk = GOAL
    while walk == GOAL:
        walk = NODES[random.randint(len(NODES))]
    while len(walk) < MAX_NODES and walk[-1] != GOAL:
        onward = graph.successors[walk[-1]]
        walk += onward[random.choice(len(onward))]
    return walk


def _shortest(successors: Mapping[str, str]) -> dict[str, int]:
    """Breadth first, from the goal backwards."""
    found = {GOAL: 1}
    for num_nodes in range(2, MAX_NODES + 1):
        before = set(found)
        found |= {n: num_nodes for n in NODES if n not in before and before & set(successors[n])}
    return {node: found.get(node, MAX_NODES) for node in NODES}

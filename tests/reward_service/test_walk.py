"""The random-walks benchmark: its graphs and walks, and the component that scores by them."""

import statistics
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.types import Score, Status
from reward_service.walk_graph import GOAL, MAX_NODES, NODES, draw_walks, graph_of
from tests.reward_service.fakes_rewards import judge, sample

# What the definition says, from outside of this repository: mean optimality of the 1000 walks, and arrivals.
KNOWN = {1000: (0.3515, 560), 1002: (0.7902, 985)}


def score(walk: str, **metadata: Any) -> Score:
    """Of a walk in the graph of seed 1000, unless the metadata say otherwise."""
    fields = {"prompt": walk[:1], "metadata": {"graph_seed": 1000, **metadata}}
    return judge("walk", sample(walk[1:], **fields), graph_seed=None)[0]


@pytest.mark.parametrize("seed", KNOWN)
def test_the_walks_are_those_of_the_benchmark(seed: int) -> None:
    walks, graph = draw_walks(seed, 1000), graph_of(seed)
    optimality, num_arrived = KNOWN[seed]
    assert statistics.fmean(map(graph.optimality, walks)) == pytest.approx(optimality, abs=5e-5)
    assert sum(walk[-1] == GOAL for walk in walks) == num_arrived


def test_walks_start_elsewhere_take_edges_and_end_at_the_goal_or_after_ten_nodes() -> None:
    walks, graph = draw_walks(1000, 1000), graph_of(1000)
    assert walks[:6] == ["sda", "fda", "ebjnbdtkna", "jnbjna", "lbusdtkbui", "bda"]
    assert draw_walks(1000, 6) == walks[:6]
    assert {walk[0] for walk in walks} == set(NODES) - {GOAL}
    for walk in walks:
        assert all(b in graph.successors[a] for a, b in pairwise(walk))
        assert GOAL not in walk[:-1]
        assert walk[-1] == GOAL or len(walk) == MAX_NODES


@pytest.mark.parametrize("seed", [1000, 1001, 1002, 1004])
def test_shortest_paths_are_those_of_powers_of_the_adjacency_matrix(seed: int) -> None:
    graph = graph_of(seed)
    edges = np.array([[b in graph.successors[a] for b in NODES] for a in NODES], dtype=np.int64)
    for node in NODES:
        # A path of n nodes has n - 1 edges; the loop at the goal keeps what has arrived.
        lengths = [
            n for n in range(1, MAX_NODES) if np.linalg.matrix_power(edges, n - 1)[NODES.index(node), 0]
        ]
        assert graph.shortest[node] == min(lengths, default=MAX_NODES)


def test_the_goal_is_never_left_and_no_other_node_leads_to_itself_or_nowhere() -> None:
    successors = graph_of(1000).successors
    assert successors[GOAL] == GOAL
    assert all(successors[node] and node not in successors[node] for node in NODES if node != GOAL)


@pytest.mark.parametrize(
    ("walk", "expected"),
    [
        # d -> a is an edge: two nodes, the fewest.
        ("da", 1.0),
        # b -> d -> a has three; by way of j and n there are four: (10 - 4) / (10 - 3).
        ("bda", 1.0),
        ("bjna", 6 / 7),
        # Five nodes where two would do: (10 - 5) / (10 - 2).
        ("dlbda", 5 / 8),
        # What follows the goal does not matter, a stop or not.
        ("bdaaa?!", 1.0),
        # Ten nodes are worth as much as no arrival, and eleven no less than that.
        ("ebjnbdtkna", 0.0),
        ("dlbdlbdlbda", 0.0),
        ("lbusdtkbui", 0.0),
        ("b", 0.0),
        # No such edge, and no such nodes.
        ("ba", 0.0),
        ("bd?a", 0.0),
        ("bd a", 0.0),
        ("bdA", 0.0),
        ("bdv", 0.0),
    ],
)
def test_optimality(walk: str, expected: float) -> None:
    assert score(walk).value == pytest.approx(expected)


def test_nodes_are_counted_up_to_the_goal_and_none_where_it_is_not_reached() -> None:
    counts = {walk: graph_of(1000).num_nodes(walk) for walk in ("a", "da", "daa", "d", "", "va", "vda")}
    assert counts == {"a": 1, "da": 2, "daa": 2, "d": None, "": None, "va": None, "vda": None}


@given(st.sampled_from(NODES[1:]), st.text(alphabet=NODES + "v ", max_size=12))
def test_only_a_shortest_path_scores_1_and_nothing_leaves_0_to_1(start: str, rest: str) -> None:
    graph = graph_of(1000)
    value = graph.optimality(start + rest)
    assert 0.0 <= value <= 1.0
    assert (value == 1.0) == (graph.num_nodes(start + rest) == graph.shortest[start])


@pytest.mark.parametrize("walk", ["a", "abc", "v", "Da", "", "?da"])
def test_a_walk_that_does_not_start_at_a_node_is_invalid_input(walk: str) -> None:
    assert score(walk).status is Status.INVALID_INPUT
    assert "starts at one of b to u" in score(walk).message


def test_a_graph_whose_goal_cannot_be_reached_has_no_optimality() -> None:
    assert graph_of(1001).unsolvable("bcd") == "bcd"
    assert graph_of(1000).unsolvable(NODES) == ""
    assert "from 'd' no walk" in score("da", graph_seed=1001).message


def test_the_graph_is_that_of_the_prompt_unless_the_recipe_names_one() -> None:
    # In the graph of 1002, u leads to the goal; in that of 1000 it does not.
    assert score("ua", graph_seed=1002).value == 1.0
    assert score("ua", graph_seed=1000).value == 0.0
    prompt = {"prompt": "u", "metadata": {"graph_seed": 1000}}
    assert judge("walk", sample("a", **prompt), graph_seed=1002)[0].value == 1.0


@pytest.mark.parametrize("seed", [None, "1000", 1.5, -1, 2**32])
def test_without_the_seed_of_a_graph_nothing_is_scored(seed: object) -> None:
    verdict = score("da", graph_seed=seed)
    assert verdict.status is Status.INVALID_INPUT
    assert "graph_seed in the metadata" in verdict.message

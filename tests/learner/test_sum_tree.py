"""The tree of sums: what it finds, and that it depends on its leaves alone."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.replays.sum_tree import SumTree

values = st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=40)


def tree_of(leaves: list[float]) -> SumTree:
    tree = SumTree()
    tree.set(range(len(leaves)), leaves)
    return tree


def test_a_mass_finds_the_leaf_whose_share_it_falls_into() -> None:
    # Shares: [0, 1) is leaf 0, [1, 4) leaf 1, leaf 2 is empty, [4, 4.5) leaf 3.
    tree = tree_of([1.0, 3.0, 0.0, 0.5])
    assert tree.total == 4.5
    assert tree.find([0.0, 0.99, 1.0, 3.99, 4.0, 4.5]).tolist() == [0, 0, 1, 1, 3, 3]


@settings(max_examples=200, deadline=None)
@given(values, st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_what_is_found_is_what_a_search_through_the_leaves_finds(
    leaves: list[float], shares: list[float]
) -> None:
    tree = tree_of(leaves)
    if tree.total == 0.0:
        with pytest.raises(ValueError, match="positive"):
            tree.find([0.0])
        return
    masses = np.array(shares) * tree.total
    found = tree.find(masses)
    ends = np.cumsum(leaves)
    for slot, mass in zip(found, masses, strict=True):
        assert leaves[slot] > 0
        slack = 1e-9 * tree.total
        assert ends[slot] - leaves[slot] - slack <= mass <= ends[slot] + slack


def test_the_tree_is_a_function_of_its_leaves_whatever_was_there_before() -> None:
    rng = random.Random(0)
    leaves = [rng.random() ** 9 for _ in range(37)]
    worn = SumTree()
    for _ in range(500):
        worn.set([rng.randrange(37)], [rng.random() * 1e9])
    worn.set(range(37), leaves)
    new = tree_of(leaves)
    assert worn.total == new.total
    masses = [rng.random() * new.total for _ in range(1000)]
    assert worn.find(masses).tolist() == new.find(masses).tolist()


def test_it_grows_and_keeps_what_it_had() -> None:
    tree = tree_of([2.0])
    tree.set([5], [1.0])
    assert tree.get([0, 1, 5, 99]).tolist() == [2.0, 0.0, 1.0, 0.0]
    assert tree.total == 3.0
    assert tree.find([1.9, 2.0]).tolist() == [0, 5]


def test_of_a_leaf_that_is_named_twice_the_last_value_holds() -> None:
    tree = SumTree()
    tree.set([1, 1, 0], [5.0, 2.0, 1.0])
    assert (tree.total, tree.get([1]).tolist()) == (3.0, [2.0])


def test_nothing_to_set_changes_nothing() -> None:
    tree = tree_of([1.0])
    tree.set([], [])
    assert tree.total == 1.0


@pytest.mark.parametrize(
    ("slots", "given"), [([0], [-1.0]), ([0], [float("nan")]), ([-1], [1.0]), ([0, 1], [1.0])]
)
def test_what_is_no_weight_is_refused(slots: list[int], given: list[float]) -> None:
    with pytest.raises(ValueError, match=r"want one value|finite"):
        SumTree().set(slots, given)


@pytest.mark.parametrize("mass", [-0.1, 1.1])
def test_a_mass_outside_of_the_total_is_refused(mass: float) -> None:
    with pytest.raises(ValueError, match="masses"):
        tree_of([1.0]).find([mass])

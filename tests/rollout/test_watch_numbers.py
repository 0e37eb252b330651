"""The numbers of the watch, worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.watch_numbers import (
    comparable_pairs,
    correlation,
    disagreement,
    duplicates_in_batch,
    duplicates_in_group,
    standardised,
)

NAN = float("nan")
VECTORS = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.integers(0, 3)), min_size=1, max_size=30
)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_correlation_within_groups_does_not_see_what_the_prompts_explain() -> None:
    # Centred: a = ±1, ±1 and b = ∓1, ∓1, so r = −1; without groups the prompts would make it positive.
    a, b, groups = floats(0, 2, 10, 12), floats(2, 0, 12, 10), ints(0, 0, 1, 1)
    assert correlation(a, b, groups) == pytest.approx(-1.0)
    assert np.corrcoef(a, b)[0, 1] > 0.9


def test_correlation_of_three_in_a_group() -> None:
    # Centred: (−1, 0, 1) and (−1, 1, 0): Σ ã b̃ = 1, Σ ã² = Σ b̃² = 2.
    assert correlation(floats(1, 2, 3), floats(1, 3, 2), ints(7, 7, 7)) == pytest.approx(0.5)


def test_where_every_prompt_has_one_sample_the_batch_is_the_group() -> None:
    assert correlation(floats(1, 2, 3), floats(1, 3, 2), ints(0, 1, 2)) == pytest.approx(0.5)


def test_a_sample_alone_among_groups_says_nothing() -> None:
    with_single = correlation(floats(1, 2, 3, 99), floats(1, 3, 2, -99), ints(0, 0, 0, 1))
    assert with_single == pytest.approx(0.5)


def test_samples_without_a_value_are_left_out() -> None:
    a, b = floats(1, 2, NAN, 3, 5), floats(1, 3, 4, 2, NAN)
    assert correlation(a, b, ints(0, 0, 0, 0, 0)) == pytest.approx(0.5)


@pytest.mark.parametrize("constant", [floats(1, 1, 1), floats(0.1 + 0.2, 0.3, 0.3), floats(NAN, NAN, NAN)])
def test_without_variation_there_is_no_correlation(constant: np.ndarray) -> None:
    assert math.isnan(correlation(constant, floats(1, 2, 3), ints(0, 0, 0)))
    assert math.isnan(correlation(floats(1, 2, 3), constant, ints(0, 0, 0)))


def test_disagreement_is_the_share_of_pairs_ordered_oppositely() -> None:
    # Pairs (0,1): + +, (0,2): + +, (1,2): + −; the second group's only pair is a tie in b: one of three.
    a, b = floats(1, 2, 3, 0, 1), floats(1, 3, 2, 5, 5)
    assert disagreement(a, b, ints(0, 0, 0, 1, 1)) == pytest.approx(1 / 3)
    assert disagreement(a, -a, ints(0, 0, 0, 1, 1)) == 1.0
    assert disagreement(a, a, ints(0, 0, 0, 1, 1)) == 0.0


def test_a_pair_of_which_one_has_no_value_is_not_ordered() -> None:
    assert disagreement(floats(1, 2, NAN), floats(1, 2, 0), ints(0, 0, 0)) == 0.0
    assert math.isnan(disagreement(floats(1, NAN), floats(1, 2), ints(0, 0)))


def test_pairs_are_all_within_the_group_wherever_its_samples_stand() -> None:
    left, right = comparable_pairs(ints(1, 0, 1, 0, 1))
    assert {frozenset(p) for p in zip(left.tolist(), right.tolist(), strict=True)} == {
        *map(frozenset, [(0, 2), (0, 4), (2, 4), (1, 3)])
    }
    assert len(left) == 4


def test_without_groups_each_sample_meets_its_next_neighbours_only() -> None:
    left, right = comparable_pairs(np.arange(100))
    assert set((right - left).tolist()) == set(range(1, 17))
    assert [len(x) for x in comparable_pairs(ints(0))] == [0, 0]
    assert [len(x) for x in comparable_pairs(ints())] == [0, 0]


@given(VECTORS)
def test_order_scale_and_shift_do_not_matter(rows: list[tuple[int, int, int]]) -> None:
    a, b, groups = (np.array(column) for column in zip(*rows, strict=True))
    a, b = a.astype(float), b.astype(float)
    turned = np.arange(len(a))[::-1]
    for number in (correlation, disagreement):
        once = number(a, b, groups)
        if number is correlation or len(set(groups.tolist())) < len(groups):
            again = number(3.0 * a[turned] + 1.0, 0.5 * b[turned] - 2.0, groups[turned])
            assert again == pytest.approx(once, nan_ok=True, abs=1e-9)
        assert math.isnan(once) or -1.0 <= once <= 1.0
        assert number(b, a, groups) == pytest.approx(once, nan_ok=True, abs=1e-9)


def test_duplicates_within_a_group() -> None:
    # Of the first group three of four are twins; the second is alone and does not count: 3 / 4.
    assert duplicates_in_group(["a", "a", "b", "a", "a"], ints(0, 0, 0, 0, 1)) == 0.75
    assert duplicates_in_group(["a", "b"], ints(0, 0)) == 0.0
    assert duplicates_in_group(["a", "a"], ints(0, 0)) == 1.0
    assert math.isnan(duplicates_in_group(["a", "a"], ints(0, 1)))


def test_duplicates_over_prompts() -> None:
    # "a" answers p and q, three times in all; "b" answers q only: 3 / 4.
    assert duplicates_in_batch(["a", "a", "a", "b"], ["p", "p", "q", "q"]) == 0.75
    # The same answer to the same prompt is no sign of collapse.
    assert duplicates_in_batch(["a", "a", "b"], ["p", "p", "q"]) == 0.0
    assert math.isnan(duplicates_in_batch(["a", "a"], ["p", "p"]))


def test_standardised() -> None:
    # Mean 2, standard deviation √2.
    assert standardised(floats(0, 2, 4, 2)) == pytest.approx([-math.sqrt(2), 0, math.sqrt(2), 0])
    assert standardised(floats(0, NAN, 4)) == pytest.approx([-1, 0, 1])
    assert standardised(floats(3, 3)) == pytest.approx([0, 0])
    assert standardised(floats(NAN)) == pytest.approx([0])


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        correlation(floats(1), floats(1, 2), ints(0, 0))
    with pytest.raises(ValueError, match="one shape"):
        disagreement(floats(1, 2), floats(1, 2), ints(0))
    with pytest.raises(ValueError, match=r"\[n\]"):
        comparable_pairs(np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(ValueError, match="one group per text"):
        duplicates_in_group(["a"], ints(0, 0))
    with pytest.raises(ValueError, match="one prompt per text"):
        duplicates_in_batch(["a"], [])

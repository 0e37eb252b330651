"""Q-learning over candidates: every formula against numbers worked by hand."""

import math

import pytest
import torch

from learner.functional.choice import best, conservative, double_dqn_target, huber, policy

ALL = torch.ones(2, 2, dtype=torch.bool)
FIRST = torch.tensor([[True, False], [True, False]])


def target(online: list[list[float]], older: list[list[float]], is_there: torch.Tensor = ALL) -> list[float]:
    """Of one row that is done (reward 1) and one that goes on (reward 0.25), with γ = 0.5."""
    return double_dqn_target(
        torch.tensor([1.0, 0.25]),
        torch.tensor([True, False]),
        torch.tensor(online),
        torch.tensor(older),
        is_there,
        0.5,
    ).tolist()


def test_the_newer_network_chooses_and_the_older_one_values() -> None:
    # Row 1: the newer network likes column 0, of which the older one says 3: 0.25 + 0.5 · 3.
    assert target([[5.0, 9.0], [2.0, 1.0]], [[7.0, 7.0], [3.0, 10.0]]) == [1.0, 1.75]


def test_with_one_network_for_both_the_largest_value_counts() -> None:
    older = [[7.0, 7.0], [3.0, 10.0]]
    assert target(older, older) == [1.0, 0.25 + 0.5 * 10.0]


def test_a_candidate_that_is_not_there_is_never_chosen() -> None:
    assert target([[0.0, 0.0], [1.0, 9.0]], [[0.0, 0.0], [4.0, 8.0]], FIRST) == [1.0, 0.25 + 0.5 * 4.0]


def test_a_state_that_goes_on_needs_a_candidate_and_one_that_is_done_does_not() -> None:
    only_second = torch.tensor([[False, False], [True, False]])
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert target(zeros, zeros, only_second) == [1.0, 0.25]
    with pytest.raises(ValueError, match="no best action"):
        target(zeros, zeros, torch.tensor([[True, True], [False, False]]))


def test_the_best_of_negative_values_is_not_one_that_is_missing() -> None:
    assert best(torch.tensor([[-5.0, -3.0, 0.0]]), torch.tensor([[True, True, False]])).tolist() == [1]


def test_large_errors_count_linearly() -> None:
    error = torch.tensor([0.5, -2.0])
    # ½ · 0.25 = 0.125 both times; 1 · (2 − ½) = 1.5 against ½ · 4 = 2.
    assert huber(error, 1.0).tolist() == [0.125, 1.5]
    assert huber(error, None).tolist() == [0.125, 2.0]
    # δ = 0.25: 0.25 · (0.5 − 0.125) and 0.25 · (2 − 0.125).
    assert huber(error, 0.25).tolist() == [0.09375, 0.46875]


def test_the_conservative_term_compares_the_taken_one_with_all_that_are_there() -> None:
    q = torch.tensor([[1.0, 1.0, 99.0], [math.log(3.0), 0.0, 0.0]])
    is_there = torch.tensor([[True, True, False], [True, True, True]])
    # ln(e + e) − 1 = ln 2; ln(3 + 1 + 1) − 0 = ln 5.
    found = conservative(q, torch.tensor([0, 2]), is_there)
    assert found.tolist() == pytest.approx([math.log(2.0), math.log(5.0)])


def test_a_policy_explores_as_it_is_told() -> None:
    q = torch.tensor([[0.0, math.log(3.0), 77.0]])
    is_there = torch.tensor([[True, True, False]])
    assert policy(q, is_there, 1.0, 0.0).tolist()[0] == pytest.approx([0.25, 0.75, 0.0])
    # Twice the temperature, twice the values: the same.
    assert policy(2 * q, is_there, 2.0, 0.0).tolist()[0] == pytest.approx([0.25, 0.75, 0.0])
    # 0.8 · ¼ + 0.2 / 2 and 0.8 · ¾ + 0.2 / 2: blind choices are shared by the two that are there.
    assert policy(q, is_there, 1.0, 0.2).tolist()[0] == pytest.approx([0.3, 0.7, 0.0])
    assert policy(q, is_there, 0.0, 0.2).tolist()[0] == pytest.approx([0.1, 0.9, 0.0])


def test_equals_share_at_temperature_zero() -> None:
    q = torch.tensor([[2.0, 2.0, 1.0]])
    assert policy(q, torch.ones_like(q, dtype=torch.bool), 0.0, 0.0).tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: double_dqn_target(torch.ones(2), torch.ones(2).bool(), ALL * 1.0, ALL * 1.0, ALL, 1.1), "γ"),
        (
            lambda: double_dqn_target(torch.ones(3), torch.ones(3).bool(), ALL * 1.0, ALL * 1.0, ALL, 1),
            "rows",
        ),
        (
            lambda: double_dqn_target(torch.ones(2), torch.ones(3).bool(), ALL * 1.0, ALL * 1.0, ALL, 1),
            "shapes",
        ),
        (lambda: huber(torch.ones(1), 0.0), "δ"),
        (lambda: policy(ALL * 1.0, ALL, -1.0, 0.0), "temperature"),
        (lambda: policy(ALL * 1.0, ALL, 1.0, 1.5), "ε"),
        (lambda: policy(ALL * 1.0, ~ALL, 1.0, 0.5), "no policy"),
        (lambda: best(torch.ones(2), torch.ones(2).bool()), "rank"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

import math

import pytest
import torch
from torch import Tensor

from learner.functional.preference import (
    bradley_terry_loss,
    calibration,
    clustered_error,
    correlation,
    expected_calibration_error,
    rightness,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def t(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_bradley_terry_loss_by_hand() -> None:
    # σ(margin) = 0.8: −log 0.8 if the choice is sure; −(0.75 log 0.8 + 0.25 log 0.2) at p = 0.75.
    loss = bradley_terry_loss(t(logit(0.8), logit(0.8), 0.0), t(1.0, 0.75, 1.0))
    assert loss.tolist() == pytest.approx([0.223144, 0.569717, math.log(2)], abs=1e-6)


def test_the_loss_of_a_doubtful_choice_is_least_at_its_own_probability() -> None:
    margin = t(logit(0.75)).requires_grad_()
    bradley_terry_loss(margin, t(0.75)).sum().backward()
    assert margin.grad is not None
    assert margin.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_a_large_margin_in_the_wrong_direction_stays_finite() -> None:
    assert bradley_terry_loss(t(-1e4, 1e4), t(1.0, 1.0)).tolist() == [1e4, 0.0]


def test_only_probabilities_are_targets() -> None:
    with pytest.raises(ValueError, match="within 0 … 1"):
        bradley_terry_loss(t(0.0), t(1.5))
    with pytest.raises(ValueError, match="rank 1"):
        bradley_terry_loss(t(0.0, 1.0), t(1.0))


def test_a_tie_is_half_right() -> None:
    assert rightness(t(3.0, 0.0, -0.1)).tolist() == [1.0, 0.5, 0.0]


def test_the_error_counts_prompts_not_pairs() -> None:
    right = t(1, 1, 0, 0)
    # Mean ½. Four clusters: √(4 · ¼) / 4 = ¼. Two clusters of equals: √(1² + 1²) / 4 = 0.354.
    assert clustered_error(right, torch.tensor([0, 1, 2, 3])) == pytest.approx(0.25)
    assert clustered_error(right, torch.tensor([7, 7, 3, 3])) == pytest.approx(math.sqrt(2) / 4)
    # Clusters that hold one of each are no news to each other: their sums are 0.
    assert clustered_error(right, torch.tensor([0, 1, 0, 1])) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="num_pairs"):
        clustered_error(t(), torch.tensor([], dtype=torch.long))


def test_calibration_by_hand() -> None:
    # Confidences 0.6, 0.7, 0.9 with two bins of ½ … 0.75 … 1; right, wrong, wrong.
    bins = calibration(t(logit(0.6), -logit(0.7), -logit(0.9)), 2)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.5, 0.75, 2), (0.75, 1.0, 1)]
    assert [b.confidence for b in bins] == pytest.approx([0.65, 0.9])
    assert [b.accuracy for b in bins] == [0.5, 0.0]
    # ⅔ · |0.5 − 0.65| + ⅓ · |0 − 0.9| = 0.1 + 0.3
    assert expected_calibration_error(bins) == pytest.approx(0.4)


def test_the_ends_of_the_scale_have_a_bin() -> None:
    bins = calibration(t(0.0, 100.0), 10)
    assert [(b.low, b.count, b.accuracy) for b in bins] == [(0.5, 1, 0.5), (pytest.approx(0.95), 1, 1.0)]
    # Both say what is so: ½ of a tie, 1 of the sure one.
    assert expected_calibration_error(bins) == pytest.approx(0.0)


def test_calibration_needs_bins() -> None:
    with pytest.raises(ValueError, match="num_bins"):
        calibration(t(1.0), 0)
    with pytest.raises(ValueError, match="num_bins"):
        expected_calibration_error([])


def test_correlation() -> None:
    assert correlation(t(1, 2, 3), t(2, 4, 6)) == pytest.approx(1.0)
    # Deviations (−1, 0, 1) and (−1, 2, −1): orthogonal.
    assert correlation(t(1, 2, 3), t(0, 3, 0)) == pytest.approx(0.0)
    assert correlation(t(1, 2, 3), t(5, 5, 5)) == 0.0

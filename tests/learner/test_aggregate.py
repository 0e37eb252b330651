import math

import pytest
import torch

from learner.functional.aggregate import Aggregation, aggregate, counts, masked_mean, whiten

LOSS = torch.tensor([[1.0, 2.0, 99.0], [6.0, 99.0, 99.0], [99.0, 99.0, 99.0]])
MASK = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("token_mean", (1 + 2 + 6) / 3),
        ("sequence_mean_token_sum", (3 + 6) / 2),
        ("sequence_mean_token_mean", (1.5 + 6) / 2),
        ("constant", (3 + 6) / (2 * 4)),
    ],
)
def test_each_aggregation_by_hand(how: Aggregation, expected: float) -> None:
    total, per = aggregate(LOSS, MASK, how, horizon=4)
    assert total.item() / counts(MASK)[per] == pytest.approx(expected)


def test_a_sequence_without_a_token_does_not_count() -> None:
    assert counts(MASK) == {"tokens": 3.0, "sequences": 2.0}


def test_what_is_masked_may_be_nan() -> None:
    loss = torch.where(MASK, LOSS, torch.nan)
    assert masked_mean(loss, MASK) == 3.0
    assert math.isfinite(aggregate(loss, MASK, "token_mean")[0])


def test_constant_aggregation_needs_a_horizon() -> None:
    with pytest.raises(ValueError, match="horizon"):
        aggregate(LOSS, MASK, "constant")


def test_whitening_by_hand() -> None:
    # 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, Bessel variance 7
    white = whiten(LOSS, MASK)
    expected = torch.tensor([[-2.0, -1.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) / 7**0.5
    torch.testing.assert_close(white, expected)


def test_whitening_one_position_gives_zero() -> None:
    mask = torch.zeros(2, 2, dtype=torch.bool)
    mask[0, 1] = True
    assert whiten(torch.full((2, 2), 5.0), mask).tolist() == [[0.0, 0.0], [0.0, 0.0]]

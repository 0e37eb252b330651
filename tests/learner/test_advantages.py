import itertools

import pytest
import torch
from torch import Tensor

from learner.functional.advantages import (
    centred_in_group,
    discounted_return,
    gae,
    grpo,
    is_constant_group,
    per_token,
    place_score,
    reinforce_pp,
    rloo,
)


def test_gae_of_two_tokens_by_hand() -> None:
    # γ = 0.5, λ = 0.5, the episode ends:
    # δ1 = 1 + 0.5·0 − 0.4 = 0.6                      A1 = 0.6
    # δ0 = 0 + 0.5·0.4 − 0.2 = 0                      A0 = 0 + 0.25·0.6 = 0.15
    advantage, return_ = gae(
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[0.2, 0.4]]),
        torch.ones(1, 2).bool(),
        torch.zeros(1),
        0.5,
        0.5,
    )
    torch.testing.assert_close(advantage, torch.tensor([[0.15, 0.6]]))
    torch.testing.assert_close(return_, torch.tensor([[0.35, 1.0]]))


def test_gae_of_a_truncated_completion_boots_from_the_value_after_it() -> None:
    # δ = 0 + 0.9·2 − 0.5 = 1.3 instead of −0.5
    reward, value, mask = torch.zeros(1, 1), torch.full((1, 1), 0.5), torch.ones(1, 1).bool()
    ended, _ = gae(reward, value, mask, torch.tensor([0.0]), 0.9, 0.95)
    truncated, _ = gae(reward, value, mask, torch.tensor([2.0]), 0.9, 0.95)
    assert ended.item() == pytest.approx(-0.5)
    assert truncated.item() == pytest.approx(1.3)


def test_gae_skips_masked_tokens_between_actions_without_decay() -> None:
    reward, value = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.2, 0.4]])
    gap_reward, gap_value = torch.tensor([[0.0, 7.0, 1.0]]), torch.tensor([[0.2, -9.0, 0.4]])
    gap_mask = torch.tensor([[True, False, True]])
    dense, _ = gae(reward, value, torch.ones(1, 2).bool(), torch.zeros(1), 0.9, 0.95)
    gapped, _ = gae(gap_reward, gap_value, gap_mask, torch.zeros(1), 0.9, 0.95)
    assert gapped[0, [0, 2]].tolist() == dense[0].tolist()
    assert gapped[0, 1] == 0.0


@pytest.mark.parametrize(("gamma", "lambda_"), itertools.product([0.0, 0.5, 0.95, 1.0], repeat=2))
def test_gae_equals_the_double_sum(gamma: float, lambda_: float) -> None:
    """S4."""
    reward, value, mask, value_final = _ragged()
    advantage, return_ = gae(reward, value, mask, value_final, gamma, lambda_)
    expected = _double_sum(reward, value, mask, value_final, gamma, lambda_)
    torch.testing.assert_close(advantage, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(return_, torch.where(mask, expected + value, 0.0), rtol=0, atol=1e-9)


def test_padding_with_garbage_changes_no_bit_of_gae() -> None:
    """S4."""
    reward, value, mask, value_final = _ragged()
    garbage = torch.full((len(mask), 5), torch.nan, dtype=reward.dtype)
    padded_mask = torch.cat([mask, torch.zeros(len(mask), 5, dtype=torch.bool)], dim=1)
    alone = gae(reward, value, mask, value_final, 0.9, 0.95)
    padded = gae(
        torch.cat([reward, garbage], 1), torch.cat([value, garbage], 1), padded_mask, value_final, 0.9, 0.95
    )
    for a, b in zip(alone, padded, strict=True):
        assert torch.equal(a, b[:, : mask.shape[1]])
        assert not b[:, mask.shape[1] :].any()


def test_gae_with_gamma_and_lambda_one_is_the_sum_of_rewards_minus_the_value() -> None:
    """S4."""
    reward, value, mask, _ = _ragged()
    advantage, _ = gae(reward, value, mask, torch.zeros(len(mask), dtype=reward.dtype), 1.0, 1.0)
    future = torch.where(mask, reward, 0.0).flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(advantage, torch.where(mask, future - value, 0.0))


def test_gae_refuses_unequal_shapes() -> None:
    with pytest.raises(ValueError, match="reward_t"):
        gae(torch.zeros(2, 3), torch.zeros(2, 1), torch.ones(2, 3).bool(), torch.zeros(2), 1.0, 1.0)


def test_the_score_stands_at_the_last_action_and_nowhere_else() -> None:
    """S3."""
    mask = torch.tensor(
        [
            [False, True, True, False],  # padding after the completion
            [False, True, False, True],  # something inserted between two actions
            [False, False, False, False],  # nothing was drawn
        ]
    )
    reward = place_score(torch.tensor([2.0, 3.0, 5.0]), mask)
    assert reward.tolist() == [[0, 0, 2, 0], [0, 0, 0, 3], [0, 0, 0, 0]]


def test_discounted_return_by_hand() -> None:
    # R1 = 4, R0 = 1 + 0.5·4 = 3
    returns = discounted_return(torch.tensor([[1.0, 4.0]]), torch.ones(1, 2).bool(), 0.5)
    assert returns.tolist() == [[3.0, 4.0]]


def test_grpo_by_hand() -> None:
    # mean 0.5, squares sum to 1, std with Bessel √(1/3): ±0.5·√3 = ±0.8660
    advantage = grpo(
        torch.tensor([0.0, 1.0, 1.0, 0.0]).double(), torch.zeros(4, dtype=torch.int64), epsilon=0.0
    )
    torch.testing.assert_close(advantage, torch.tensor([-1.0, 1.0, 1.0, -1.0]).double() * 3**0.5 / 2)


def test_rloo_and_dr_grpo_by_hand() -> None:
    # Scores 1, 2, 6: mean 3, so −2, −1, 3; means of the others 4, 3.5, 1.5, so −3, −1.5, 4.5
    score, group = torch.tensor([1.0, 2.0, 6.0]), torch.zeros(3, dtype=torch.int64)
    assert centred_in_group(score, group).tolist() == [-2.0, -1.0, 3.0]
    assert rloo(score, group).tolist() == [-3.0, -1.5, 4.5]


@pytest.mark.parametrize("advantage_of", [grpo, rloo, centred_in_group])
def test_a_group_does_not_see_another(advantage_of: object) -> None:
    """S5: B's scores are A's plus 10; rows arrive in another order; nothing changes."""
    assert callable(advantage_of)
    score = torch.tensor([0.0, 1.0, 1.0, 0.0, 10.0, 11.0, 11.0, 10.0]).double()
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    advantage = advantage_of(score, group)
    torch.testing.assert_close(advantage[:4], advantage[4:], rtol=0, atol=1e-9)
    torch.testing.assert_close(advantage[:4].sum(), torch.tensor(0.0).double())
    order = torch.tensor([5, 0, 7, 3, 1, 6, 2, 4])
    torch.testing.assert_close(advantage_of(score[order], group[order]), advantage[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("advantage_of", [grpo, rloo, centred_in_group])
def test_constant_and_singleton_groups_give_exactly_zero(advantage_of: object) -> None:
    """S5: three times 0.1 does not sum to exactly 0.3; the residue must not become an advantage."""
    assert callable(advantage_of)
    score = torch.tensor([0.1, 0.1, 0.1, 5.0], dtype=torch.float64)
    group = torch.tensor([0, 0, 0, 1])
    assert advantage_of(score, group).tolist() == [0.0, 0.0, 0.0, 0.0]
    assert is_constant_group(score, group).all()


def test_one_outlier_among_eight_keeps_a_bounded_advantage() -> None:
    """S5."""
    score = torch.tensor([0.95] * 7 + [0.35])
    assert grpo(score, torch.zeros(8, dtype=torch.int64)).abs().max() < 10


def test_as_many_rows_as_columns_are_not_confused() -> None:
    """S5: with shape 8x8 a wrong axis would broadcast without a complaint."""
    advantage = per_token(torch.arange(8.0), torch.ones(8, 8).bool())
    assert advantage[3].tolist() == [3.0] * 8


def test_reinforce_pp_is_the_whitened_return() -> None:
    # Returns 1 and 3 (γ = 1): mean 2, Bessel variance 2, so ∓1/√2 and the masked position 0
    reward, mask = torch.tensor([[0.0, 1.0], [3.0, 9.0]]), torch.tensor([[False, True], [True, False]])
    advantage = reinforce_pp(reward, mask, 1.0)
    torch.testing.assert_close(advantage, torch.tensor([[0.0, -(0.5**0.5)], [0.5**0.5, 0.0]]))


def _ragged() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rewards, values, masks with holes, and values after the end, in fp64."""
    generator = torch.Generator().manual_seed(0)
    reward, value = (torch.randn(6, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(6, 9, generator=generator) < 0.6
    return reward, value, mask, torch.randn(6, generator=generator, dtype=torch.float64)


def _double_sum(
    reward: Tensor, value: Tensor, mask: Tensor, value_final: Tensor, gamma: float, lambda_: float
) -> Tensor:
    """A_t = Σ_k (γλ)^k δ_{t+k}, written as two loops over the actions of a row."""
    advantage = torch.zeros_like(reward)
    for row in range(len(mask)):
        steps = mask[row].nonzero().flatten().tolist()
        values = [value[row, t] for t in steps] + [value_final[row]]
        deltas = [reward[row, t] + gamma * values[i + 1] - values[i] for i, t in enumerate(steps)]
        for i, t in enumerate(steps):
            advantage[row, t] = sum((gamma * lambda_) ** k * d for k, d in enumerate(deltas[i:]))
    return advantage

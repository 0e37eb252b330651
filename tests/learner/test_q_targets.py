import pytest
import torch

from learner.functional.q_targets import (
    at_next,
    double_q,
    n_step_target,
    next_action,
    soft_n_step_target,
    supported,
)

MASK = torch.tensor([[False, True, True, True]])
REWARD = torch.tensor([[9.0, 1.0, 2.0, 4.0]])
VALUE = torch.tensor([[9.0, 10.0, 20.0, 30.0]])
FINAL = torch.tensor([8.0])


def test_the_next_action_lies_behind_what_an_environment_said() -> None:
    mask = torch.tensor([[False, True, False, True], [True, False, False, False]])
    assert next_action(mask).tolist() == [[1, 3, 3, 4], [4, 4, 4, 4]]


def test_the_last_action_is_followed_by_the_final_state() -> None:
    mask = torch.tensor([[False, True, False, True]])
    x = torch.tensor([[10.0, 20.0, torch.nan, 40.0]])
    assert at_next(x, torch.tensor([7.0]), mask).tolist() == [[0.0, 40.0, 0.0, 7.0]]


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        # y₁ = 1 + ½·20, y₂ = 2 + ½·30, y₃ = 4 + ½·8
        (1, [0.0, 11.0, 17.0, 8.0]),
        # y₁ = 1 + ½·2 + ¼·30, y₂ = 2 + ½·4 + ¼·8
        (2, [0.0, 9.5, 6.0, 8.0]),
        # y₁ = 1 + ½·2 + ¼·4 + ⅛·8
        (3, [0.0, 4.0, 6.0, 8.0]),
        (100, [0.0, 4.0, 6.0, 8.0]),
    ],
)
def test_n_step_target_by_hand(num_steps: int, expected: list[float]) -> None:
    assert n_step_target(REWARD, VALUE, MASK, FINAL, 0.5, num_steps).tolist() == [expected]


def test_the_target_of_the_last_action_is_the_reward_where_the_episode_ended() -> None:
    """S13."""
    for num_steps in (1, 2, 3):
        target = n_step_target(REWARD, VALUE, MASK, torch.zeros(1), 0.5, num_steps)
        assert target[0, 3] == 4.0


@pytest.mark.parametrize(("num_steps", "expected"), [(1, [0.0, 16.0, 0.0, 8.0]), (2, [0.0, 5.0, 0.0, 8.0])])
def test_what_an_environment_said_costs_no_discount(num_steps: int, expected: list[float]) -> None:
    # one step: 1 + ½·30 and 4 + ½·8; two steps: 1 + ½·4 + ¼·8
    mask = torch.tensor([[False, True, False, True]])
    reward = torch.tensor([[torch.nan, 1.0, torch.nan, 4.0]])
    value = torch.tensor([[torch.nan, 10.0, torch.nan, 30.0]])
    assert n_step_target(reward, value, mask, FINAL, 0.5, num_steps).tolist() == [expected]


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (1, [0.0, 11.0, 17.0, 8.0]),
        # τ = 2, x = 0.1, 0.2, 0.3. y₁ = 1 + ½(2 − 0.4) + ¼·30, y₂ = 2 + ½(4 − 0.6) + ¼·8
        (2, [0.0, 9.3, 5.7, 8.0]),
        # y₁ = 1 + ½(2 − 0.4) + ¼(4 − 0.6) + ⅛·8
        (3, [0.0, 3.65, 5.7, 8.0]),
        (100, [0.0, 3.65, 5.7, 8.0]),
    ],
)
def test_soft_n_step_target_by_hand(num_steps: int, expected: list[float]) -> None:
    log_ratio = torch.tensor([[9.0, 0.1, 0.2, 0.3]])
    target = soft_n_step_target(REWARD, log_ratio, VALUE, MASK, FINAL, 0.5, 2.0, num_steps)
    torch.testing.assert_close(target, torch.tensor([expected]))


def test_where_policy_and_values_are_optimal_soft_targets_of_any_length_agree() -> None:
    # two states, two actions each, π_ref = ½, τ = 0.5, γ = 0.9; the second ends with rewards 1 and 0
    tau, gamma = 0.5, 0.9
    q2 = torch.tensor([1.0, 0.0])
    v2 = tau * torch.logsumexp(q2 / tau + torch.log(torch.tensor(0.5)), 0)
    q1 = gamma * v2
    x2 = (q2 - v2) / tau
    for action in (0, 1):
        reward = torch.tensor([[0.0, 0.0, q2[action]]])
        x = torch.tensor([[0.0, 0.0, float(x2[action])]])
        value = torch.tensor([[0.0, float(q1), float(v2)]])
        mask = torch.tensor([[False, True, True]])
        for num_steps in (1, 2):
            target = soft_n_step_target(reward, x, value, mask, torch.zeros(1), gamma, tau, num_steps)
            torch.testing.assert_close(target[0, 1:], torch.stack([q1, q2[action]]))


def test_one_network_chooses_and_the_other_judges() -> None:
    # least of the choosers: 1, 2, 3, so the third token; least of what the judges say of it: min(2, 8)
    online = [torch.tensor([[1.0, 5.0, 3.0]]), torch.tensor([[4.0, 2.0, 3.0]])]
    target = [torch.tensor([[7.0, 5.0, 2.0]]), torch.tensor([[6.0, 9.0, 8.0]])]
    assert double_q(online, target).tolist() == [2.0]
    # without the third, the second: min(5, 9)
    assert double_q(online, target, torch.tensor([[True, True, False]])).tolist() == [5.0]


def test_support_is_relative_to_the_likeliest_token() -> None:
    # relative to 0.5: 1, 0.5, 0.1, 0.4
    logits = torch.tensor([[0.5, 0.25, 0.05, 0.2]]).log() + 3.0
    assert supported(logits, 0.3).tolist() == [[True, True, False, True]]
    assert supported(logits, 0.0).tolist() == [[True] * 4]
    assert supported(logits, 1.0).tolist() == [[True, False, False, False]]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps"):
        n_step_target(REWARD, VALUE, MASK, FINAL, 0.5, 0)
    with pytest.raises(ValueError, match="gamma"):
        n_step_target(REWARD, VALUE, MASK, FINAL, 1.5, 1)
    with pytest.raises(ValueError, match="equal shapes"):
        n_step_target(REWARD, VALUE[:, 1:], MASK, FINAL, 0.5, 1)
    with pytest.raises(ValueError, match="equal shapes"):
        at_next(REWARD, FINAL[None], MASK)
    with pytest.raises(ValueError, match="temperature"):
        soft_n_step_target(REWARD, REWARD, VALUE, MASK, FINAL, 0.5, 0.0, 1)
    with pytest.raises(ValueError, match="equal shapes"):
        double_q([torch.zeros(1, 3)], [torch.zeros(1, 4)])
    with pytest.raises(ValueError, match="share"):
        supported(torch.zeros(1, 3), 1.5)

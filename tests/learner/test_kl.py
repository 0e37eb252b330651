import pytest
import torch
from torch import Tensor

from antiphon.errors import UserError
from antiphon.settings import parse
from learner.algorithms.reinforce_pp import ReinforcePP
from learner.functional import kl
from learner.kl_control import KLConfig, KLController
from learner.learner import Learner, LearnerConfig
from learner.optimizer import OptimizerConfig
from rollout.types import Sampling
from tests.learner.fakes_groups import group, trajectory
from tests.learner.fakes_models import table_lm


def test_estimators_by_hand() -> None:
    # x = log π − log π_ref = 0.5: k1 = 0.5, k2 = 0.125, k3 = e^−0.5 − 1 + x
    logprob, logprob_ref = torch.tensor([[-1.0]]), torch.tensor([[-1.5]])
    assert kl.k1(logprob, logprob_ref).item() == pytest.approx(0.5)
    assert kl.k2(logprob, logprob_ref).item() == pytest.approx(0.125)
    assert kl.k3(logprob, logprob_ref).item() == pytest.approx(0.10653066)


def test_a_penalty_has_the_value_of_k3_and_the_gradient_of_k2() -> None:
    logprob = torch.tensor([[-1.0]], requires_grad=True)
    value = kl.penalty(logprob, torch.tensor([[-1.5]]), "k3")
    value.sum().backward()
    assert value.item() == pytest.approx(0.10653066)
    assert logprob.grad is not None
    assert logprob.grad.item() == pytest.approx(0.5)  # d ½x² / dx = x


def test_estimators_agree_with_the_exact_kl_on_samples() -> None:
    """S6: within four standard errors; k3 is never negative; equal policies give exactly 0."""
    logits, logits_ref = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    log_p, log_q = logits.log_softmax(0), logits_ref.log_softmax(0)
    exact = (log_p.exp() * (log_p - log_q)).sum()
    draws = torch.multinomial(log_p.exp(), 50_000, True, generator=torch.Generator().manual_seed(2))[None]
    for estimator in (kl.k1, kl.k3):
        samples = estimator(log_p[draws], log_q[draws])
        assert abs(samples.mean() - exact) < 4 * samples.std() / 50_000**0.5
    assert (kl.k3(log_p[draws], log_q[draws]) >= 0).all()
    for same in (kl.k1, kl.k2, kl.k3):
        assert not same(log_p[draws], log_p[draws]).any()


@pytest.mark.parametrize("place", ["reward", "loss"])
def test_with_no_score_and_a_leash_the_policy_returns_to_the_reference(place: str) -> None:
    """S6: fifty updates on samples of the policy; the exact KL falls, which a wrong sign would not do."""
    reference = torch.zeros(3, 3)
    policy = torch.tensor([[1.5, 0.0, -1.5]] * 3)
    # REINFORCE++ without whitening's help: advantages of a KL in the reward vary from token to token.
    config = parse(ReinforcePP.Config, {"kl": {"place": place, "beta": 0.5}})
    learner = _table_learner(reference, config)
    with torch.no_grad():
        learner.model.lm.model.rows.weight.copy_(policy)
    start = _exact_kl(policy, reference)
    for update in range(50):
        learner.update([_drawn(learner, update)])
    end = _exact_kl(learner.model.lm.model.rows.weight.detach(), reference)
    assert end < 0.3 * start


def test_garbage_outside_the_actions_does_not_reach_the_kl() -> None:
    """S6: the prompt's tokens are likely or not; only drawn tokens count."""
    reference, policy = torch.zeros(3, 3), torch.zeros(3, 3)
    policy[0] = torch.tensor([1.0, 0.0, -1.0])
    expected = (policy[0].log_softmax(0)[1] - reference[0].log_softmax(0)[1]).item()
    for prompt in ([2, 0], [1, 2, 0], [0, 0, 0, 0, 0]):
        learner = _table_learner(reference, parse(ReinforcePP.Config, {"kl": {"place": "loss"}}))
        with torch.no_grad():
            learner.model.lm.model.rows.weight.copy_(policy)
        pair = [trajectory(prompt, [1]), trajectory(prompt, [1])]
        metrics = learner.update([group(0, pair, [0.0, 1.0])])
        assert metrics["policy/kl"] == pytest.approx(expected, abs=1e-6)


def test_the_controller_moves_by_a_fifth_at_most() -> None:
    """S6. e = clip(KL/target − 1, ±0.2); a batch as large as the horizon moves β by the whole of it."""
    controller = KLController(KLConfig(beta=1.0, target=0.1, horizon=100))
    controller.update(0.5, 100)
    assert controller.beta == pytest.approx(1.2)
    controller.update(0.0, 50)
    assert controller.beta == pytest.approx(1.2 * (1 - 0.2 * 0.5))
    controller.update(0.11, 100)
    assert controller.beta == pytest.approx(1.2 * 0.9 * 1.1)


def test_a_fixed_coefficient_stays() -> None:
    controller = KLController(KLConfig(beta=0.3))
    controller.update(9.0, 10_000)
    assert controller.beta == 0.3


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"target": -1.0}, {"horizon": 0}, {"place": "twice"}])
def test_a_leash_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    """S6."""
    with pytest.raises(UserError, match=next(iter(wrong))):
        parse(KLConfig, wrong, "algorithm.kl")


def test_a_kl_in_reward_and_loss_has_to_be_asked_for_by_name() -> None:
    """S6: no combination of other settings charges it twice."""
    assert not KLConfig(place="reward").in_loss
    assert not KLConfig(place="loss").in_reward
    assert KLConfig(place="both").in_loss
    assert KLConfig(place="both").in_reward


def _table_learner(logits: Tensor, config: ReinforcePP.Config) -> Learner:
    settings = LearnerConfig(max_mismatch=None, optimizer=OptimizerConfig(lr=0.05))
    lm = table_lm(logits.clone())
    return Learner(settings, ReinforcePP(config), lm, sampling=Sampling(), num_updates=50, seed=0)


def _drawn(learner: Learner, update: int) -> object:
    """Sixty-four completions of four tokens each, drawn from the table, all scored 0."""
    log_probs = learner.model.lm.model.rows.weight.detach().log_softmax(dim=1)
    generator = torch.Generator().manual_seed(update)
    rows = []
    for _ in range(64):
        ids, drawn = [0], []
        for _ in range(4):
            ids.append(int(torch.multinomial(log_probs[ids[-1]].exp(), 1, generator=generator)))
            drawn.append(float(log_probs[ids[-2], ids[-1]]))
        rows.append(trajectory([0], ids[1:], logprobs=drawn, version=update))
    return group(update, rows, [0.0] * 64, version=update)


def _exact_kl(logits: Tensor, logits_ref: Tensor) -> float:
    log_p, log_q = logits.log_softmax(1), logits_ref.log_softmax(1)
    return float((log_p.exp() * (log_p - log_q)).sum(1).mean())

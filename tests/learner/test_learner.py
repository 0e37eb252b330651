from pathlib import Path

import pytest
import torch
from torch import Tensor

from antiphon.errors import UserError
from antiphon.settings import parse
from learner.algorithms.base import Algorithm, Term
from learner.algorithms.grpo import GRPO
from learner.algorithms.ppo import PPO
from learner.batch import Batch
from learner.learner import Learner, LearnerConfig
from learner.mismatch import MismatchError
from learner.model import Outputs, PolicyModel
from learner.optimizer import OptimizerConfig
from learner.state import load_state, save_state
from learner.tensors import tensors_of
from rollout.types import Group, Sampling
from tests.learner.fakes_groups import group, random_groups, trajectory
from tests.learner.fakes_models import tiny_gpt2, tiny_llama


class Watching(GRPO):
    """Writes down how far log-probs are from the proximal ones at each part of each step."""

    def __init__(self, config: GRPO.Config) -> None:
        super().__init__(config)
        self.tape: list[float] = []

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        self.tape.append(float((outputs["logprob"] - batch["logprob_prox"]).detach().abs().max()))
        return super().loss(outputs, batch)


class Exploding(GRPO):
    """Its loss is not a number."""

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        return {"loss/policy": Term(outputs["logprob"].sum() * torch.nan, "tokens")}


def build(algorithm: Algorithm | None = None, **changes: object) -> Learner:
    """A learner of a small GPT-2 with dropout in its config; its batches come from nowhere."""
    config = parse(
        LearnerConfig,
        {"max_mismatch": None, "max_lagged_mismatch": None, "optimizer": {"lr": 1e-3}, **changes},
    )
    return Learner(
        config, algorithm or GRPO(GRPO.Config()), tiny_gpt2(), sampling=Sampling(), num_updates=10, seed=0
    )


def ppo(**changes: object) -> PPO:
    return PPO(parse(PPO.Config, {"kl": {"place": "both", "target": 0.1, "horizon": 50}, **changes}))


def scored_by(learner: Learner, groups: list[Group], shift: float = 0.0) -> list[Group]:
    """The groups as a sampler with the learner's weights makes them, its log-probs off by `shift`."""
    with torch.no_grad():
        logprob = learner.model(Batch.from_groups(groups))["logprob"]
    rows = iter(logprob.tolist())
    made = []
    for g in groups:
        new = []
        for t in g.trajectories:
            drawn = [p + shift for p, is_action in zip(next(rows), t.action_mask, strict=False) if is_action]
            prompt, completion = t.token_ids[: -len(drawn)], t.token_ids[-len(drawn) :]
            new.append(trajectory(prompt, completion, logprobs=drawn))
        made.append(group(g.index, new, [s.value or 0.0 for s in g.scores], version=g.policy_version))
    return made


@pytest.mark.parametrize("num_minibatches", [1, 2])
def test_before_the_first_step_the_ratio_is_exactly_one(num_minibatches: int) -> None:
    """S11: dropout 0.1 in the config. One step needs no pass of its own, two see the parts of the pass."""
    algorithm = Watching(parse(Watching.Config, {"kl": {"place": "loss"}}))
    learner = build(algorithm, num_minibatches=num_minibatches, max_tokens_per_micro_batch=30)
    metrics = learner.update(random_groups(4, 3))
    first_step = algorithm.tape[: len(algorithm.tape) // num_minibatches]
    assert len(first_step) > 1
    assert set(first_step) == {0.0}
    assert metrics["policy/kl"] == 0.0
    if num_minibatches == 1:
        assert metrics["policy/ratio"] == 1.0
    else:
        assert max(algorithm.tape) > 0.0


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_a_sampler_with_other_logprobs_stops_the_run_before_a_weight_has_changed(num_epochs: int) -> None:
    learner = build(num_epochs=num_epochs, max_mismatch=0.05)
    before = _copied(learner.model)
    groups = random_groups(3, 2)
    with pytest.raises(MismatchError, match=r"0\.1000 nats"):
        learner.update(scored_by(learner, groups, shift=0.1))
    assert _equal(before, tensors_of(learner.model))
    good = scored_by(learner, groups, shift=0.01)
    metrics = learner.update(good)
    assert metrics["mismatch/mean"] == pytest.approx(0.01, abs=1e-5)
    assert metrics["mismatch/outside_share"] == 0.0
    assert metrics["ess"] == pytest.approx(1.0)
    fresh = build(num_epochs=num_epochs)
    fresh.update(good)
    assert _equal(tensors_of(fresh.model), tensors_of(learner.model))


def test_with_lag_logprobs_may_differ_and_the_lag_is_reported() -> None:
    learner = build(max_mismatch=0.05)
    learner.version = 3
    metrics = learner.update(random_groups(3, 2, version=1))
    assert (metrics["lag/mean"], metrics["lag/max"]) == (2.0, 2.0)
    assert metrics["mismatch/mean"] > 0.05
    assert learner.version == 4


def test_weights_that_never_reached_the_actors_stop_a_run_with_lag_too() -> None:
    learner = build(max_lagged_mismatch=0.5)
    learner.version = 3
    lagged = scored_by(learner, random_groups(3, 2, version=2), shift=0.6)
    with pytest.raises(MismatchError, match="with lag"):
        learner.update(lagged)
    learner.update(scored_by(learner, random_groups(3, 2, version=2), shift=0.4))


def test_a_gradient_that_is_not_finite_is_counted_and_changes_nothing() -> None:
    learner = build(Exploding(GRPO.Config()))
    before = _copied(learner.model)
    metrics = learner.update(random_groups(2, 2))
    assert metrics["num_skipped"] == 1
    assert metrics["num_steps"] == 0
    assert _equal(before, tensors_of(learner.model))


@pytest.mark.parametrize("wrong", [{"top_p": 0.8}, {"top_k": 5}, {"temperature": 0.0}])
def test_truncated_or_greedy_sampling_is_refused(wrong: dict[str, float]) -> None:
    """S1: their log-probs are not those of the whole softmax."""
    with pytest.raises(UserError, match=next(iter(wrong))):
        Learner(
            LearnerConfig(),
            GRPO(GRPO.Config()),
            tiny_gpt2(),
            sampling=Sampling(**wrong),  # type: ignore[arg-type]
            num_updates=1,
            seed=0,
        )


def test_the_learner_scores_at_the_temperature_of_the_sampler() -> None:
    """S1."""
    groups = random_groups(2, 2)
    hot = Learner(
        LearnerConfig(max_mismatch=None),
        GRPO(GRPO.Config()),
        tiny_gpt2(),
        sampling=Sampling(temperature=2.0),
        num_updates=1,
        seed=0,
    )
    batch = Batch.from_groups(groups)
    entropy = PolicyModel(tiny_gpt2(), temperature=2.0)(batch)["entropy"].detach()
    expected = float(entropy[batch.action_mask].mean())
    assert hot.update(groups)["policy/entropy"] == pytest.approx(expected, abs=1e-5)


def test_resumed_is_never_stopped(tmp_path: Path) -> None:
    """Three updates, a way through files, three more: the same losses and the same bits as six."""
    changes = {
        "num_minibatches": 2,
        "num_epochs": 2,
        "optimizer": {"lr": 1e-3, "schedule": "cosine", "warmup_updates": 2},
    }
    batches = [random_groups(4, 3, seed=seed) for seed in range(6)]
    straight = build(ppo(), **changes)
    expected = [straight.update(groups) for groups in batches]
    first = build(ppo(), **changes)
    for groups in batches[:3]:
        first.update(groups)
    save_state(first.state_dict(), tmp_path, "learner")
    second = build(ppo(), **changes)
    second.load_state_dict(load_state(tmp_path, "learner"))
    assert [second.update(groups) for groups in batches[3:]] == expected[3:]
    assert _equal(tensors_of(straight.model), tensors_of(second.model))
    assert second.version == 6


def test_state_of_another_algorithm_is_refused() -> None:
    state = build(ppo()).state_dict()
    with pytest.raises(ValueError, match=r"heads\.value"):
        build().load_state_dict(state)


def test_arrival_order_changes_no_bit() -> None:
    groups = random_groups(4, 3)
    one, other = build(ppo(), num_minibatches=2), build(ppo(), num_minibatches=2)
    assert one.update(groups) == other.update(groups[::-1])
    assert _equal(tensors_of(one.model), tensors_of(other.model))


def test_a_batch_of_constant_groups_teaches_nothing_and_says_so() -> None:
    """S5."""
    learner = build()
    before = _copied(learner.model)
    rows = [trajectory([1], [2, 3]), trajectory([1], [4])]
    metrics = learner.update([group(0, rows, [0.7, 0.7]), group(1, rows[:1], [0.1])])
    assert metrics["group/num_constant"] == 2
    assert metrics["group/num_singleton"] == 1
    assert metrics["grad_norm"] == 0.0
    assert _equal(before, tensors_of(learner.model))


def test_masking_truncated_completions_leaves_length_metrics_alone() -> None:
    """S12."""
    rows = [trajectory([1], [2] * 9, finish_reason="length"), trajectory([1], [3])]
    groups = [group(0, rows, [0.0, 1.0])]
    masked = build(GRPO(GRPO.Config(mask_truncated=True))).update(groups)
    whole = build().update(groups)
    for name in ("length/mean", "length/max", "length/truncated_share", "score/mean"):
        assert masked[name] == whole[name]
    assert masked["grad_norm"] != whole["grad_norm"]


def test_values_learn_the_score_and_the_clip_is_seen() -> None:
    """S14: old values are those before the first step, so that later epochs can leave them."""
    algorithm = ppo(value_clip=0.01, value_coef=1.0, kl={"place": "none"})
    learner = build(algorithm, num_epochs=4, optimizer={"lr": 1e-3, "head_lr": 0.05})
    clip_fractions, explained = [], []
    for _ in range(8):
        metrics = learner.update(random_groups(6, 2, completion_tokens=(3, 3)))
        clip_fractions.append(metrics["value/clip_fraction"])
        explained.append(metrics["value/explained_variance"])
    assert max(clip_fractions) > 0.2
    assert explained[-1] > explained[0]


def test_half_precision_models_are_trained_in_fp32_and_autocast_stays_close() -> None:
    groups = random_groups(3, 2)
    lm = tiny_llama(dtype=torch.bfloat16)
    config = LearnerConfig(max_mismatch=None, autocast="bfloat16", optimizer=OptimizerConfig(lr=1e-4))
    learner = Learner(config, ppo(), lm, sampling=Sampling(), num_updates=1, seed=0)
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    exact = learner.model(Batch.from_groups(groups))["logprob"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = learner.model(Batch.from_groups(groups))["logprob"]
    assert rounded.dtype == torch.float32
    assert (exact - rounded).abs().mean() < 0.05
    assert learner.update(groups)["num_skipped"] == 0


def test_weights_are_those_of_the_language_model_alone() -> None:
    learner = build(ppo())
    weights = learner.weights(version=1)
    assert weights.version == 1
    names = {spec.name for spec in weights.specs}
    assert names
    assert not any("head" in name and "lm_head" not in name for name in names)
    learner.update(random_groups(2, 2))
    assert learner.weights(version=2).digest != weights.digest


def test_new_heads_depend_on_the_seed_of_the_run_and_on_nothing_that_was_drawn_before() -> None:
    first = _copied(build(ppo()).model)
    torch.rand(7)
    assert _equal(first, _copied(build(ppo()).model))


def _copied(model: PolicyModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors_of(model).items()}


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from antiphon import plugins
from antiphon.errors import UserError
from learner.algorithms.base import Algorithm
from learner.algorithms.temporal_difference import TemporalDifference
from learner.batch import Batch
from learner.learner import Learner, LearnerConfig
from learner.optimizer import OptimizerConfig
from learner.q_head import QHead
from learner.state import load_state, save_state
from learner.target_value_head import TargetValueHead
from learner.tensors import tensors_of
from rollout.types import Sampling
from tests.learner.fakes_chain import guided_play, one_hot_lm
from tests.learner.fakes_groups import batch_of, random_groups
from tests.learner.fakes_models import tiny_gpt2

MASK = torch.tensor([[False, True, True]])
OUTPUTS = {
    "q_0": torch.tensor([[9.0, 0.5, 0.6]]),
    "q_1": torch.tensor([[9.0, 0.4, 0.9]]),
    "q_target_0": torch.tensor([[9.0, 0.3, 0.7]]),
    "q_target_1": torch.tensor([[9.0, 0.4, 0.2]]),
    "logsumexp_0": torch.tensor([[9.0, 1.0, 1.0]]),
    "logsumexp_1": torch.tensor([[9.0, 2.0, 2.0]]),
    "q_next": torch.tensor([[9.0, 7.0, 0.8]]),
    "q_next_final": torch.tensor([0.5]),
    "value": torch.tensor([[9.0, 0.25, 0.5]]),
    "value_final": torch.tensor([3.0]),
    "value_target": torch.tensor([[9.0, 0.3, 0.4]]),
    "value_target_final": torch.tensor([2.0]),
    "logprob": torch.tensor([[0.0, -1.0, -2.0]]),
    "entropy": torch.tensor([[0.0, 1.0, 3.0]]),
}
RECIPES = [
    {"name": "ilql", "awac_beta": 1.0, "kl_coef": 0.1, "target": {"share": 0.3}},
    {"name": "dqn", "support": 0.1},
    {"name": "dqn", "sarsa": True, "kl_coef": 0.0},
    {"name": "soft_q"},
]


def build(recipe: dict[str, object]) -> TemporalDifference:
    algorithm, config = plugins.configure(Algorithm, "learner.algorithms", recipe, "algorithm")
    built: TemporalDifference = algorithm(config)
    return built


def row(score: float = 1.0, *, is_truncated: bool = False, **streams: Tensor) -> Batch:
    """Two actions, then the end."""
    batch = batch_of(MASK, torch.tensor([score]))
    batch = Batch(**{**vars(batch), "is_truncated": torch.tensor([is_truncated])})
    return batch.with_(logprob_ref=torch.tensor([[0.0, -1.2, -1.4]]), **streams)


def totals(recipe: dict[str, object], batch: Batch) -> dict[str, float]:
    """The sum of each term over the batch."""
    algorithm = build(recipe)
    return {
        name: float(term.total) for name, term in algorithm.loss(OUTPUTS, algorithm.prepare(batch)).items()
    }


def target(recipe: dict[str, object], batch: Batch) -> list[float]:
    """What the two actions should have been worth."""
    algorithm = build(recipe)
    found: list[float] = algorithm.targets(OUTPUTS, algorithm.prepare(batch))[0, 1:].tolist()
    return found


def learner_of(recipe: dict[str, object], seed: int = 0, **changes: object) -> Learner:
    """Over a tiny GPT-2."""
    config = LearnerConfig.model_validate({"optimizer": OptimizerConfig(lr=1e-2), **changes})
    return Learner(config, build(recipe), tiny_gpt2(seed), sampling=Sampling(), num_updates=10, seed=0)


def q_head(learner: Learner) -> QHead:
    head = learner.model.heads["q"]
    assert isinstance(head, QHead)
    return head


def copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors_of(module).items()}


def test_ilql_by_hand() -> None:
    recipe = {"name": "ilql", "gamma": 0.9, "expectile": 0.7, "cql_coef": 0.1, "awac_beta": 1.0}
    found = totals(recipe, row())
    # y₁ = 0.9·0.5 = 0.45 and y₂ = 1: 0.05² + 0.05² + 0.4² + 0.1²
    assert found["loss/q"] == pytest.approx(0.175)
    assert found["q/td_error"] == pytest.approx(0.05 + 0.25)
    # Q̄ = 0.3 and 0.2, above V by 0.05 and below by 0.3: 0.7·0.0025 + 0.3·0.09
    assert found["loss/value"] == pytest.approx(0.02875)
    # 1 − 0.5 + 1 − 0.6 + 2 − 0.4 + 2 − 0.9
    assert found["loss/cql"] == pytest.approx(3.6)
    assert found["loss/awac"] == pytest.approx(math.exp(0.05) + 2.0 * math.exp(-0.3))
    assert found["policy/awac_weight"] == pytest.approx(math.exp(0.05) + math.exp(-0.3))
    # the lesser Q: 0.4 and 0.6; what really came: 0.9 and 1
    assert found["q/mean"] == pytest.approx(1.0)
    assert found["q/overestimation"] == pytest.approx(1.0 - 1.9)
    assert found["value/mean"] == pytest.approx(0.75)
    assert found["q/advantage"] == pytest.approx(0.5 - 0.75)
    assert found["policy/entropy"] == pytest.approx(4.0)


def test_weights_of_the_losses_are_those_of_the_recipe() -> None:
    recipe = {"name": "ilql", "cql_coef": 0.2, "awac_coef": 0.3, "value_coef": 0.4, "kl_coef": 0.5}
    algorithm = build(recipe)
    terms = algorithm.loss(OUTPUTS, algorithm.prepare(row()))
    weights = {name: term.weight for name, term in terms.items() if name.startswith("loss/")}
    assert weights == {"loss/q": 1, "loss/cql": 0.2, "loss/awac": 0.3, "loss/value": 0.4, "loss/kl": 0.5}
    assert {t.weight for n, t in terms.items() if not n.startswith("loss/")} == {0.0}
    # k3 of 0.2 and −0.6: e^−0.2 − 1 + 0.2 and e^0.6 − 1 − 0.6
    assert float(terms["loss/kl"].total) == pytest.approx(0.0187308 + 0.2221188, abs=1e-6)


def test_plain_imitation_and_no_conservatism_where_their_coefficients_are_zero() -> None:
    found = totals({"name": "ilql", "cql_coef": 0.0}, row())
    assert "loss/cql" not in found
    assert "loss/kl" not in found
    assert found["loss/awac"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # the best next token is worth 0.8
        ({"num_steps": 1}, [0.72, 1.0]),
        ({"num_steps": 3}, [0.9, 1.0]),
        # the one that was drawn next: min(0.7, 0.2)
        ({"num_steps": 1, "sarsa": True}, [0.18, 1.0]),
    ],
)
def test_dqn_targets_by_hand(changes: dict[str, object], expected: list[float]) -> None:
    assert target({"name": "dqn", "gamma": 0.9, **changes}, row()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # the V head counts in units of τ = 0.5: y₁ = 0.9·0.5·0.4
        ({"num_steps": 1}, [0.18, 1.0]),
        # y₁ = 0.9·(1 − τ·x₂) with x₂ = −0.6
        ({"num_steps": 2}, [1.17, 1.0]),
    ],
)
def test_soft_q_targets_by_hand(changes: dict[str, object], expected: list[float]) -> None:
    recipe = {"name": "soft_q", "gamma": 0.9, "temperature": 0.5, **changes}
    assert target(recipe, row()) == pytest.approx(expected)


def test_soft_q_by_hand() -> None:
    # Q = τ(v + x) = 0.5·(0.25 + 0.2) and 0.5·(0.5 − 0.6), y = 0.18 and 1
    found = totals({"name": "soft_q", "gamma": 0.9, "temperature": 0.5, "num_steps": 1}, row())
    assert found["loss/q"] == pytest.approx(0.045**2 + 1.05**2)
    assert found["value/mean"] == pytest.approx(0.5 * 0.75)
    assert found["policy/log_ratio"] == pytest.approx(-0.4)


@pytest.mark.parametrize(
    ("recipe", "after"),
    [
        ({"name": "ilql"}, 3.0),
        ({"name": "dqn"}, 0.5),
        ({"name": "dqn", "sarsa": True}, 0.5),
        ({"name": "soft_q"}, 0.1 * 2.0),
    ],
)
def test_a_truncated_row_goes_on_only_if_told(recipe: dict[str, object], after: float) -> None:
    """S13: y of the last action is r, or r + γ · the value of the final state."""
    recipe = {**recipe, "gamma": 0.5, "num_steps": 1}
    told = {**recipe, "bootstrap_truncated": True}
    assert target(recipe, row())[1] == 1.0
    assert target(told, row())[1] == 1.0
    assert target(recipe, row(is_truncated=True))[1] == 1.0
    assert target(told, row(is_truncated=True))[1] == pytest.approx(1.0 + 0.5 * after)


def test_scores_are_shifted_then_scaled_and_stay_as_they_are() -> None:
    recipe = {"name": "ilql", "reward_shift": 0.5, "reward_scale": 4.0}
    batch = build(recipe).prepare(row(0.75))
    assert batch["reward"].tolist() == [[0.0, 0.0, 1.0]]
    assert batch.score.tolist() == [0.75]
    assert target(recipe, row(0.75))[1] == 1.0


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_importance_multiplies_what_is_learned_and_not_what_is_reported(recipe: dict[str, object]) -> None:
    once, twice = totals(recipe, row()), totals(recipe, row(importance=torch.tensor([2.0])))
    for name, total in once.items():
        assert twice[name] == pytest.approx(total * (2.0 if name.startswith("loss/") else 1.0)), name


def test_how_much_a_row_surprised_is_a_mean_over_its_actions_and_heads() -> None:
    algorithm = build({"name": "ilql", "gamma": 0.9})
    report = algorithm.report(OUTPUTS, algorithm.prepare(row()))
    # (0.05 + 0.05) / 2 and (0.4 + 0.1) / 2, over two actions
    assert report["td_error"].tolist() == pytest.approx([0.15])
    assert report["q_max"].tolist() == pytest.approx([0.6])


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_q_algorithm_learns_which_token_pays(recipe: dict[str, object]) -> None:
    lm = one_hot_lm(torch.zeros(4, 4))
    config = LearnerConfig(num_minibatches=2, optimizer=OptimizerConfig(lr=0.1))
    learner = Learner(config, build(recipe), lm, sampling=Sampling(), num_updates=40, seed=0)
    for update in range(40):
        guide = learner.algorithm.guide()
        assert (guide is None) == (not learner.algorithm.plays_q)
        guide = guide or QHead(build({"name": "dqn"}).config.q, lm).target
        groups = guided_play(lm, guide, 10.0, update, lambda ids: float(ids.count(3)) / len(ids))
        metrics = learner.update(groups)
    assert metrics["score/mean"] > 0.6  # 0.25 by chance
    assert metrics["num_skipped"] == 0


@pytest.mark.parametrize("name", ["ilql", "dqn"])
def test_target_copies_move_only_when_they_are_due(name: str) -> None:
    """S13: every third update, all of the way."""
    learner = learner_of({"name": name, "target": {"share": 1.0, "every": 3}})
    head = q_head(learner)
    start = copied(head.target.q_heads)
    for update in range(1, 7):
        learner.update(random_groups(3, 2, seed=update))
        now, trained = tensors_of(head.target.q_heads), tensors_of(head.online.q_heads)
        if update % 3:
            assert all(torch.equal(now[n], start[n]) for n in now)
            assert not all(torch.equal(now[n], trained[n]) for n in now)
        else:
            assert all(torch.equal(now[n], trained[n]) for n in now)
            start = copied(head.target.q_heads)


def test_target_copies_go_a_share_of_the_way() -> None:
    learner = learner_of({"name": "ilql", "target": {"share": 0.25}})
    head = q_head(learner)
    before = copied(head.target.q_heads)
    learner.update(random_groups(3, 2))
    for name, online in tensors_of(head.online.q_heads).items():
        expected = before[name] + 0.25 * (online - before[name])
        torch.testing.assert_close(tensors_of(head.target.q_heads)[name], expected)


def test_the_optimizer_never_sees_a_target_copy() -> None:
    learner = learner_of({"name": "dqn"})
    learner.update(random_groups(3, 2))
    stepped = learner.state_dict()["optimizer"]
    assert any("heads.q.online.q_heads" in name for name in stepped)
    assert not any("target" in name for name in stepped)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_learner_that_was_saved_goes_on_as_if_it_had_not_stopped(
    recipe: dict[str, object], tmp_path: Path
) -> None:
    recipe = {**recipe, "target": {"share": 0.5, "every": 2}}
    straight, first = learner_of(recipe), learner_of(recipe)
    for update in range(3):
        straight.update(random_groups(3, 2, seed=update))
        first.update(random_groups(3, 2, seed=update))
    save_state(first.state_dict(), tmp_path, "learner")
    second = learner_of(recipe, seed=1)
    second.load_state_dict(load_state(tmp_path, "learner"))
    for update in range(3, 6):
        expected = straight.update(random_groups(3, 2, seed=update))
        assert second.update(random_groups(3, 2, seed=update)) == expected
    found, wanted = tensors_of(second.model), tensors_of(straight.model)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_data_of_anybodys_are_welcome(recipe: dict[str, object]) -> None:
    """Log-probs of −1 for every token are nobody's; a refusal would come before the first step."""
    learner = learner_of(recipe, max_mismatch=1e-6, max_lagged_mismatch=1e-6, num_epochs=2, num_minibatches=2)
    metrics = learner.update(random_groups(4, 2))
    assert metrics["mismatch/mean"] > 0.1
    assert metrics["num_steps"] == 4.0


def test_truncated_sampling_is_fine_off_policy_and_greedy_sampling_is_not() -> None:
    config = LearnerConfig()
    for name, is_fine in (("ilql", True), ("soft_q", True), ("grpo", False)):
        algorithm = build({"name": name})
        sampling = Sampling(top_k=5, top_p=0.9)
        if is_fine:
            Learner(config, algorithm, tiny_gpt2(), sampling=sampling, num_updates=1, seed=0)
        else:
            with pytest.raises(UserError, match="top_p"):
                Learner(config, algorithm, tiny_gpt2(), sampling=sampling, num_updates=1, seed=0)
    with pytest.raises(UserError, match="temperature"):
        Learner(
            config,
            build({"name": "dqn"}),
            tiny_gpt2(),
            sampling=Sampling(temperature=0.0),
            num_updates=1,
            seed=0,
        )


def test_how_much_groups_surprised_comes_back_in_the_order_they_were_given() -> None:
    groups = random_groups(5, 2)
    arrived = [groups[i] for i in (3, 0, 4, 1, 2)]
    one, other = learner_of({"name": "dqn"}), learner_of({"name": "dqn"})
    one.update(groups)
    other.update(arrived)
    assert one.td_errors is not None
    assert len(set(one.td_errors)) == 5
    assert other.td_errors == [one.td_errors[i] for i in (3, 0, 4, 1, 2)]
    on_policy = learner_of({"name": "grpo"}, max_mismatch=None)
    on_policy.update(groups)
    assert on_policy.td_errors is None


def test_the_importance_of_a_group_follows_it_into_the_batch() -> None:
    groups = random_groups(3, 2)
    alone = learner_of({"name": "dqn", "kl_coef": 0.0}).update(groups[:1], [1.0])
    # what weighs nothing is as good as not there, but for the tokens that losses are divided by
    together = learner_of({"name": "dqn", "kl_coef": 0.0}).update([*groups[1:], groups[0]], [0.0, 0.0, 1.0])
    share = alone["num_action_tokens"] / together["num_action_tokens"]
    assert together["loss/q"] == pytest.approx(alone["loss/q"] * share, rel=1e-5)
    with pytest.raises(ValueError, match="3 groups, got 2"):
        learner_of({"name": "dqn"}).update(groups, [1.0, 1.0])


def test_detached_heads_leave_the_model_as_it_is() -> None:
    for trunk, is_moved in (("detached", False), ("shared", True)):
        learner = learner_of({"name": "dqn", "trunk": trunk, "kl_coef": 0.0, "target": {"share": 1.0}})
        before = copied(learner.model.lm)
        for update in range(2):
            # The last layers start at zero: only the second update sends something back.
            learner.update(random_groups(3, 2, seed=update))
        after = tensors_of(learner.model.lm)
        assert any(not torch.equal(before[n], after[n]) for n in after) == is_moved


def test_v_of_soft_q_starts_at_the_mean_return_of_the_first_batch_and_stays_with_it() -> None:
    algorithm = build({"name": "soft_q", "temperature": 0.5, "reward_scale": 2.0, "reward_shift": 1.0})
    [head] = algorithm.heads(tiny_gpt2()).values()
    assert isinstance(head, TargetValueHead)
    algorithm.prepare(row(3.0))
    # (3 - 1) * 2 / 0.5, after each of the two actions.
    assert [float(head.state_dict()[name]) for name in ("last.bias", "target.1.bias")] == [8.0, 8.0]
    algorithm.after_update(row(3.0, q_max=torch.tensor([1.0])))
    algorithm.prepare(row(5.0))
    assert float(head.last.bias) == 8.0


def test_what_actors_play_is_the_target_copy_of_the_heads() -> None:
    for name in ("ilql", "dqn"):
        algorithm = build({"name": name, "q": {"form": "tied", "hidden_size": 8}})
        assert algorithm.plays_q
        assert algorithm.guide() is None
        assert algorithm.guide_config is not None
        assert algorithm.guide_config.form == "tied"
        heads = algorithm.heads(tiny_gpt2())
        head = heads["q"]
        assert isinstance(head, QHead)
        assert algorithm.guide() is head.target
    for name in ("soft_q", "grpo", "ppo"):
        assert not build({"name": name}).plays_q
        assert build({"name": name}).guide() is None


def test_heads_come_before_the_copies_move() -> None:
    for name in ("dqn", "soft_q"):
        with pytest.raises(ValueError, match="before `heads`"):
            build({"name": name}).follow(0.5)


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        ({"name": "ilql", "expectile": 1.0}, "expectile"),
        ({"name": "ilql", "target": {"share": 0.0}}, "share"),
        ({"name": "dqn", "num_steps": 0}, "num_steps"),
        ({"name": "dqn", "sarssa": True}, "sarsa"),
        ({"name": "dqn", "support": 2.0}, "support"),
        ({"name": "soft_q", "temperature": 0.0}, "temperature"),
        ({"name": "soft_q", "q": {"form": "full"}}, "algorithm.q"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_a_remedy(recipe: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        build(recipe)

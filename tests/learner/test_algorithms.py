import pytest
import torch

from antiphon import plugins
from antiphon.errors import UserError
from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.functional.shaping import overlong_penalty
from learner.learner import Learner, LearnerConfig
from learner.optimizer import OptimizerConfig
from rollout.types import Sampling
from tests.learner.fakes_groups import batch_of, group, trajectory
from tests.learner.fakes_models import table_lm
from tests.learner.fakes_play import play

FOLDER = "learner.algorithms"
NAMES = sorted(plugins.built_in(Algorithm, FOLDER))
PLAY_Q = ("dqn", "ilql")
"""What they learn shows only where their Q-values are played: see test_q_learning.py."""
RECIPES = [
    *({"name": name} for name in NAMES if name not in ("dr_grpo", *PLAY_Q)),
    {"name": "dr_grpo", "horizon": 4},
    {"name": "grpo", "clip_high": 0.28, "overlong": {"max_tokens": 4, "buffer": 2}, "mask_truncated": True},
    {"name": "grpo", "ratio": "sequence", "aggregation": "sequence_mean_token_mean", "clip_low": 0.001},
    {"name": "grpo", "surrogate": "cispo"},
    {"name": "ppo", "dual_clip": 3.0, "value_head": {"trunk": "separate", "hidden_size": 8}},
    {"name": "ppo", "kl": {"place": "reward", "beta": 0.01, "target": 0.1, "horizon": 100}},
    {"name": "rloo", "kl": {"place": "loss", "beta": 0.01, "estimator": "k2"}, "entropy_coef": 0.001},
]


def build(recipe: dict[str, object]) -> Algorithm:
    algorithm, config = plugins.configure(Algorithm, FOLDER, recipe, "algorithm")
    built: Algorithm = algorithm(config)
    return built


def test_the_policy_gradient_family_is_found() -> None:
    assert {"ppo", "grpo", "dr_grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_says_its_credit_and_its_paper(name: str) -> None:
    algorithm = plugins.find(Algorithm, FOLDER, name)
    assert "Credit = " in algorithm.__doc__
    assert "(1" in algorithm.__doc__ or "(2" in algorithm.__doc__


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_algorithm_learns_which_token_pays(recipe: dict[str, object]) -> None:
    lm = table_lm(torch.zeros(4, 4))
    config = LearnerConfig(num_minibatches=2, optimizer=OptimizerConfig(lr=0.1))
    learner = Learner(config, build(recipe), lm, sampling=Sampling(), num_updates=25, seed=0)
    for update in range(25):
        metrics = learner.update(play(lm, update, lambda ids: float(ids.count(3)) / len(ids)))
    assert metrics["score/mean"] > 0.6  # 0.25 by chance
    assert metrics["num_skipped"] == 0


def test_overlong_penalty_by_hand() -> None:
    # limit 10, buffer 4: free up to 6, then a quarter per token
    penalty = overlong_penalty(torch.tensor([3, 6, 7, 9, 10, 12]), max_tokens=10, buffer=4)
    assert penalty.tolist() == [0.0, 0.0, -0.25, -0.75, -1.0, -1.0]
    with pytest.raises(ValueError, match="buffer"):
        overlong_penalty(torch.tensor([1]), max_tokens=2, buffer=3)


def test_shaping_leaves_the_raw_score_alone() -> None:
    """S12."""
    algorithm = build({"name": "reinforce_pp", "overlong": {"max_tokens": 2, "buffer": 1, "penalty": 5.0}})
    batch = batch_of(torch.tensor([[False, True, True], [False, True, False]]), torch.tensor([1.0, 1.0]))
    prepared = algorithm.prepare(batch)
    assert prepared.score.tolist() == [1.0, 1.0]
    # shaped −4 and 1: whitened returns of −4, −4 and 1 have opposite signs
    assert prepared["advantage"][0, 1] < 0 < prepared["advantage"][1, 1]


def test_truncated_completions_can_be_left_out_of_the_loss_but_not_of_their_group() -> None:
    """S12."""
    rows = [trajectory([1], [2, 3], finish_reason="length"), trajectory([1], [2])]
    batch = Batch.from_groups([group(0, rows, [0.0, 1.0])])
    prepared = build({"name": "rloo", "mask_truncated": True}).prepare(batch)
    assert prepared.loss_mask.int().tolist() == [[0, 0, 0], [0, 1, 0]]
    assert prepared["advantage"][1, 1] == 1.0
    assert build({"name": "rloo"}).counts(prepared) == {"tokens": 1.0, "sequences": 1.0}


def test_ppo_boots_from_the_value_after_a_truncated_completion_only_if_told() -> None:
    batch = batch_of(torch.tensor([[False, True]]), torch.tensor([1.0]))
    batch = Batch(**{**vars(batch), "is_truncated": torch.tensor([True])})
    batch = batch.with_(value=torch.zeros(1, 2), value_final=torch.tensor([2.0]))
    plain = build({"name": "ppo", "whiten": False}).prepare(batch)
    booted = build({"name": "ppo", "whiten": False, "bootstrap_truncated": True}).prepare(batch)
    assert plain["return_"][0, 1] == 1.0
    assert booted["return_"][0, 1] == 3.0


def test_the_kl_in_the_reward_is_charged_at_every_action() -> None:
    # β = 0.5, log-ratios 0.2 and 0.4, score 1: rewards −0.1 and 0.8; returns (γ = 1) 0.7 and 0.8
    recipe = {"name": "ppo", "whiten": False, "lambda_": 1.0, "kl": {"place": "reward", "beta": 0.5}}
    batch = batch_of(torch.tensor([[False, True, True]]), torch.tensor([1.0])).with_(
        logprob_prox=torch.tensor([[9.0, -1.0, -1.0]]),
        logprob_ref=torch.tensor([[-9.0, -1.2, -1.4]]),
        value=torch.zeros(1, 3),
        value_final=torch.zeros(1),
    )
    torch.testing.assert_close(build(recipe).prepare(batch)["return_"], torch.tensor([[0.0, 0.7, 0.8]]))


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        ({"name": "grpo", "aggregation": "constant"}, "horizon"),
        ({"name": "dr_grpo"}, "rollout.sampling.max_new_tokens"),
        ({"name": "grpo", "ratio": "sequence"}, "sequence_mean_token_mean"),
        ({"name": "grpo", "surrogate": "cispo", "dual_clip": 3.0}, "dual_clip"),
        ({"name": "grpo", "overlong": {"max_tokens": 3, "buffer": 5}}, "buffer"),
        ({"name": "grpo", "clip_hihg": 0.3}, "clip_high"),
        ({"name": "gpro"}, "grpo"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_a_remedy(recipe: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        build(recipe)

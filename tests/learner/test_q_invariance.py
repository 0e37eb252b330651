"""S7 for the Q-learning family: gradients and reports do not depend on how a batch was cut or padded."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from antiphon import plugins
from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.learner import Learner, LearnerConfig
from learner.model import PolicyModel
from learner.objective import objective
from rollout.types import Sampling
from tests.learner.fakes_groups import random_groups
from tests.learner.fakes_models import tiny_gpt2

PARTITIONS = [
    [[0, 1, 2, 3, 4, 5, 6, 7]],
    [[0, 1, 2, 3], [4, 5, 6, 7]],
    [[0], [1], [2], [3], [4], [5], [6], [7]],
    [[6, 2, 5, 1, 7], [4, 0, 3]],
]
ALL = {"num_steps": 2, "bootstrap_truncated": True}
RECIPES = [
    {"name": "ilql", "awac_beta": 0.5, "kl_coef": 0.1, "q": {"form": "full"}, **ALL},
    {"name": "dqn", "cql_coef": 0.1, "support": 0.1, "q": {"form": "low_rank", "rank": 4}, **ALL},
    {"name": "dqn", "sarsa": True, "huber": 0.3, "q": {"form": "tied"}, **ALL},
    {"name": "soft_q", **ALL},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_any_partition_gives_the_same_gradient(recipe: dict[str, object]) -> None:
    algorithm, model, batch = _prepared(recipe)
    whole = _gradient(algorithm, model, batch, PARTITIONS[0])
    for partition in PARTITIONS[1:]:
        _assert_same(whole, _gradient(algorithm, model, batch, partition))


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_padding_changes_nothing(recipe: dict[str, object]) -> None:
    algorithm, model, batch = _prepared(recipe)
    whole = _gradient(algorithm, model, batch, PARTITIONS[0])
    padded = batch._map(lambda x: nn.functional.pad(x, (0, 5)) if x.dim() == 2 else x)
    rows = PARTITIONS[0][0]
    counts = algorithm.counts(padded)
    model.zero_grad()
    objective(algorithm.loss(model(padded), padded), counts).backward()
    _assert_same(whole, [p.grad.clone() for p in model.parameters() if p.grad is not None])
    with torch.no_grad():
        one = algorithm.report(model(batch.select(rows)), batch)
        other = algorithm.report(model(padded), padded)
    for name in one:
        torch.testing.assert_close(one[name], other[name])


@pytest.mark.parametrize("share_prompts", [False, True])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_an_update_does_not_depend_on_the_size_of_its_micro_batches(
    recipe: dict[str, object], share_prompts: bool
) -> None:
    """Through the learner, with two epochs of two minibatches and groups in any order of arrival."""
    groups = random_groups(4, 3, completion_tokens=(1, 20))
    found = []
    for max_tokens, order in ((10_000, (0, 1, 2, 3)), (64, (3, 2, 1, 0)), (1, (2, 0, 3, 1))):
        config = LearnerConfig(
            num_epochs=2,
            num_minibatches=2,
            max_tokens_per_micro_batch=max_tokens,
            share_prompts=share_prompts,
        )
        lm = tiny_gpt2(dtype=torch.float64)
        learner = Learner(config, _build(recipe), lm, sampling=Sampling(), num_updates=2, seed=0)
        for _ in range(2):
            metrics = learner.update([groups[i] for i in order], [0.5 + i for i in order])
        errors = dict(zip(order, learner.td_errors or (), strict=True))
        found.append(([p.detach() for p in learner.model.parameters()], metrics, errors))
    for parameters, metrics, errors in found[1:]:
        assert metrics == pytest.approx(found[0][1], abs=1e-6)
        assert errors == pytest.approx(found[0][2], abs=1e-6)
        for one, other in zip(found[0][0], parameters, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def _build(recipe: dict[str, object]) -> Algorithm:
    algorithm, config = plugins.configure(Algorithm, "learner.algorithms", recipe, "algorithm")
    built: Algorithm = algorithm(config)
    return built


def _prepared(recipe: dict[str, object]) -> tuple[Algorithm, PolicyModel, Batch]:
    """Eight ragged rows, some of them truncated, and heads that say something."""
    algorithm = _build(recipe)
    lm = tiny_gpt2(dtype=torch.float64)
    torch.manual_seed(0)
    model = PolicyModel(lm, algorithm.heads(lm))
    batch = Batch.from_groups(random_groups(4, 2, completion_tokens=(1, 40)))
    assert bool(batch.is_truncated.any())
    assert not bool(batch.is_truncated.all())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        logprob = model(batch)["logprob"]
    noise = torch.randn(logprob.shape, generator=generator, dtype=torch.float64)
    streams = {"logprob_ref": logprob + 0.2 * noise, "importance": torch.linspace(0.5, 2.0, batch.num_rows)}
    return algorithm, model, algorithm.prepare(batch.with_(**streams))


def _gradient(
    algorithm: Algorithm, model: PolicyModel, batch: Batch, parts: Sequence[Sequence[int]]
) -> list[Tensor]:
    counts = algorithm.counts(batch)
    model.zero_grad()
    for rows in parts:
        micro = batch.select(rows)
        objective(algorithm.loss(model(micro), micro), counts).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def _assert_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Equal to 1e-9 of the length of the whole gradient."""
    scale = torch.stack([g.norm() for g in one]).norm()
    assert scale > 1e-3
    for a, b in zip(one, other, strict=True):
        assert (a - b).abs().max() <= 1e-9 * scale

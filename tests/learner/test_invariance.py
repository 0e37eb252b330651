"""The gradient does not depend on how a batch is cut into parts, on their order, or on who computes them."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from antiphon.settings import parse
from learner.algorithms.base import Algorithm
from learner.algorithms.ppo import PPO
from learner.batch import Batch
from learner.functional.aggregate import Aggregation
from learner.heads import ValueHead
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
AGGREGATIONS: list[Aggregation] = [
    "token_mean",
    "sequence_mean_token_sum",
    "sequence_mean_token_mean",
    "constant",
]


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_any_partition_gives_the_same_gradient(how: Aggregation) -> None:
    """S7: with the value, entropy and KL terms on, in fp64."""
    algorithm, model, batch = _prepared(how)
    whole = _gradient(algorithm, model, batch, [PARTITIONS[0]])
    for partition in PARTITIONS[1:]:
        _assert_same(whole, _gradient(algorithm, model, batch, [partition]))


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_two_ranks_with_unequal_tokens_give_the_same_gradient(how: Aggregation) -> None:
    """S7: each rank knows the counts of all, and the gradients are added up; a rank may be empty."""
    algorithm, model, batch = _prepared(how)
    whole = _gradient(algorithm, model, batch, [PARTITIONS[0]])
    _assert_same(whole, _gradient(algorithm, model, batch, [[[0, 1], [2]], [[3, 4, 5, 6, 7]]]))
    _assert_same(whole, _gradient(algorithm, model, batch, [[[0, 1, 2, 3, 4, 5, 6, 7]], []]))


def test_a_part_without_a_token_to_learn_from_adds_nothing() -> None:
    """S7."""
    algorithm, model, batch = _prepared("sequence_mean_token_mean")
    loss_mask = batch.action_mask.clone()
    loss_mask[:2] = False
    masked = batch.with_(loss_mask=loss_mask)
    whole = _gradient(algorithm, model, masked, [PARTITIONS[0]])
    _assert_same(whole, _gradient(algorithm, model, masked, [[[0, 1], [2, 3, 4, 5, 6, 7]]]))
    _assert_same(whole, _gradient(algorithm, model, masked, [[[2, 3, 4, 5, 6, 7]]]))


@pytest.mark.parametrize("share_prompts", [False, True])
def test_an_update_does_not_depend_on_the_size_of_its_micro_batches(share_prompts: bool) -> None:
    """S7: through the learner, with the last incomplete part applied and groups in any order of arrival."""
    groups = random_groups(4, 3, completion_tokens=(1, 20))
    found = []
    for max_tokens, arrived in ((10_000, groups), (64, groups[::-1]), (1, [groups[i] for i in (2, 0, 3, 1)])):
        config = LearnerConfig(
            num_epochs=2,
            num_minibatches=2,
            max_tokens_per_micro_batch=max_tokens,
            share_prompts=share_prompts,
            max_mismatch=None,
        )
        lm = tiny_gpt2(dtype=torch.float64)
        learner = Learner(config, _ppo("token_mean"), lm, sampling=Sampling(), num_updates=1, seed=0)
        metrics = learner.update(arrived)
        found.append(([p.detach() for p in learner.model.parameters()], metrics["loss/policy"]))
    for parameters, loss in found[1:]:
        assert loss == pytest.approx(found[0][1], abs=1e-6)
        for one, other in zip(found[0][0], parameters, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def _ppo(how: Aggregation) -> PPO:
    recipe = {
        "aggregation": how,
        "horizon": 16,
        "entropy_coef": 0.01,
        "kl": {"place": "both", "beta": 0.1},
    }
    return PPO(parse(PPO.Config, recipe))


def _prepared(how: Aggregation) -> tuple[Algorithm, PolicyModel, Batch]:
    """Eight ragged rows with everything that the loss reads, and a model that has moved since."""
    algorithm = _ppo(how)
    lm = tiny_gpt2(dtype=torch.float64)
    model = PolicyModel(lm, algorithm.heads(lm))
    batch = Batch.from_groups(random_groups(4, 2, completion_tokens=(1, 40)))
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(batch.token_ids.shape, generator=generator).double() for _ in range(3)]
    with torch.no_grad():
        outputs = model(batch)
        for head in model.heads.values():
            assert isinstance(head, ValueHead)
            head.last.weight.normal_(generator=generator)
    streams = {
        "logprob_prox": outputs["logprob"] + 0.2 * noise[0],
        "logprob_ref": outputs["logprob"] + 0.2 * noise[1],
        "value": 0.1 * noise[2],
        "value_final": torch.zeros(batch.num_rows).double(),
    }
    return algorithm, model, algorithm.prepare(batch.with_(**streams))


def _gradient(
    algorithm: Algorithm, model: PolicyModel, batch: Batch, ranks: Sequence[Sequence[Sequence[int]]]
) -> list[Tensor]:
    """Rank by rank and part by part, as the learner does: the counts of all ranks first, then backward."""
    rows_of_rank = [[row for part in parts for row in part] for parts in ranks]
    per_rank = [algorithm.counts(batch.select(rows)) for rows in rows_of_rank if rows]
    counts = {name: sum(c[name] for c in per_rank) for name in per_rank[0]}
    model.zero_grad()
    for parts in ranks:
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

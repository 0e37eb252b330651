"""The correction for lag, against the policies themselves: a token is weighed by the version that drew it."""

import copy

import pytest
import torch
from torch import Tensor

from learner.algorithms.grpo import GRPO
from learner.batch import Batch
from learner.functional.policy_loss import correction_weight
from learner.metrics import of_lag, of_mismatch
from learner.mismatch import MismatchError, check_mismatch
from rollout import environment
from rollout.engines.torch_engine import TorchEngine
from rollout.types import Completion, Group, Request, Sampling, Trajectory, Turn
from rollout.weights import pack
from tests.learner.fakes_groups import group, trajectory
from tests.rollout import fakes_groups as fakes
from tests.rollout.fakes_engines import NUM_WORDS, logprobs_of, tiny_model

CAP = 1.0
VERSIONS = [tiny_model("llama", seed=seed) for seed in range(4)]
"""The last is the learner's."""
NUM_TOKENS = 9
SAMPLING = Sampling(temperature=1.5, max_new_tokens=NUM_TOKENS, stop_token_ids=(NUM_WORDS,))
REQUESTS = [Request(token_ids=(3, 1, 4), sampling=SAMPLING, seed=seed) for seed in range(4)]


def completions_in_flight() -> list[Completion]:
    """Three tokens of each version but the last."""
    engine = TorchEngine(TorchEngine.Config(num_slots=4), copy.deepcopy(VERSIONS[0]), ())
    for version in range(3):
        engine.load(pack(version, VERSIONS[version]))
        if version == 0:
            tickets = [engine.submit(request) for request in REQUESTS]
        done = [ended for _ in range(3) for ended in engine.step()]
    assert not engine.has_work
    return [dict(done)[ticket] for ticket in tickets]


def batch_in_flight(completions: list[Completion]) -> Batch:
    turn = Turn(epoch=0, index=0, prompt=fakes.prompt(token_ids=(3, 1, 4)))
    rows = [environment.trajectory(turn.prompt, c, fakes.decode) for c in completions]
    scored = group(0, rows, [0.0, 1.0, 0.25, 0.5], version=0)
    return Batch.from_groups([scored])


def plain(completion: Completion, request: Request, version: int) -> Tensor:
    return logprobs_of(VERSIONS[version], request, completion)


def test_each_token_is_weighed_by_the_version_that_drew_it() -> None:
    """min(π_prox / π_v, C) with v the token's own version, from plain passes through all four policies, and
    the loss that GRPO makes of it. Mutations: behaviour log-probs of the first version alone; no cap; the
    inverse ratio."""
    completions = completions_in_flight()
    batch = batch_in_flight(completions)
    assert batch.token_version[:, 3:].tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 4
    pairs = list(zip(completions, REQUESTS, strict=True))
    prox = torch.stack([plain(c, r, 3) for c, r in pairs])
    own = torch.stack([torch.cat([plain(c, r, v)[3 * v : 3 * v + 3] for v in range(3)]) for c, r in pairs])
    expected = (prox - own).exp().clamp(max=CAP)
    assert bool((expected == CAP).any() and (expected < 0.9).any())

    logprob_prox = torch.zeros_like(batch.logprob_behaviour)
    logprob_prox[:, 3:] = prox
    weight = correction_weight(logprob_prox, batch.logprob_behaviour, CAP)[:, 3:]
    torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4)
    # With any one version for all tokens the weights would be others.
    for version in range(3):
        one = torch.stack([plain(c, r, version) for c, r in pairs])
        assert not torch.allclose((prox - one).exp().clamp(max=CAP), expected, rtol=0.1)

    grpo = GRPO(GRPO.Config(correction_cap=CAP, aggregation="token_mean"))
    prepared = grpo.prepare(batch.with_(logprob_prox=logprob_prox))
    outputs = {"logprob": logprob_prox, "entropy": torch.zeros_like(logprob_prox)}
    loss = grpo.loss(outputs, prepared)["loss/policy"].total  # type: ignore[arg-type]
    # At the first step the ratio to π_prox is 1: Σ over tokens of −A · weight.
    torch.testing.assert_close(loss.float(), -(prepared["advantage"][:, 3:] * expected).sum().float())


def several(versions: list[int], prompt: tuple[int, ...] = (7,)) -> Trajectory:
    """One action per version, behind a prompt of one token."""
    made = trajectory(list(prompt), [5] * len(versions))
    return Trajectory(
        token_ids=made.token_ids,
        action_mask=made.action_mask,
        logprobs=made.logprobs,
        finish_reason="stop",
        policy_version_min=min(versions),
        policy_version_max=max(versions),
        completion_text="",
        policy_versions=(-1, *versions),
    )


def mixed() -> Group:
    """Drawn by versions 4, 4, 5 and by 5, 6 while the learner is at 6."""
    return group(0, [several([4, 4, 5]), several([5, 6])], [0.0, 1.0], version=4)


def test_lag_is_counted_from_the_oldest_token_and_over_all_tokens() -> None:
    """Mutation: count the newest, or the version at dispatch."""
    metrics = of_lag(Batch.from_groups([mixed()]), version=6)
    # Rows: 6 − 4 and 6 − 5. Tokens: (2 + 2 + 1 + 1 + 0) / 5.
    assert (metrics["lag/mean"], metrics["lag/max"]) == (1.5, 2.0)
    assert metrics["lag/token_mean"] == pytest.approx(1.2)
    assert metrics["lag/several_share"] == 1.0
    one = group(1, [trajectory([7], [5, 5])], [0.0], version=6)
    with_one = of_lag(Batch.from_groups([mixed(), one]), version=6)
    # (2 + 1 + 0) / 3 rows, 6 / 7 tokens, two of three rows.
    assert with_one["lag/mean"] == 1.0
    assert with_one["lag/token_mean"] == pytest.approx(6 / 7)
    assert with_one["lag/several_share"] == pytest.approx(2 / 3)


def test_what_another_run_drew_has_no_lag() -> None:
    """Mutation: take its versions for this run's."""
    foreign = group(0, [several([4, 5])], [0.0], version=-1)
    assert of_lag(Batch.from_groups([foreign]), version=6) == {}
    both = of_lag(Batch.from_groups([foreign, group(1, [trajectory([7], [5])], [0.0], version=5)]), version=6)
    assert (both["lag/mean"], both["lag/token_mean"]) == (1.0, 1.0)


def test_only_the_tokens_of_its_own_version_must_agree_closely_with_the_learner() -> None:
    """Learner at 6: the last token of the second row alone. Mutation: judge rows by their dispatch."""
    batch = Batch.from_groups([mixed()])
    off = torch.zeros_like(batch.logprob_behaviour)
    off[0, 1:4] = 0.3
    off[1, 1] = 0.3
    lagged = batch.with_(logprob_prox=batch.logprob_behaviour + off)
    check_mismatch(lagged, 6, max_current=0.05, max_lagged=0.5)
    off[1, 2] = 0.06
    with pytest.raises(MismatchError, match="of the learner's own version 6"):
        check_mismatch(batch.with_(logprob_prox=batch.logprob_behaviour + off), 6, 0.05, 0.5)
    with pytest.raises(MismatchError, match="with lag"):
        check_mismatch(lagged, 6, max_current=0.05, max_lagged=0.2)


def test_the_effective_share_of_the_samples_is_that_of_their_weights() -> None:
    """Ratios 1 and 3: (1 + 3)² / (2 · (1 + 9)) = 0.8."""
    batch = Batch.from_groups([group(0, [trajectory([7], [5, 5])], [0.0])])
    prox = batch.logprob_behaviour + torch.tensor([[0.0, 0.0, 3.0]]).clamp(min=1.0).log()
    assert of_mismatch(batch.with_(logprob_prox=prox))["ess"] == pytest.approx(0.8)

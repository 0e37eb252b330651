"""S13: learned values against exact ones, where models are tables."""

import math

import pytest
import torch
from torch import Tensor

from antiphon.settings import parse
from learner.algorithms.base import Algorithm
from learner.algorithms.dqn import DQN
from learner.algorithms.ilql import ILQL
from learner.algorithms.soft_q import SoftQ
from learner.learner import Learner, LearnerConfig
from learner.q_head import QHead
from learner.target_value_head import TargetValueHead
from rollout.types import Group, Sampling
from tests.learner.fakes_chain import (
    GAMMA,
    ValueOf,
    chain_groups,
    chain_lm,
    exact,
    learned,
    one_hot_lm,
    states,
)
from tests.learner.fakes_groups import group, trajectory
from tests.learner.fakes_models import TableLM

TABLE = {"form": "full", "hidden_size": 0}
QUICK = {"share": 0.3, "every": 1}
TOLERANCE = 1e-3


def mean(go_on: float, quit_: float, share: float) -> float:
    return (1 - share) * go_on + share * quit_


def best(go_on: float, quit_: float, share: float) -> float:
    return max(go_on, quit_)


def upper(go_on: float, quit_: float, share: float) -> float:
    """The 0.8-expectile: Σ p |τ − 1[q < V]| (q − V) = 0, and V lies between the two."""
    weight_on = (1 - share) * (0.8 if go_on > quit_ else 0.2)
    weight_quit = share * (0.2 if go_on > quit_ else 0.8)
    return (weight_on * go_on + weight_quit * quit_) / (weight_on + weight_quit)


def soft(go_on: float, quit_: float, share: float) -> float:
    """τ log Σ_a π_ref(a) e^{Q/τ}, τ = 0.5, π_ref = ½."""
    return 0.5 * math.log(0.5 * math.exp(go_on / 0.5) + 0.5 * math.exp(quit_ / 0.5))


@pytest.mark.parametrize(("expectile", "value_of"), [(0.5, mean), (0.8, upper)])
def test_ilql_learns_the_exact_table(expectile: float, value_of: ValueOf) -> None:
    """With an expectile of ½, the values of the policy that made the data."""
    recipe = {"gamma": GAMMA, "expectile": expectile, "cql_coef": 0.0, "q": TABLE, "target": QUICK}
    learner = taught(ILQL(parse(ILQL.Config, recipe)), chain_lm(), chain_groups())
    q, value = exact(value_of)
    for table in q_tables(learner):
        near(learned(table), q)
    near(q_head(learner).online.value(states())[:5].detach(), value)


@pytest.mark.parametrize(
    ("changes", "value_of"),
    [
        ({"num_steps": 1}, best),
        ({"num_steps": 1, "sarsa": True}, mean),
        ({"num_steps": 3, "sarsa": True}, mean),
    ],
)
def test_dqn_and_sarsa_learn_the_exact_table(changes: dict[str, object], value_of: ValueOf) -> None:
    recipe = {"gamma": GAMMA, "q": TABLE, "target": QUICK, **changes}
    learner = taught(DQN(parse(DQN.Config, recipe)), chain_lm(), chain_groups())
    q, _ = exact(value_of)
    for table in q_tables(learner):
        near(learned(table), q)


@pytest.mark.parametrize("num_steps", [1, 3, 16])
def test_soft_q_learns_the_exact_table(num_steps: int) -> None:
    recipe = {
        "gamma": GAMMA,
        "temperature": 0.5,
        "num_steps": num_steps,
        "target": QUICK,
        "value_head": {"hidden_size": 0},
    }
    learner = taught(SoftQ(parse(SoftQ.Config, recipe)), chain_lm(), chain_groups())
    q, value = exact(soft)
    head = learner.model.heads["value"]
    assert isinstance(head, TargetValueHead)
    # The head counts in units of τ.
    found = 0.5 * head(states()[:5], torch.zeros(5).long())["value"].detach()
    near(found, value)
    log_ratio = log_table(learner.model.lm) - log_table(chain_lm())
    near(found[:, None] + 0.5 * learned(log_ratio), q)


def test_dqn_agrees_with_value_iteration() -> None:
    """Four states in which one may go to any other, or stop (token 4) for R[state]."""
    reward = [0.3, 1.0, 0.1, 0.6]
    rows = [([s], [a, 4], reward[a]) for s in range(4) for a in range(4)]
    rows += [([s], [4], reward[s]) for s in range(4)]
    groups = [group(i, [trajectory(p, c)], [score]) for i, (p, c, score) in enumerate(rows)]
    recipe = {"gamma": GAMMA, "num_steps": 1, "q": TABLE, "target": QUICK}
    lm = one_hot_lm(torch.zeros(5, 5).double())
    learner = taught(DQN(parse(DQN.Config, recipe)), lm, groups)
    q = torch.zeros(4, 5).double()
    for _ in range(100):
        q = torch.cat([GAMMA * q.amax(1).expand(4, 4), torch.tensor(reward).double()[:, None]], dim=1)
    for table in q_tables(learner):
        near(table[:4].detach(), q)


def taught(algorithm: Algorithm, lm: TableLM, groups: list[Group], num_updates: int = 250) -> Learner:
    """A learner that saw the same batch that many times. With little momentum: Q and V that follow each other
    with much of it swing."""
    optimizer = {"lr": 0.05, "schedule": "cosine", "max_grad_norm": 1e6, "betas": [0.5, 0.999]}
    config = parse(LearnerConfig, {"optimizer": optimizer})
    learner = Learner(config, algorithm, lm, sampling=Sampling(), num_updates=num_updates, seed=0)
    for _ in range(num_updates):
        learner.update(groups)
    return learner


def q_head(learner: Learner) -> QHead:
    head = learner.model.heads["q"]
    assert isinstance(head, QHead)
    return head


def q_tables(learner: Learner) -> list[Tensor]:
    """[state, token] of each head and of its target copy."""
    head = q_head(learner)
    one_hot = torch.eye(head.online.vocab_size).double()
    return [*head.online.all(one_hot), *head.target.all(one_hot)]


def log_table(lm: torch.nn.Module) -> Tensor:
    """log π, [state, token]."""
    assert isinstance(lm, TableLM)
    return lm.lm_head.weight.detach().T.log_softmax(1)


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)

"""Trajectories of several turns: only what the policy drew is learned from, and the state of an action is the
one before it, behind the observation."""

from pathlib import Path

import pytest
import torch

from antiphon import plugins
from learner.algorithms.base import Algorithm
from learner.batch import Batch
from learner.learner import Learner, LearnerConfig
from learner.logged import Limits, Logged
from learner.model import PolicyModel
from learner.q_head import QHead
from rollout.trajectories import write_parquet
from rollout.types import Group, Sampling, Trajectory
from tests.learner.fakes_chain import GAMMA, NUM_STATES, QUIT, ValueOf, exact, one_hot_lm
from tests.learner.fakes_groups import group
from tests.learner.fakes_models import TableLM, table_lm, tiny_gpt2
from tests.learner.test_q_chain import best, mean, near, q_tables, taught

GO, STOP = 5, 6
TABLE = {"form": "full", "hidden_size": 0}
ALGORITHMS: list[dict[str, object]] = [
    {"name": "ppo"},
    {"name": "grpo"},
    {"name": "ilql"},
    {"name": "dqn"},
    {"name": "soft_q"},
]


def dialogue(*parts: tuple[int, ...]) -> Trajectory:
    """Prompt, action, observation, action, …"""
    drawn = [number % 2 == 1 for number, part in enumerate(parts) for _ in part]
    return Trajectory(
        token_ids=tuple(token for part in parts for token in part),
        action_mask=tuple(drawn),
        logprobs=tuple(-1.0 if d else 0.0 for d in drawn),
        finish_reason="stop",
        policy_version_min=0,
        policy_version_max=0,
        completion_text="",
    )


def chain_groups() -> list[Group]:
    """The chain of fakes_chain, played in turns: the policy says GO or STOP, and an observation, which is the
    number of the next state, says where that led. Nothing follows the last action."""
    rows, scores = [], [*QUIT, 1.0]
    for last in range(NUM_STATES + 1):
        parts: list[tuple[int, ...]] = [(0,)]
        for state in range(1, min(last, NUM_STATES - 1) + 1):
            parts += [(GO,), (state,)]
        rows.append(dialogue(*parts, (STOP,) if last < NUM_STATES else (GO,)))
    return [group(i, [row], [score]) for i, (row, score) in enumerate(zip(rows, scores, strict=True))]


def build(recipe: dict[str, object]) -> Algorithm:
    algorithm_class, config = plugins.configure(Algorithm, "learner.algorithms", recipe, "algorithm")
    algorithm: Algorithm = algorithm_class(config)
    return algorithm


def shake(head: QHead) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def chain_lm() -> TableLM:
    logits = torch.full((7, 7), -30.0, dtype=torch.float64)
    logits[:, [GO, STOP]] = 0.0
    return one_hot_lm(logits)


@pytest.mark.parametrize(
    ("recipe", "value_of"),
    [
        ({"name": "ilql", "expectile": 0.5, "cql_coef": 0.0}, mean),
        ({"name": "dqn", "num_steps": 1}, best),
        ({"name": "dqn", "num_steps": 3, "sarsa": True}, mean),
    ],
    ids=["ilql", "dqn", "sarsa"],
)
def test_observations_cost_no_discount(recipe: dict[str, object], value_of: ValueOf) -> None:
    """S13: γ counts actions, so that a dialogue is worth what the chain without observations is."""
    quick = {"gamma": GAMMA, "q": TABLE, "target": {"share": 0.3}}
    learner = taught(build({**quick, **recipe}), chain_lm(), chain_groups())
    expected, _ = exact(value_of)
    for table in q_tables(learner):
        near(table[:NUM_STATES, [GO, STOP]].detach(), expected)


def two_dialogues() -> Group:
    rows = [
        dialogue((1, 2), (3, 4), (9, 10), (5,), (11,), (6, 7)),
        dialogue((1, 2), (8,), (12, 13, 14), (3, 15)),
    ]
    return group(0, rows, [1.0, -0.5])


def test_the_state_of_an_action_is_the_one_behind_the_observation() -> None:
    """Log-probs and Q-values against a pass over the plain sequence, one row at a time."""
    lm = tiny_gpt2(dtype=torch.float64, dropout=0.0)
    model = PolicyModel(lm, build({"name": "ilql"}).heads(lm)).double()
    head = model.heads["q"]
    assert isinstance(head, QHead)
    shake(head)
    batch = Batch.from_groups([two_dialogues()])
    with torch.no_grad():
        outputs = model(batch)
    for row in range(batch.num_rows):
        ids = batch.token_ids[row, : batch.lengths[row]][None]
        with torch.no_grad():
            states = lm.base_model(ids).last_hidden_state[0]
            logprobs = lm(ids).logits[0].log_softmax(-1)
        for t in range(1, ids.shape[1]):
            if batch.action_mask[row, t]:
                token = int(ids[0, t])
                q = head.online.all(states[t - 1 : t])[0][0, token]
                torch.testing.assert_close(outputs["q_0"][row, t], q)
                torch.testing.assert_close(outputs["logprob"][row, t], logprobs[t - 1, token])
                torch.testing.assert_close(outputs["value"][row, t], head.online.value(states[t - 1 : t])[0])
            else:
                assert {float(outputs[name][row, t]) for name in ("q_0", "logprob", "value")} == {0.0}
        torch.testing.assert_close(outputs["value_final"][row], head.online.value(states[-1:])[0])


@pytest.mark.parametrize("recipe", ALGORITHMS, ids=lambda r: str(r["name"]))
def test_nobody_is_taught_to_say_what_the_environment_said(recipe: dict[str, object]) -> None:
    """In a table model a token's row is read where the next token is predicted, and nowhere else. The last
    tokens of the actions that are answered, 4 and 8, predict observations alone: no gradient reaches them."""
    lm = table_lm(torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    config = LearnerConfig(max_mismatch=None, max_lagged_mismatch=None)
    algorithm = build(recipe)
    learner = Learner(config, algorithm, lm, sampling=Sampling(), num_updates=2, seed=0)
    before = lm.model.rows.weight.detach().clone()
    # After the first update heads that begin with zeros have something to send back.
    for _ in range(2):
        learner.update([two_dialogues()])
    has_moved = (lm.model.rows.weight.detach() != before).any(dim=1)
    # Before an action: 2 and 3; 10, the end of the first observation; 11, the second, and 6. In the other
    # dialogue 2; 14 and 3.
    assert {i for i in range(16) if has_moved[i]} == {2, 3, 6, 10, 11, 14}


def test_logged_dialogues_come_back_with_their_masks(tmp_path: Path) -> None:
    rows = [dialogue((1, 2), (3, 4), (9, 10), (5,)), dialogue((1, 2), (8,), (12,), (3, 3))]
    write_parquet([group(0, rows, [1.0, 0.0])], tmp_path, 0, "t")
    logged = Logged([str(tmp_path)], Limits(tokenizer="t", vocab_size=32, max_tokens=16))
    (read,) = logged.read(0)
    assert [t.action_mask for t in read.trajectories] == [t.action_mask for t in rows]
    assert [t.token_ids for t in read.trajectories] == [t.token_ids for t in rows]

"""A chain of five states whose values are known exactly, and a model that is a table over its states.

The state is the last token. In state i < 5 one may go on (token i + 1) or quit (token 6); whoever arrives at
5 scores 1, whoever quits in state i scores QUIT[i]. Both end the episode.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from rollout.q_function import QFunction
from rollout.types import Group
from tests.learner.fakes_groups import group, trajectory
from tests.learner.fakes_models import TableConfig, TableLM

GAMMA = 0.9
NUM_STATES = 5
NUM_TOKENS = 7
QUIT_TOKEN = 6
QUIT = (0.75, 0.2, 0.9, 0.1, 0.4)

ValueOf = Callable[[float, float, float], float]
"""From the worth of going on, of quitting, and the share of the data that quits: the worth of the state."""


def one_hot_lm(logits: Tensor) -> TableLM:
    """Hidden states are one-hot vectors of the last token, frozen: linear heads over them are tables. So are
    the logits, row = last token, column = next token, and these can be trained."""
    lm = TableLM(TableConfig(vocab_size=len(logits))).to(logits.dtype)
    with torch.no_grad():
        lm.model.rows.weight.copy_(torch.eye(len(logits)))
        lm.lm_head.weight.copy_(logits.T)
    lm.model.rows.weight.requires_grad_(False)
    lm.lm_head.weight.requires_grad_(True)
    return lm


def chain_lm() -> TableLM:
    """Goes on or quits with equal probability, and says nothing else."""
    logits = torch.full((NUM_TOKENS, NUM_TOKENS), -30.0, dtype=torch.float64)
    for state in range(NUM_STATES):
        logits[state, [state + 1, QUIT_TOKEN]] = 0.0
    return one_hot_lm(logits)


def chain_groups() -> list[Group]:
    """Every way through the chain once: of those in state i, a share of 1 / (6 − i) quits there."""
    rows = [trajectory([0], [*range(1, i + 1), QUIT_TOKEN]) for i in range(NUM_STATES)]
    rows.append(trajectory([0], range(1, NUM_STATES + 1)))
    return [group(i, [row], [score]) for i, (row, score) in enumerate(zip(rows, (*QUIT, 1.0), strict=True))]


def exact(value_of: ValueOf) -> tuple[Tensor, Tensor]:
    """Worth of going on and of quitting, and of the state, by induction from the end. [5, 2], [5]"""
    q, value = torch.zeros(NUM_STATES, 2).double(), torch.zeros(NUM_STATES).double()
    for i in reversed(range(NUM_STATES)):
        go_on = 1.0 if i == NUM_STATES - 1 else GAMMA * float(value[i + 1])
        q[i] = torch.tensor([go_on, QUIT[i]])
        value[i] = value_of(go_on, QUIT[i], 1.0 / (6 - i))
    return q, value


def learned(table: Tensor) -> Tensor:
    """The entries of a table [state, token] that the chain knows of. -> [5, 2]"""
    return torch.stack([table[i, [i + 1, QUIT_TOKEN]] for i in range(NUM_STATES)]).detach()


def states() -> Tensor:
    """What the model shows of each token. [7, 7]"""
    return torch.eye(NUM_TOKENS).double()


@torch.no_grad()
def guided_play(
    lm: TableLM, guide: QFunction, beta: float, seed: int, scoring: Callable[[list[int]], float]
) -> list[Group]:
    """Four groups of eight completions of two tokens, drawn from log π + β (min Q − V)."""
    table = lm.lm_head.weight.T.detach().log_softmax(1)
    table = (table + beta * guide.advantages(lm.model.rows.weight)).log_softmax(1)
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for index in range(4):
        rows, scores = [], []
        for _ in range(8):
            ids = [index % len(table)]
            for _ in range(2):
                ids.append(int(torch.multinomial(table[ids[-1]].exp(), 1, generator=generator)))
            drawn = [float(table[a, b]) for a, b in pairwise(ids)]
            rows.append(trajectory(ids[:1], ids[1:], logprobs=drawn))
            scores.append(scoring(ids[1:]))
        groups.append(group(index + 4 * seed, rows, scores))
    return groups

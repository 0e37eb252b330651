"""A sampler for table models, so that tests of the learner can play without an engine."""

from collections.abc import Callable

import torch

from antiphon.seeds import derive
from rollout.types import Group
from tests.learner.fakes_groups import group, trajectory
from tests.learner.fakes_models import TableLM

Scoring = Callable[[list[int]], float]


def play(
    lm: TableLM,
    update: int,
    scoring: Scoring,
    *,
    num_groups: int = 4,
    num_samples: int = 8,
    num_tokens: int = 2,
) -> list[Group]:
    """Groups whose completions are drawn from the model as it is; group i starts from token i."""
    log_p = lm.model.rows.weight.detach().log_softmax(dim=1)
    generator = torch.Generator().manual_seed(derive(0, "play", update))
    groups = []
    for index in range(num_groups):
        rows, scores = [], []
        for _ in range(num_samples):
            ids, drawn = [index % len(log_p)], []
            for _ in range(num_tokens):
                ids.append(int(torch.multinomial(log_p[ids[-1]].exp(), 1, generator=generator)))
                drawn.append(float(log_p[ids[-2], ids[-1]]))
            rows.append(trajectory(ids[:1], ids[1:], logprobs=drawn, version=update))
            scores.append(scoring(ids[1:]))
        groups.append(group(index + update * num_groups, rows, scores, version=update))
    return groups

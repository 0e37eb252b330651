"""How good a model's choices are, on states of which every candidate's worth is known."""

import torch
from torch import Tensor

from learner.choice.model import ChoiceModel
from learner.choice.table import ChoiceTable
from learner.functional.choice import policy

ROWS = 64
"""States that are valued together."""


@torch.no_grad()
def values_of(model: ChoiceModel, table: ChoiceTable) -> Tensor:
    """Q of every candidate. -> [M, A] float64 on the CPU"""
    device = next(model.network.parameters()).device
    parts = zip(table.state.split(ROWS), table.actions.split(ROWS), strict=True)
    return torch.cat([model(state.to(device), actions.to(device)).cpu().double() for state, actions in parts])


def measure(q: Tensor, table: ChoiceTable, temperature: float, epsilon: float) -> dict[str, float]:
    """Of the best candidate by Q, and of a policy that explores.

    accuracy         share of states in which a candidate of the highest worth is chosen
    value            mean worth of the chosen candidate; value_best: of the best one
    value_exploring  mean worth expected of a policy with this temperature and ε
    value_error      mean |Q − worth| over all candidates; value_error_max: the largest

    Args:
        q: [M, A], by state and candidate.
    """
    greedy = policy(q, table.is_there, 0.0, 0.0)
    exploring = policy(q, table.is_there, temperature, epsilon)
    error = (q - table.values).abs()[table.is_there]
    return {
        "accuracy": accuracy(greedy, table),
        "value": _mean_worth(greedy, table),
        "value_best": float(table.values.masked_fill(~table.is_there, -torch.inf).amax(dim=1).mean()),
        "value_exploring": _mean_worth(exploring, table),
        "value_error": float(error.mean()),
        "value_error_max": float(error.max()),
    }


def accuracy(probabilities: Tensor, table: ChoiceTable) -> float:
    """How often a policy takes a candidate of the highest worth. [M, A] -> a share"""
    there = table.values.masked_fill(~table.is_there, -torch.inf)
    is_best = there == there.amax(dim=1, keepdim=True)
    return float((probabilities * is_best).sum(dim=1).mean())


def _mean_worth(probabilities: Tensor, table: ChoiceTable) -> float:
    return float((probabilities * table.values).sum(dim=1).mean())

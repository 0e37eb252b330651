"""Numbers per group, and per row of the batch that is made of the groups: how replay and learner speak.

A replay says how much each group weighs, and is told how much each surprised; both in the order of its
groups, which is not that of the rows (see `Batch.from_groups`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.functional.advantages import group_sizes
from learner.functional.checks import same_shape
from rollout.types import Group


def per_row(per_group: Sequence[float], groups: Sequence[Group], group: Tensor) -> Tensor:
    """The number of a row's group, at the row.

    Args:
        per_group: in the order of `groups`.
        group: [B] the stream of that name of the batch.

    Returns:
        [B] fp32.

    Raises:
        ValueError: not one number per group.
    """
    if len(per_group) != len(groups):
        raise ValueError(f"want a number for each of {len(groups)} groups, got {len(per_group)}")
    ordered = torch.tensor([per_group[i] for i in _order(groups)], dtype=torch.float32)
    return ordered.to(group.device)[group]


def mean_per_group(x: Tensor, groups: Sequence[Group], group: Tensor) -> list[float]:
    """The mean of a stream over the rows of each group, in the order of `groups`. [B], [B]"""
    same_shape(1, x=x, group=group)
    sums = torch.zeros(len(groups), dtype=torch.float64, device=x.device).index_add(0, group, x.double())
    counted = torch.ones_like(sums).index_put((group,), group_sizes(group).double())
    means = (sums / counted).tolist()
    found = [0.0] * len(groups)
    for place, i in enumerate(_order(groups)):
        found[i] = means[place]
    return found


def _order(groups: Sequence[Group]) -> list[int]:
    """Which group comes first in the batch, second, …"""
    return sorted(range(len(groups)), key=lambda i: groups[i].key)

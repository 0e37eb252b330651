"""Losses and measures of a reward model on pairs of answers. All tensors [N], one entry per pair.

The margin of a pair is r(chosen) − r(rejected). Bradley & Terry 1952: P(chosen is better) = σ(margin).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from learner.functional.checks import at_least, same_shape


def bradley_terry_loss(margin: Tensor, target: Tensor) -> Tensor:
    """−p log σ(margin) − (1 − p) log σ(−margin), in nats. [N], [N] -> [N]

    `target` is p, how surely the chosen answer is the better one: 1 where the judge had no doubt.

    Raises:
        ValueError: a target outside of 0 … 1.
    """
    same_shape(1, margin=margin, target=target)
    if bool(((target < 0) | (target > 1)).any()):
        raise ValueError(f"targets must be within 0 … 1, got {float(target.min())} … {float(target.max())}")
    return -target * logsigmoid(margin) - (1 - target) * logsigmoid(-margin)


def rightness(margin: Tensor) -> Tensor:
    """1 where the chosen answer has the higher value, ½ where both have the same, else 0. [N] -> [N] float64

    The mean is the accuracy.
    """
    same_shape(1, margin=margin)
    return (torch.sign(margin.double()) + 1) / 2


def clustered_error(right: Tensor, cluster: Tensor) -> float:
    """Standard error of the mean of `right`, where entries of one cluster are not independent:
    √(Σ_c (Σ_{i in c} (x_i − mean))²) / N. Pairs of one prompt are a cluster. [N], [N] int64

    Raises:
        ValueError: no entry.
    """
    same_shape(1, right=right, cluster=cluster)
    at_least(1, num_pairs=len(right))
    _, number = cluster.unique(return_inverse=True)
    deviation = right.double() - right.double().mean()
    sums = torch.zeros(int(number.max()) + 1, dtype=torch.float64).index_add_(0, number, deviation)
    return float(sums.square().sum().sqrt()) / len(right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Predictions of similar confidence."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of what was said."""
    accuracy: float
    """Share of what was right."""


def calibration(margin: Tensor, num_bins: int) -> list[Bin]:
    """What the model says of its choice, against how often the choice is right. Empty bins are left out.

    The confidence in a choice is σ(|margin|), between ½ and 1; bins have equal widths and hold their upper
    end.

    Raises:
        ValueError: fewer than 1 bin.
    """
    at_least(1, num_bins=num_bins)
    right = rightness(margin)
    confidence = margin.double().abs().sigmoid()
    number = ((confidence - 0.5) * 2 * num_bins).ceil().long().clamp(1, num_bins) - 1
    width = 0.5 / num_bins
    found = [(b, number == b) for b in range(num_bins) if bool((number == b).any())]
    return [
        Bin(
            low=0.5 + b * width,
            high=0.5 + (b + 1) * width,
            count=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for b, inside in found
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Σ_b n_b / N · |accuracy_b − confidence_b| (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599).

    Raises:
        ValueError: no bin.
    """
    at_least(1, num_bins=len(bins))
    total = sum(b.count for b in bins)
    return sum(b.count / total * abs(b.accuracy - b.confidence) for b in bins)


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's r; 0 where one of them does not vary. [N], [N]"""
    same_shape(1, x=x, y=y)
    dx, dy = (tensor.double() - tensor.double().mean() for tensor in (x, y))
    size = float(dx.norm() * dy.norm())
    return float(dx @ dy) / size if size > 0 else 0.0

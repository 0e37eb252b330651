"""What an update reports: sums over its parts, and measures of its batch. All numbers are plain floats."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from learner.algorithms.base import Term
from learner.batch import Batch
from learner.functional.advantages import group_sizes, is_constant_group
from learner.functional.aggregate import Count, masked_mean
from learner.functional.policy_loss import log_ratio
from learner.ranks import ALONE, Ranks
from rollout.types import NO_VERSION

_RATIO_BAND = (0.9, 1.1)


class Tally:
    """Adds up the terms of all parts of all steps; the mean over steps is the metric."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._num_steps: defaultdict[str, int] = defaultdict(int)

    def add(self, terms: Mapping[str, Term], counts: Mapping[Count, float], is_counted: bool = True) -> None:
        """The terms of one part of the batch of a step; what is not counted only makes its name known."""
        for name, term in terms.items():
            share = term.total.detach().float() / max(counts[term.per], 1.0)
            share = share if is_counted else torch.zeros_like(share)
            self._totals[name] = self._totals[name] + share if name in self._totals else share

    def end_step(self) -> None:
        for name in self._totals:
            self._num_steps[name] += 1

    def means(self, ranks: Ranks = ALONE) -> dict[str, float]:
        totals = ranks.summed(self._totals)
        return {name: float(total) / self._num_steps[name] for name, total in totals.items()}


def of_scores(batch: Batch) -> dict[str, float]:
    """Scores, lengths and groups as they came, whatever is masked or shaped afterwards."""
    num_tokens = batch.action_mask.sum(dim=1).double()
    is_constant = is_constant_group(batch.score, batch.group)
    sizes = group_sizes(batch.group)
    return {
        "score/mean": float(batch.score.mean()),
        "score/std": float(batch.score.std(correction=0)),
        "length/mean": float(num_tokens.mean()),
        "length/max": float(num_tokens.max()),
        "length/truncated_share": float(batch.is_truncated.double().mean()),
        "group/num_constant": float((is_constant / sizes).sum()),
        "group/num_singleton": float((sizes == 1).sum()),
    }


def of_lag(batch: Batch, version: int) -> dict[str, float]:
    """How many policy versions ago the tokens of this run were drawn: of a row, its oldest token."""
    lag = (version - batch.token_version).double()
    is_own = batch.token_version != NO_VERSION
    rows = is_own.any(dim=1)
    if not bool(rows.any()):
        return {}
    oldest = lag.masked_fill(~is_own, -torch.inf).amax(dim=1)[rows]
    newest = lag.masked_fill(~is_own, torch.inf).amin(dim=1)[rows]
    return {
        "lag/mean": float(oldest.mean()),
        "lag/max": float(oldest.max()),
        "lag/token_mean": float(masked_mean(lag, is_own)),
        "lag/several_share": float((oldest > newest).double().mean()),
    }


def of_mismatch(batch: Batch) -> dict[str, float]:
    """|log-prob of the sampler − log-prob of the learner| over action tokens, never as a mean alone, and the
    effective share of the samples after weighing them by their ratio. Needs the stream "logprob_prox".
    """
    delta = log_ratio(batch["logprob_prox"], batch.logprob_behaviour)[batch.action_mask].double()
    size, ratio = delta.abs(), delta.exp()
    low, high = _RATIO_BAND
    return {
        "mismatch/mean": float(size.mean()),
        "mismatch/p50": float(size.quantile(0.5)),
        "mismatch/p99": float(size.quantile(0.99)),
        "mismatch/max": float(size.max()),
        "mismatch/outside_share": float(((ratio < low) | (ratio > high)).double().mean()),
        "ess": float(ratio.sum() ** 2 / (ratio.square().sum() * len(ratio))),
    }


def of_advantages(batch: Batch) -> dict[str, float]:
    """Size of the advantages that are learned from, if the algorithm has any."""
    if "advantage" not in batch or not bool(batch.loss_mask.any()):
        return {}
    advantage = batch["advantage"][batch.loss_mask]
    return {"advantage/mean": float(advantage.mean()), "advantage/max": float(advantage.abs().max())}

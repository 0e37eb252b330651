"""What a reward model is worth: measured on pairs whose prompts it never saw, beside what length alone is.

Called by the training once, at the end. Pure: numbers in, a dict for report.json out.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from learner.functional.preference import (
    bradley_terry_loss,
    calibration,
    clustered_error,
    correlation,
    expected_calibration_error,
    rightness,
)
from learner.reward_model.data import PreferencePair

NUM_BINS = 10


def measure(
    pairs: Sequence[PreferencePair], chosen: Tensor, rejected: Tensor, train: Sequence[PreferencePair]
) -> dict[str, Any]:
    """The section `held_out` of a report.

    Args:
        pairs: held out.
        chosen: values of their chosen answers, [N].
        rejected: of the others, [N].
        train: what was trained on; the length rule is read off it.
    """
    margin = (chosen - rejected).double()
    right = rightness(margin)
    longer = length_margin(pairs)
    bins = calibration(margin, NUM_BINS)
    target = torch.tensor([p.target for p in pairs], dtype=torch.float64)
    return {
        "num_pairs": len(pairs),
        "num_prompts": len({p.prompt for p in pairs}),
        "accuracy": float(right.mean()),
        "accuracy_standard_error": clustered_error(right, _prompt_numbers(pairs)),
        "accuracy_of_length_alone": length_accuracy(train, pairs),
        "num_shorter_chosen": int((longer < 0).sum()),
        "accuracy_where_shorter_chosen": _mean_where(right, longer < 0),
        "accuracy_where_longer_chosen": _mean_where(right, longer > 0),
        "correlation_of_margin_with_length": correlation(margin, longer),
        "loss": float(bradley_terry_loss(margin, target).mean()),
        "expected_calibration_error": expected_calibration_error(bins),
        "calibration": [asdict(b) for b in bins],
    }


def values_of(chosen: Tensor, rejected: Tensor) -> dict[str, float]:
    """The section `values`: mean and standard deviation over all answers, each pair counting both of its."""
    values = torch.cat([chosen, rejected]).double()
    # A model that gives one value to everything is no measure; dividing by 1 leaves that visible.
    return {"mean": float(values.mean()), "std": float(values.std(correction=0)) or 1.0}


def length_margin(pairs: Sequence[PreferencePair]) -> Tensor:
    """log(characters of chosen / characters of rejected), [N] float64; positive: the longer was chosen."""
    return (
        torch.tensor([[len(p.chosen), len(p.rejected)] for p in pairs], dtype=torch.float64)
        .log()
        .diff(dim=1)[:, 0]
        .neg()
    )


def length_accuracy(train: Sequence[PreferencePair], pairs: Sequence[PreferencePair]) -> float:
    """Of the rule "the longer one", or "the shorter one" if that was right more often in training."""
    prefers_longer = float(rightness(length_margin(train)).mean()) >= 0.5
    accuracy = float(rightness(length_margin(pairs)).mean())
    return accuracy if prefers_longer else 1.0 - accuracy


def _mean_where(right: Tensor, where: Tensor) -> float | None:
    return float(right[where].mean()) if bool(where.any()) else None


def _prompt_numbers(pairs: Sequence[PreferencePair]) -> Tensor:
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(p.prompt for p in pairs))}
    return torch.tensor([numbers[p.prompt] for p in pairs])

"""The reward as a whole: f = Σ w_i(version) · clip(normalize(f_i)), one score per sample.

Called by the gateway with what all components said of a request. Holds what runs along: moments of components
and the noise of judges. It calls no component and knows no process. One thread at a time.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_service.fusion.arrays import group_index
from reward_service.fusion.checks import check_parts
from reward_service.fusion.config import FusionConfig, FusionPart
from reward_service.fusion.terms import Batch, EnsembleTerm, Outcome, PlainTerm, Readings, Term, mean
from reward_service.types import NOTHING, Sample, Score, Status

Verdicts = Mapping[str, Sequence[Score]]
"""What the components said of one sample, by label: one score per repeat. A label may be missing, as where
another component of its bundle failed."""


class Fusion:
    """Makes one score of many; failures stay failures."""

    def __init__(self, config: FusionConfig, parts: Sequence[FusionPart]) -> None:
        """Cheap; finds every mistake in the recipe that can be found without a score.

        Raises:
            UserError: see `check_parts`.
            ValueError: two parts with one label.
        """
        check_parts(config, parts)
        self._labels = tuple(part.label for part in parts)
        self._terms = terms_of(config, parts)
        self._term_of = {label: i for i, term in enumerate(self._terms) for label in term.labels}

    def fuse(self, samples: Sequence[Sample], verdicts: Sequence[Verdicts]) -> list[Score]:
        """One score per sample, in the same order; the order has no influence on them.

        A sample is ok only if every term is: a component with at least one repeat that succeeded, an ensemble
        with enough members. Else it has the status and message of the first part, in the order of the recipe,
        that failed in a term that is not.

        Raises:
            ValueError: not one verdict per sample.
        """
        if len(samples) != len(verdicts):
            raise ValueError(f"got {len(samples)} samples and {len(verdicts)} verdicts")
        order = sorted(range(len(samples)), key=lambda i: samples[i].id)
        readings = {label: [_said(verdicts[i].get(label, ())) for i in order] for label in self._labels}
        batch = Batch(
            group=group_index([samples[i].group for i in order]),
            content=[(samples[i].group, samples[i].prompt, samples[i].completion) for i in order],
        )
        with np.errstate(over="ignore", invalid="ignore"):
            outcomes = [term.judge(readings, batch) for term in self._terms]
        scores: list[Score] = [
            self._score(place, samples[i], verdicts[i], readings, outcomes) for place, i in enumerate(order)
        ]
        return [score for _, score in sorted(zip(order, scores, strict=True), key=lambda pair: pair[0])]

    def stats(self) -> dict[str, float]:
        """What running estimates believe, for metrics."""
        return {name: value for term in self._terms for name, value in term.stats().items()}

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {term.name: term.state_dict() for term in self._terms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state is of other components."""
        names = [term.name for term in self._terms]
        if sorted(state) != sorted(names):
            raise ValueError(f"the state is of {sorted(state)}, the reward has {sorted(names)}")
        for term in self._terms:
            term.load_state_dict(state[term.name])

    def _score(
        self,
        place: int,
        sample: Sample,
        verdicts: Verdicts,
        readings: Readings,
        outcomes: Sequence[Outcome],
    ) -> Score:
        """The score of one sample from its numbers in the outcomes."""
        parts = {label: mean(said[place]) for label, said in readings.items() if said[place]}
        status, message = self._failure(place, verdicts, outcomes)
        value = None
        if status is Status.OK:
            value = self._sum(place, sample.policy_version, outcomes)
            parts |= self._corrections(place, sample.policy_version, outcomes)
            if not math.isfinite(value):
                status, message, value = Status.ERROR, f"the weighted sum is {value}", None
        given = [score for label in self._labels for score in verdicts.get(label, ())]
        costly = [score.usage for score in given if score.usage is not NOTHING]
        return Score(
            id=sample.id,
            status=status,
            value=value,
            parts=parts,
            latency_s=sum(s.latency_s for s in given),
            usage=sum(costly, NOTHING),
            message=message,
        )

    def _sum(self, place: int, version: int, outcomes: Sequence[Outcome]) -> float:
        pairs = zip(self._terms, outcomes, strict=True)
        return sum(term.weight_at(version) * outcome.values[place] for term, outcome in pairs)

    def _corrections(self, place: int, version: int, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Everything that was done to the parts, by the name of what it is."""
        shown: dict[str, float] = {}
        for term, outcome in zip(self._terms, outcomes, strict=True):
            for name, values in outcome.corrections.items():
                if math.isfinite(values[place]):
                    shown[name] = values[place]
            shown |= term.shown_weight(version)
        return shown

    def _failure(self, place: int, verdicts: Verdicts, outcomes: Sequence[Outcome]) -> tuple[Status, str]:
        """The status of a sample, and of which part it is."""
        bad = [i for i, outcome in enumerate(outcomes) if math.isnan(outcome.values[place])]
        if not bad:
            return Status.OK, ""
        suspects = [label for label in self._labels if self._term_of[label] in bad]
        for label in suspects:
            failed = [score for score in verdicts.get(label, ()) if not score.is_ok]
            if failed:
                return failed[0].status, f"{label}: {failed[0].message}"
        silent = [label for label in suspects if not verdicts.get(label)]
        if silent:
            return Status.ERROR, f"{silent[0]}: it gave no score for the sample"
        return Status.ERROR, f"{self._terms[bad[0]].name}: its scores are too large to be computed with"


def terms_of(config: FusionConfig, parts: Sequence[FusionPart]) -> list[Term]:
    """The summands, in the order of the recipe; an ensemble stands where its first member does."""
    terms: dict[str, Term] = {}
    for part in parts:
        name = part.estimates
        if name is None:
            terms[part.label] = PlainTerm(part)
        elif name not in terms:
            members = [p for p in parts if p.estimates == name]
            terms[name] = EnsembleTerm(name, config.ensembles[name], members)
    return list(terms.values())


def _said(scores: Sequence[Score]) -> tuple[float, ...]:
    """The values of the repeats that succeeded."""
    return tuple(s.value for s in scores if s.value is not None)

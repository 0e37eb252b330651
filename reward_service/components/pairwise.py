"""A language model compares the completions of one prompt with each other, or with the reference."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from reward_service.judging.asking import Asking, AskingConfig, failed
from reward_service.judging.backend import Question, Reply
from reward_service.judging.bias import PositionBias
from reward_service.judging.contests import Contest, Outcome, Verdict, with_references, within_groups
from reward_service.judging.length import corrected, length_of, middle
from reward_service.judging.parsing import expected, left_share_in
from reward_service.judging.prompts import pairwise
from reward_service.reward import InvalidInput, Unparseable, reference_of
from reward_service.types import NOTHING, Sample, Score, Status, Usage

CUE = "The better answer is answer-"
LETTERS = ("A", "B")


class Pairwise(Asking):
    """The share of its comparisons that a completion wins, 0..1; every pair is shown in both orders.

    Unless `opponents` is reference, a score depends on the other samples of the group, which must arrive in
    one call.
    """

    name = "pairwise"

    class Config(AskingConfig):
        opponents: Literal["group", "reference"] = "group"
        """group: the other completions of the prompt. reference: the sample's own reference, so that a score
        stands by itself and a lone sample has one."""
        max_opponents: int = Field(4, ge=2)
        """In a larger group each completion is compared with this many others, chosen by their text; even.
        Questions per completion: as many, since each pair is asked in both orders."""
        has_tie: bool = True
        """With answer `line`: the judge may say that neither is better."""
        min_decided_share: float = Field(0.5, gt=0.0, le=1.0)
        """The least share of its comparisons that must have been decided for a completion to have a score."""

        @field_validator("max_opponents")
        @classmethod
        def _is_even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("must be even, so that all have equally many")
            return number

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._bias = PositionBias()
        # Of the instance: against its reference a sample is judged alone.
        self.is_comparative = config.opponents == "group"

    def start(self) -> None:
        super().start()
        if self.is_weighing:
            self.backend.check_options(CUE, LETTERS)

    def stats(self) -> dict[str, float]:
        return super().stats() | self._bias.report()

    def estimate(self, sample: Sample) -> Usage:
        """As if every opponent in a group were as long as the sample itself."""
        num_asked = self.config.max_opponents if self.is_comparative else 2
        try:
            question = self._asked(sample, sample.completion, self._opponent(sample))
        except InvalidInput:
            return NOTHING
        return sum((self.backend.estimate(question) for _ in range(num_asked)), NOTHING)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        fit, refused = self._sorted_out(samples)
        held = within_groups(fit, self.config.max_opponents) if self.is_comparative else with_references(fit)
        replies = iter(self._ask([q for contest in held for q in self._questions(contest)]))
        verdicts = refused
        for contest in held:
            outcomes = [self._outcome(next(replies), next(replies)) for _ in contest.pairs]
            verdicts |= dict(contest.verdicts(outcomes, self.config.min_decided_share))
        return [self._score(sample, verdicts[number]) for number, sample in enumerate(samples)]

    def _sorted_out(self, samples: Sequence[Sample]) -> tuple[list[tuple[int, Sample]], dict[int, Verdict]]:
        """The samples that can be judged, and the verdicts on the others, with their numbers in the call."""
        fit, refused = [], {}
        for number, sample in enumerate(samples):
            try:
                self._asked(sample, sample.completion, self._opponent(sample))
                fit.append((number, sample))
            except InvalidInput as error:
                refused[number] = Verdict(status=Status.INVALID_INPUT, message=str(error))
        return fit, refused

    def _opponent(self, sample: Sample) -> str:
        """The reference, or in a group the sample itself for want of knowing the others.

        Raises:
            InvalidInput: the sample is to be compared with its reference and has none.
        """
        return sample.completion if self.is_comparative else reference_of(sample)

    def _questions(self, contest: Contest) -> list[Question]:
        """Two for every pair: one in each order."""
        shown = [contest.texts(pair) for pair in contest.pairs]
        orders = [texts for left, right in shown for texts in ((left, right), (right, left))]
        return [self._asked(contest.sample, first, second) for first, second in orders]

    def _asked(self, sample: Sample, first: str, second: str) -> Question:
        texts = self._texts(sample, **{"answer-A": first, "answer-B": second})
        user = pairwise(
            texts,
            self.config.rubric,
            has_tie=self.config.has_tie and not self.is_weighing,
            is_reasoned=self.config.is_reasoned,
            is_bare=self.is_weighing,
        )
        question = self._question(user, sample.repeat)
        return replace(question, cue=CUE, options=LETTERS) if self.is_weighing else question

    def _outcome(self, there: Reply, back: Reply) -> Outcome:
        """Decided if it was in both orders: one alone would carry the bias of its order."""
        usages = (there.usage, back.usage)
        latency_s = max(there.latency_s, back.latency_s)
        try:
            shares = [self._first_share(reply) for reply in (there, back)]
        except _Undecided as lost:
            return Outcome(status=lost.status, message=str(lost), usages=usages, latency_s=latency_s)
        self._bias.add(*shares)
        return Outcome(left_share=(shares[0] + 1.0 - shares[1]) / 2.0, usages=usages, latency_s=latency_s)

    def _first_share(self, reply: Reply) -> float:
        """What goes to the answer that was shown first.

        Raises:
            _Undecided: the reply failed, or does not say.
        """
        if reply.status is not Status.OK:
            raise _Undecided(reply.status, reply.message)
        try:
            if self.is_weighing:
                return expected((1.0, 0.0), reply.shares, self.config.min_option_share)
            return left_share_in(reply.text, has_tie=self.config.has_tie)
        except Unparseable as error:
            raise _Undecided(Status.UNPARSEABLE, str(error)) from error

    def _score(self, sample: Sample, verdict: Verdict) -> Score:
        if verdict.share is None:
            return failed(sample, verdict.status, verdict.message, verdict.usage, verdict.latency_s)
        unit = self.config.length_unit
        pivot = middle([length_of(text, unit) for text in verdict.opponents])
        length = length_of(sample.completion, unit)
        value = corrected(verdict.share, length, slope=self.config.length_slope, pivot=pivot)
        return self._scored(sample, value, verdict.share, verdict.usage, verdict.latency_s)


class _Undecided(Exception):
    """A comparison without a winner."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status

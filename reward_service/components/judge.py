"""A language model scores each completion by a rubric, on its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from pydantic import Field, model_validator

from reward_service.judging.asking import Asking, AskingConfig, failed
from reward_service.judging.backend import Question, Reply
from reward_service.judging.length import corrected, length_of
from reward_service.judging.parsing import expected, score_in
from reward_service.judging.prompts import pointwise
from reward_service.reward import InvalidInput, Unparseable
from reward_service.types import NOTHING, Sample, Score, Status, Usage

CUE = "Score: "


class Judge(Asking):
    """The judge's score, moved from its scale to 0..1, less the declared price of length."""

    name = "judge"

    class Config(AskingConfig):
        scale: tuple[int, int] = (1, 10)
        """The worst and the best score that the judge may give. With answer `expected` on a local model each
        number must be one token: (1, 9) or less."""
        length_pivot: int | None = Field(None, ge=0)
        """The length up to which nothing is paid."""

        @model_validator(mode="after")
        def _scale_rises(self) -> Self:
            if self.scale[0] >= self.scale[1]:
                raise ValueError(f"scale must rise from worst to best, got {self.scale}")
            return self

        @model_validator(mode="after")
        def _slope_has_a_pivot(self) -> Self:
            if (self.length_slope > 0.0) != (self.length_pivot is not None):
                raise ValueError("length_slope and length_pivot belong together: set both or neither")
            return self

    config: Config

    def start(self) -> None:
        super().start()
        if self.is_weighing:
            self.backend.check_options(CUE, self._options)

    def estimate(self, sample: Sample) -> Usage:
        try:
            return self.backend.estimate(self._asked(sample))
        except InvalidInput:
            return NOTHING

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        questions: dict[int, Question] = {}
        refused: dict[int, str] = {}
        for number, sample in enumerate(samples):
            try:
                questions[number] = self._asked(sample)
            except InvalidInput as error:
                refused[number] = str(error)
        replies = dict(zip(questions, self._ask(list(questions.values())), strict=True))
        return [
            self._score(sample, replies[number])
            if number in replies
            else failed(sample, Status.INVALID_INPUT, refused[number])
            for number, sample in enumerate(samples)
        ]

    @property
    def _options(self) -> tuple[str, ...]:
        low, high = self.config.scale
        return tuple(str(score) for score in range(low, high + 1))

    def _asked(self, sample: Sample) -> Question:
        """
        Raises:
            InvalidInput: the sample cannot be judged.
        """
        texts = self._texts(sample, answer=sample.completion)
        user = pointwise(
            texts,
            self.config.rubric,
            self.config.scale,
            is_reasoned=self.config.is_reasoned,
            is_bare=self.is_weighing,
        )
        question = self._question(user, sample.repeat)
        return replace(question, cue=CUE, options=self._options) if self.is_weighing else question

    def _score(self, sample: Sample, reply: Reply) -> Score:
        if reply.status is not Status.OK:
            return failed(sample, reply.status, reply.message, reply.usage, reply.latency_s)
        try:
            raw = self._raw(reply)
        except Unparseable as error:
            return failed(sample, Status.UNPARSEABLE, str(error), reply.usage, reply.latency_s)
        length = length_of(sample.completion, self.config.length_unit)
        pivot = self.config.length_pivot or 0
        value = corrected(raw, length, slope=self.config.length_slope, pivot=pivot)
        return self._scored(sample, value, raw, reply.usage, reply.latency_s)

    def _raw(self, reply: Reply) -> float:
        """The judge's score in 0..1.

        Raises:
            Unparseable: the reply gives none.
        """
        low, high = self.config.scale
        if self.is_weighing:
            score = expected([float(o) for o in self._options], reply.shares, self.config.min_option_share)
        else:
            score = score_in(reply.text, self.config.scale)
        return (score - low) / (high - low)

"""What both judge components share: their settings, their backend, and the way from a reply to a score."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
from reward_service.judging.backend import Question, Reply, build_backend
from reward_service.judging.bias import Habits
from reward_service.judging.length import Unit, length_of
from reward_service.judging.prompts import SYSTEM
from reward_service.reward import InvalidInput, Reward, Unparseable, reference_of
from reward_service.types import NOTHING, Sample, Score, Status, Usage

DEFAULT_RUBRIC = "How correct, relevant and clear the answer is. Unneeded words make an answer worse."


class AskingConfig(Settings):
    """What a recipe may say of a judge, whatever it is asked."""

    backend: dict[str, Any]
    """`name:` and options of who judges: openai (any compatible endpoint), local (a model in the service),
    scripted, or an import path."""
    rubric: str = Field(DEFAULT_RUBRIC, min_length=1)
    """What makes an answer good, in words for the judge. The more concrete, the less it scatters."""
    system: str = SYSTEM
    """What the judge is told before anything else. Shorten it for a small local model: it takes time."""
    shows_reference: bool = False
    """The judge sees the reference; samples without one are invalid input then."""
    answer: Literal["line", "expected"] = "line"
    """line: a last line such as `Score: 7` is read. expected: the mean over the probabilities of all possible
    answers, finer and without parse errors, but without reasoning; an endpoint must give logprobs for it."""
    is_reasoned: bool = False
    """The judge thinks in words before the last line: better, slower, and dearer."""
    temperature: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """Above 0 for several independent judgements of one completion; 0 where one is enough."""
    max_new_tokens: int = Field(512, ge=1)
    """A reply that reaches it is unparseable: its last line could be half a number."""
    seed: int = 0
    """Of the judge's sampling, together with the sample's texts and the number of the judgement."""
    min_option_share: float = Field(0.1, ge=0.0, le=1.0)
    """With answer `expected`: the least probability that all options together must have."""
    deadline_s: float = Field(60.0, gt=0.0)
    """For all questions of one call; what has no reply by then is a timeout. At most the service's own."""
    length_slope: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """What a completion e times as long as the pivot pays; see docs/judges.md. 0: length costs nothing."""
    length_unit: Unit = "words"
    """What length counts, in the price and in the report."""


class Asking(Reward):
    """A component that asks a language model."""

    placement = "own"
    config: AskingConfig

    def __init__(self, config: AskingConfig) -> None:
        """
        Raises:
            UserError: no such backend, a wrong option of it, or reasons where only options are read.
        """
        super().__init__(config)
        if config.is_reasoned and config.answer == "expected":
            raise UserError(
                "is_reasoned is true, but answer `expected` reads the first word of the reply",
                remedy="set answer: line, or is_reasoned: false",
            )
        self.backend = build_backend(config.backend, "backend")
        # Of the instance: an endpoint takes many calls at once, a model would rather have them batched.
        self.is_concurrent = self.backend.is_concurrent  # type: ignore[misc]
        self._habits = Habits()

    def start(self) -> None:
        self.backend.start()

    def close(self) -> None:
        """Gives back what the backend holds."""
        self.backend.close()

    def stats(self) -> dict[str, float]:
        """The judge's habits so far."""
        return self._habits.report()

    def score_one(self, sample: Sample) -> float:
        (score,) = self.score([sample])
        if score.value is None:
            raise _ERRORS.get(score.status, RuntimeError)(score.message)
        return score.value

    @property
    def is_weighing(self) -> bool:
        """Whether probabilities of options are asked, and no text."""
        return self.config.answer == "expected"

    @property
    def is_repeatable(self) -> bool:
        """Whether a second judgement of a completion can differ from the first."""
        return self.config.temperature > 0.0 and not self.is_weighing

    def _ask(self, questions: Sequence[Question]) -> list[Reply]:
        return self.backend.ask(questions, time.monotonic() + self.config.deadline_s)

    def _question(self, user: str, repeat: int) -> Question:
        """`repeat` is the number of the judgement; it changes nothing but the seed."""
        digest = hashlib.sha256(user.encode()).hexdigest()
        return Question(
            system=self.config.system,
            user=user,
            max_new_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            seed=derive(self.config.seed, self.name, digest, repeat),
        )

    def _texts(self, sample: Sample, **answers: str) -> Mapping[str, str]:
        """What the judge is shown, by role.

        Raises:
            InvalidInput: the sample lacks a reference that the judge is to see, or asks for a second
                judgement that could only repeat the first.
        """
        if sample.repeat > 0 and not self.is_repeatable:
            raise InvalidInput(
                "a second judgement would only repeat the first; set temperature above 0 and answer to line"
            )
        reference = {"reference": reference_of(sample)} if self.config.shows_reference else {}
        return {"task": sample.prompt, **reference, **answers}

    def _scored(self, sample: Sample, value: float, raw: float, usage: Usage, latency_s: float) -> Score:
        parts = {"raw": raw} if self.config.length_slope > 0.0 else {}
        self._habits.add(length_of(sample.completion, self.config.length_unit), raw)
        return Score(
            id=sample.id, status=Status.OK, value=value, parts=parts, usage=usage, latency_s=latency_s
        )


def failed(
    sample: Sample, status: Status, message: str, usage: Usage = NOTHING, latency_s: float = 0.0
) -> Score:
    """A score that is none, with what it cost all the same."""
    return Score(id=sample.id, status=status, message=message, usage=usage, latency_s=latency_s)


_ERRORS: Mapping[Status, type[Exception]] = {
    Status.INVALID_INPUT: InvalidInput,
    Status.UNPARSEABLE: Unparseable,
    Status.TIMEOUT: TimeoutError,
}

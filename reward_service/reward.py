"""What judges a completion: the base of all reward components.

The rubric calls `score`; a component writes `score_one`. A whole component is this file:

    class Polite(Reward):
        name = "polite"

        class Config(Settings):
            word: str = "please"

        config: Config

        def score_one(self, sample: Sample) -> float:
            return float(self.config.word in sample.completion)

A component knows nothing of weights, other components, processes or policies. One instance is called
from one thread at a time unless it says `is_concurrent`.
"""

import math
import numbers
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from antiphon.settings import Settings
from reward_service.types import NOTHING, Sample, Score, Status, Usage

Placement = Literal["cpu", "isolated", "own"]
"""Where a component runs in the service.

cpu        in the replicas for CPU components: quick, and all code in it is trusted
isolated   in child processes of those replicas, killed at a deadline: it runs code or patterns of others
own        in a deployment of its own: it holds a model, or waits for a judge
"""


class InvalidInput(Exception):
    """Raised by a component for a sample that it can never score; never retried."""


class Unparseable(Exception):
    """Raised by a component whose judge answered something that is no score; retried."""


class Reward(ABC):
    """Scores completions, one at a time unless `score` is overridden."""

    name: ClassVar[str]
    """How a recipe asks for it."""
    version: ClassVar[int] = 1
    """Raised whenever the same sample would get another score than before."""
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """No option makes a score leave it; infinite ends where there is no bound."""
    placement: ClassVar[Placement] = "cpu"
    """Where the service runs it."""
    is_concurrent: ClassVar[bool] = False
    """Several threads may be in `score` at once. For components that wait more than they compute."""
    is_comparative: bool = False
    """The score of a sample depends on the others of its group, which are always scored together. Where that
    follows from the options, the constructor sets it."""
    waits_for_people: ClassVar[bool] = False
    """A missing score is no fault: it is neither tried again nor held against the component, and scores may
    change while nothing else does."""

    class Config(Settings):
        """A component without options."""

    def __init__(self, config: Settings) -> None:
        """Cheap: it runs once where the recipe is checked and once in every replica."""
        self.config = config

    @property
    def is_repeatable(self) -> bool:
        """Whether a second judgement of the same completion may differ from the first."""
        return True

    def start(self) -> None:  # noqa: B027  most components have nothing to load
        """Load what is heavy. Called once, before the first score, and never where a recipe is only checked.

        Raises:
            UserError: what it needs is not there.
        """

    def estimate(self, sample: Sample) -> Usage:
        """What scoring the sample will cost at most; asked before a budget lets it through."""
        return NOTHING

    def stats(self) -> dict[str, float]:
        """What the component counts of itself, for the metrics of the service; counters end in `_total`."""
        return {}

    @abstractmethod
    def score_one(self, sample: Sample) -> float:
        """The score of one sample.

        Raises:
            InvalidInput: the sample lacks what the component needs.
            Unparseable: a judge gave no score.
            TimeoutError: something that the component waits for did not answer.
            Exception: anything else counts as an error of the component.
        """

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in the same order. Override it to judge a whole batch at once.

        A sample that cannot be scored gets a status; its neighbours are not touched.
        """
        return [self._contained(sample) for sample in samples]

    def _contained(self, sample: Sample) -> Score:
        """`score_one` with its failures turned into statuses."""
        start = time.perf_counter()
        value, status, message = None, Status.OK, ""
        try:
            value = finite_number(self.score_one(sample))
        except InvalidInput as error:
            status, message = Status.INVALID_INPUT, str(error)
        except Unparseable as error:
            status, message = Status.UNPARSEABLE, str(error)
        except TimeoutError as error:
            status, message = Status.TIMEOUT, in_one_line(error)
        except Exception as error:  # Reward code and the completions it reads are untrusted.
            status, message = Status.ERROR, in_one_line(error)
        latency_s = time.perf_counter() - start
        return Score(id=sample.id, status=status, value=value, latency_s=latency_s, message=message)


def reference_of(sample: Sample) -> str:
    """The reference of a sample, for components that cannot do without.

    Raises:
        InvalidInput: the sample has none.
    """
    if sample.reference is None:
        raise InvalidInput("needs a reference, the sample has none")
    return sample.reference


def finite_number(value: object) -> float:
    """What a component returned, as a float.

    Raises:
        TypeError: it is no number (None and strings among others).
        ValueError: it is not finite.
    """
    if not isinstance(value, numbers.Real):
        raise TypeError(f"a score must be a number, got {value!r} of type {type(value).__name__}")
    score = float(value)
    if not math.isfinite(score):
        raise ValueError(f"a score must be finite, got {score}")
    return score


def in_one_line(error: BaseException) -> str:
    """The error and the line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"

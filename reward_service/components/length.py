"""Is the completion as long as it should be?"""

from typing import Literal, Self

from pydantic import Field, model_validator

from antiphon.settings import Settings
from reward_service.reward import InvalidInput, Reward
from reward_service.types import Sample


class Length(Reward):
    """1 at the wanted length, less by `penalty` for each unit away from it, never below 0."""

    name = "length"

    class Config(Settings):
        target: int | None = Field(None, ge=0)
        """Being shorter or longer than this costs."""
        max: int | None = Field(None, ge=0)
        """Only being longer than this costs."""
        unit: Literal["tokens", "words", "characters"] = "words"
        """What is counted; words are what white space separates."""
        penalty: float = Field(0.1, gt=0.0, allow_inf_nan=False)
        """What each unit too many (or too few) costs."""

        @model_validator(mode="after")
        def _one_rule(self) -> Self:
            if (self.target is None) == (self.max is None):
                raise ValueError("set either target or max")
            return self

    config: Config

    def score_one(self, sample: Sample) -> float:
        return max(0.0, 1.0 - self.config.penalty * self._excess(self._count(sample)))

    def _count(self, sample: Sample) -> int:
        if self.config.unit == "words":
            return len(sample.completion.split())
        if self.config.unit == "characters":
            return len(sample.completion)
        if sample.num_tokens == 0:
            raise InvalidInput("the sample does not say how many tokens its completion has")
        return sample.num_tokens

    def _excess(self, count: int) -> int:
        if self.config.max is not None:
            return max(0, count - self.config.max)
        return abs(count - (self.config.target or 0))

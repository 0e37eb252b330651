"""Does the completion have the wanted form?"""

import re

from pydantic import field_validator

from antiphon.settings import Settings
from reward_service.reward import Reward
from reward_service.types import Sample


class Regex(Reward):
    """1 where the pattern is found in the completion, else 0."""

    name = "regex"
    # A pattern such as (a+)+$ takes time exponential in what the policy writes.
    placement = "isolated"

    class Config(Settings):
        pattern: str
        """Python syntax; flags inline, as in (?i) for any case and (?s) for dots that match newlines."""
        full_match: bool = False
        """The pattern must cover the whole completion; else it may be found anywhere in it."""

        @field_validator("pattern")
        @classmethod
        def _compiles(cls, pattern: str) -> str:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from None
            return pattern

    config: Config

    def score_one(self, sample: Sample) -> float:
        match = re.fullmatch if self.config.full_match else re.search
        return float(match(self.config.pattern, sample.completion) is not None)

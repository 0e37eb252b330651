"""The built-in task: sort a short string of digits. `sort 5821=` is to be answered by `1258`.

It needs no data, has one right answer, and is learned in minutes: for the quickstart and for tests.
"""

import random
from typing import ClassVar

from pydantic import Field

from antiphon.seeds import derive
from antiphon.settings import Settings
from rollout.prompts import Example, PromptSource, Split, split_off


class SortDigits(PromptSource):
    """Random strings of digits, none of them twice."""

    name: ClassVar[str] = "sort_digits"

    class Config(Settings):
        num_digits: int = Field(4, ge=1, le=18)
        """Length of the strings; each more makes the task markedly harder."""
        num_train: int = Field(8192, ge=1)
        """Prompts to train on; fewer where there are not so many strings of this length."""
        num_held_out: int = Field(256, ge=1)
        """Prompts to measure on, never trained on."""
        seed: int = 0
        """Which strings, and which of them are held out. Not the seed of the run: runs stay comparable."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def examples(self) -> Split:
        config = self.config
        num_strings = 10**config.num_digits
        num_wanted = min(config.num_train + config.num_held_out, num_strings)
        draw = random.Random(derive(config.seed, "sort_digits", config.num_digits))
        numbers = draw.sample(range(num_strings), num_wanted)
        strings = [f"{number:0{config.num_digits}d}" for number in numbers]
        return split_off([example(s) for s in strings], config.num_held_out, config.seed, "sort_digits")


def example(digits: str) -> Example:
    """The task for one string of digits."""
    return Example(id=f"sort/{digits}", content=f"sort {digits}=", reference="".join(sorted(digits)))

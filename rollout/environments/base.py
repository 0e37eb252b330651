"""What an environment is: whoever answers the policy, and says when a dialogue is over.

    state = environment.start(prompt, seed)
    step = environment.step(state, "crane", is_cut=False)     # then again, from step.state

An environment is a machine whose whole state is a value that it hands out: it keeps nothing between calls, so
that any number of dialogues run side by side and each of them can be played again. It knows text, and neither
tokens, engines, rewards nor groups. Called by the player (rollout/player.py).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from antiphon.settings import Settings
from rollout.types import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an action led to.

    Raises:
        ValueError: the dialogue is done, and something is said.
    """

    state: Any
    observation: str | None
    """What the environment says; the policy goes on behind it. None: nothing more, the dialogue is over."""
    is_done: bool = False
    """It is over because it came to its end, so that its finish reason is "stop" and not "length"."""

    def __post_init__(self) -> None:
        if self.is_done and self.observation is not None:
            raise ValueError(f"a dialogue that is done is not answered, got {self.observation!r}")


class Environment(ABC):
    """A plug-in that answers actions. What it does depends on its settings and its arguments alone."""

    name: ClassVar[str]

    class Config(Settings):
        """The options of the environment in the recipe."""

    def __init__(self, config: Config) -> None:
        """Cheap: it runs once where the recipe is checked and once in every actor.

        Raises:
            UserError: what it needs is not there.
        """
        self.config = config

    @property
    @abstractmethod
    def max_turns(self) -> int:
        """Actions of one dialogue, at most: it is cut before another."""

    @abstractmethod
    def max_tokens(self, max_new_tokens: int) -> int:
        """Tokens behind the prompt, at most, actions and observations together: the dialogue is cut there.

        Args:
            max_new_tokens: of one action.
        """

    @abstractmethod
    def start(self, prompt: Prompt, seed: int) -> Any:
        """The state before the first action.

        Args:
            seed: whatever is drawn in this dialogue derives from it.

        Raises:
            UserError: the prompt lacks what the environment needs.
        """

    @abstractmethod
    def step(self, state: Any, action: str, is_cut: bool) -> Step:
        """What follows this action in this state, which stays as it is.

        Args:
            action: the text of what the policy drew, special tokens left out; of the first action, behind the
                words that the prompt began it with.
            is_cut: it ended by length and not by a stop token.
        """

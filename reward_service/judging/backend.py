"""What a judge can be asked, what it replies, and the base of all that can be asked.

Called by the judge components. A backend moves text; it knows nothing of rubrics, scales and samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from antiphon.errors import UserError, suggestion
from antiphon.plugins import built_in, configure
from antiphon.settings import Settings
from reward_service.types import NOTHING, Status, Usage

BACKENDS = "reward_service.judging.backends"
"""Its modules hold the built-in backends."""
ELSEWHERE = {"local": "rollout.judging:LocalBackend"}
"""Built-in backends of higher layers, by import path: nothing here may import what they need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One judgement asked of a language model."""

    system: str
    user: str
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    """63 bits. The same question with the same seed gets the same reply, where the backend can promise it."""
    options: tuple[str, ...] = ()
    """If there are any, no text is wanted but the probability of each of these as the reply."""
    cue: str = ""
    """What stands right before the option; a backend that cannot begin the reply itself leaves it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. A reply that is not ok has neither text nor shares."""

    status: Status = Status.OK
    text: str = ""
    shares: tuple[float, ...] = ()
    """The probability of each option; they sum to at most 1, the rest went to other words."""
    message: str = ""
    usage: Usage = NOTHING
    latency_s: float = 0.0


class Backend(ABC):
    """Answers questions."""

    name: ClassVar[str]
    """How a recipe asks for it."""
    is_concurrent: ClassVar[bool] = False
    """Several threads may be in `ask` at once."""

    class Config(Settings):
        """A backend without options."""

    def __init__(self, config: Settings) -> None:
        """Cheap: it also runs where a recipe is only checked."""
        self.config = config

    def start(self) -> None:  # noqa: B027  a script has nothing to load
        """Loads or connects what is needed. Called once, before the first question.

        Raises:
            UserError: it is not there.
        """

    def close(self) -> None:  # noqa: B027
        """Gives back what `start` took."""

    def check_options(self, cue: str, options: Sequence[str]) -> None:  # noqa: B027
        """Called after `start` where options will be asked.

        Raises:
            UserError: the backend cannot tell these options apart.
        """

    @abstractmethod
    def ask(self, questions: Sequence[Question], deadline: float) -> list[Reply]:
        """One reply per question, in the same order; a question that fails does not touch its neighbours.

        Args:
            deadline: on the monotonic clock; what has no reply by then is a timeout.
        """

    def estimate(self, question: Question) -> Usage:
        """What a question costs at most: no tokenizer makes more tokens than a text has bytes."""
        num_bytes = len(question.system.encode()) + len(question.user.encode())
        return Usage(num_requests=1, num_tokens=num_bytes + question.max_new_tokens)


def build_backend(section: Mapping[str, Any], where: str) -> Backend:
    """The backend that a section of a recipe names; nothing is loaded yet.

    Raises:
        UserError: no such backend, or a wrong option.
    """
    name = section.get("name")
    known = {*built_in(Backend, BACKENDS), *ELSEWHERE}
    if isinstance(name, str) and ":" not in name and name not in known:
        raise UserError(f"there is no judge backend called {name!r}", remedy=suggestion(name, known))
    found = {**section, "name": ELSEWHERE[name]} if name in ELSEWHERE else section
    plugin, config = configure(Backend, BACKENDS, found, where)
    backend: Backend = plugin(config)
    return backend

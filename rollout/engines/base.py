"""What an engine is: token ids in, token ids and log-probabilities out.

Called by the rollout worker; an engine knows nothing of text, rewards, groups or Ray. The base keeps what is
the same for all (admission, tickets, weights and their version); a file per engine says how tokens are drawn.

    engine.load(weights)
    completions = engine.generate(requests)           # all of them, in order
    ticket = engine.submit(request); engine.step()    # or one decode step at a time
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

from transformers import PreTrainedModel

from antiphon.errors import UserError
from antiphon.settings import Settings
from rollout.in_flight import Turnstile
from rollout.q_function import QFunction
from rollout.types import NO_VERSION, Completion, Request, Sampling
from rollout.weights import Weights, apply, together


class Engine(ABC):
    """Draws completions from the policy.

    What a completion is depends on its request and the weights alone: not on its neighbours, their order, the
    slots they lie in, or what was generated before.
    """

    name: ClassVar[str]
    can_play_q: ClassVar[bool] = False
    """Whether `sampling.beta` is heeded once there is a guide."""
    can_update_in_flight: ClassVar[bool] = False
    """Whether `load` may be called from another thread while `generate` is at work, and every token keeps the
    version that drew it."""

    class Config(Settings):
        """The options of the engine in the recipe."""

    def __init__(self, config: Config, model: PreTrainedModel | None, eos_token_ids: tuple[int, ...]) -> None:
        """
        Args:
            model: what `load` writes into and completions are drawn from; None for an engine without one.
            eos_token_ids: end a completion whose sampling names no stop tokens of its own.
        """
        self.config = config
        self.model = model
        self.eos_token_ids = eos_token_ids
        self.guide: QFunction | None = None
        """The Q function that is played beside the model; None: the model alone."""
        self._policy_version = NO_VERSION
        self._tickets = count()
        self._turnstile = Turnstile()

    @property
    def policy_version(self) -> int:
        """The version of the weights in use, -1 before there are any. Setting it declares the model's own
        weights to be that version, and forgets what was computed from others."""
        return self._policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        if version < 0:
            raise ValueError(f"a policy version must be >= 0, got {version}")
        self._policy_version = version
        self.forget()

    @property
    def arithmetic(self) -> str:
        """Who computes, and on what, in words: engines that say the same round the same."""
        return self.name

    @property
    def max_context(self) -> int | None:
        """The most tokens that prompt and completion may have together; None where there is no bound."""
        return getattr(self.model.config, "max_position_embeddings", None) if self.model is not None else None

    @classmethod  # noqa: B027  not every engine has something to refuse
    def check(cls, sampling: Sampling) -> None:
        """What can be known before a run: whether all that the engine needs is there, and it can draw so.

        Raises:
            UserError: something is not installed, or cannot be drawn.
        """

    @classmethod
    def needs(cls) -> dict[str, str]:
        """What the engine needs beside the model, for people; by default nothing."""
        return {}

    def follow(self, guide: QFunction) -> None:
        """Takes a Q function to play: from now on `load` wants its tensors too. It goes before any weights.

        Raises:
            UserError: this engine plays models alone.
            ValueError: there are weights already, or there is no model.
        """
        if not self.can_play_q:
            raise UserError(
                f"the {self.name} engine cannot play a Q function",
                remedy="set rollout.engine.name to torch, or use an algorithm that plays the model alone",
            )
        if self.policy_version != NO_VERSION or self.model is None:
            raise ValueError("a guide belongs to an engine with a model, before its first weights")
        self.guide = guide.eval()

    def load(self, weights: Weights) -> str:
        """Takes new weights, also while completions are under way: their next token comes from the new ones.

        Where `can_update_in_flight`, also from another thread than that of `generate`: between two steps.

        Returns:
            The digest of the weights, computed from the engine's own tensors.

        Raises:
            WeightsError: they do not fit; weights and version are as they were.
        """
        model = self.model
        with self._turnstile.visit():
            echoed = weights.digest if model is None else apply(weights, together(model, self.guide))
            self.policy_version = weights.version
        return echoed

    def submit(self, request: Request) -> int:
        """Queues a request.

        Returns:
            The ticket under which `step` will hand out its completion.

        Raises:
            UserError: prompt and completion may not fit into the model's context.
            ValueError: the prompt is empty, or the engine has no weights yet.
        """
        if self.policy_version == NO_VERSION:
            raise ValueError(
                "the engine has no weights: load some, or set policy_version for the model's own"
            )
        if not request.token_ids:
            raise ValueError("a prompt must have at least one token")
        self._check_context(len(request.token_ids), request.sampling.max_new_tokens)
        ticket = next(self._tickets)
        self._enqueue(ticket, request)
        return ticket

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """All completions, in the order of the requests. Nothing else may be under way.

        An error, or an interruption, leaves the engine empty and usable.
        """
        if self.has_work:
            raise ValueError("generate needs an idle engine: collect with step first, or call clear")
        done: dict[int, Completion] = {}
        try:
            tickets = [self.submit(request) for request in requests]
            while self.has_work:
                with self._turnstile.turn():
                    done.update(self.step())
        finally:
            self.clear()
        return [done[ticket] for ticket in tickets]

    def stop_token_ids(self, request: Request) -> tuple[int, ...]:
        """The tokens that end this completion."""
        return request.sampling.stop_token_ids or self.eos_token_ids

    @property
    @abstractmethod
    def has_work(self) -> bool:
        """Whether a submitted request has not been handed out yet."""

    @abstractmethod
    def step(self) -> list[tuple[int, Completion]]:
        """Draws one token for every running completion.

        Returns:
            (ticket, completion) of those that ended with it.
        """

    @abstractmethod
    def clear(self) -> None:
        """Drops all that is queued or under way."""

    @abstractmethod
    def forget(self) -> None:
        """Drops all that was computed from earlier weights (caches), and nothing else."""

    @abstractmethod
    def _enqueue(self, ticket: int, request: Request) -> None:
        """Keeps a request that was found to be in order."""

    def _check_context(self, num_prompt: int, max_new_tokens: int) -> None:
        needed = num_prompt + max_new_tokens
        if self.max_context is not None and needed > self.max_context:
            raise UserError(
                f"a prompt of {num_prompt} tokens and max_new_tokens {max_new_tokens} need {needed} "
                f"positions, but the context of the model is {self.max_context}",
                remedy="shorten the prompts, lower max_new_tokens, or take a model with a longer context",
            )

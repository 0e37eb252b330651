"""An engine that plays what it was given: for tests, and for trying a recipe without a model.

It keeps the whole contract of an engine (one token a step, versions, stop tokens): whatever works with it
works with the others.
"""

from typing import Self

from pydantic import Field, model_validator
from transformers import PreTrainedModel

from antiphon.settings import Settings
from rollout.engines.base import Engine
from rollout.types import Completion, Request, several


class Line(Settings):
    """One thing to say.

    Example:
        >>> Line(prompt=(5, 8), token_ids=(8, 5, 2), logprobs=(-0.1, -0.2, -0.3))
    """

    prompt: tuple[int, ...] | None = None
    """The prompt that it answers; None answers any."""
    token_ids: tuple[int, ...] = Field(min_length=1)
    """Played until its end, a stop token or max_new_tokens, whichever comes first."""
    logprobs: tuple[float, ...] = ()
    """One per token; empty: every token was certain (0.0)."""

    @model_validator(mode="after")
    def _one_logprob_per_token(self) -> Self:
        if self.logprobs and len(self.logprobs) != len(self.token_ids):
            raise ValueError(
                f"{len(self.token_ids)} token_ids need as many logprobs, got {len(self.logprobs)}"
            )
        return self


class _Playing:
    """A line under way."""

    def __init__(self, ticket: int, line: Line, num_tokens: int, has_stop: bool) -> None:
        self.ticket = ticket
        self.line = line
        self.num_tokens = num_tokens
        self.has_stop = has_stop
        self.num_played = 0
        self.policy_versions: list[int] = []

    def completion(self) -> Completion:
        logprobs = self.line.logprobs or (0.0,) * len(self.line.token_ids)
        return Completion(
            token_ids=self.line.token_ids[: self.num_tokens],
            logprobs=logprobs[: self.num_tokens],
            finish_reason="stop" if self.has_stop else "length",
            policy_version_min=min(self.policy_versions),
            policy_version_max=max(self.policy_versions),
            policy_versions=several(self.policy_versions),
        )


class ScriptedEngine(Engine):
    """Answers each prompt with one of its lines, chosen by the request's seed (modulo their number)."""

    name = "scripted"
    can_play_q = True  # Whatever guides it, it says its lines.
    can_update_in_flight = True

    class Config(Engine.Config):
        lines: tuple[Line, ...] = Field(min_length=1)
        """What may be said; those without a prompt of their own answer only prompts that have no line."""

    def __init__(self, config: Config, model: PreTrainedModel | None, eos_token_ids: tuple[int, ...]) -> None:
        super().__init__(config, model, eos_token_ids)
        self._lines = config.lines
        self._playing: list[_Playing] = []

    @property
    def has_work(self) -> bool:
        return bool(self._playing)

    def step(self) -> list[tuple[int, Completion]]:
        for playing in self._playing:
            playing.num_played += 1
            playing.policy_versions.append(self.policy_version)
        ended = [p for p in self._playing if p.num_played == p.num_tokens]
        self._playing = [p for p in self._playing if p.num_played < p.num_tokens]
        return [(playing.ticket, playing.completion()) for playing in ended]

    def clear(self) -> None:
        self._playing = []

    def forget(self) -> None:
        """Nothing is computed from weights here."""

    def _enqueue(self, ticket: int, request: Request) -> None:
        line = self._line(request)
        stops = self.stop_token_ids(request)
        allowed = line.token_ids[: request.sampling.max_new_tokens]
        ends = [place for place, token in enumerate(allowed) if token in stops]
        num_tokens = ends[0] + 1 if ends else len(allowed)
        self._playing.append(_Playing(ticket, line, num_tokens, bool(ends)))

    def _line(self, request: Request) -> Line:
        """
        Raises:
            ValueError: no line answers this prompt.
        """
        own = [line for line in self._lines if line.prompt == request.token_ids]
        lines = own or [line for line in self._lines if line.prompt is None]
        if not lines:
            raise ValueError(f"the script has no line for the prompt {request.token_ids}")
        return lines[request.seed % len(lines)]

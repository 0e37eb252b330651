"""Plays the dialogues of a task: the policy speaks, the environment answers, until all are over.

    Task --> engine --> Completion --> environment --> observation --> engine --> ... --> trajectories

In each round the engine is asked once, for the next action of every dialogue that goes on. Tokens are the
truth: what was drawn stays as it was drawn, and only what the environment says is ever encoded. Called by the
rollout worker; knows neither rewards nor groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from antiphon.seeds import derive
from rollout import environment as stages
from rollout.engines.base import Engine
from rollout.environments.base import Environment
from rollout.types import Completion, FinishReason, Request, Task, Trajectory, Turn


class Text(Protocol):
    """Between tokens and words; rollout/encoding.py has the one in use."""

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def observation_ids(self, observation: str, last: int) -> tuple[int, ...]: ...


@dataclass(slots=True, kw_only=True)
class Dialogue:
    """One sample under way."""

    turn: Turn
    number: int
    state: Any
    token_ids: tuple[int, ...]
    """All so far, the prompt first."""
    completions: list[Completion] = field(default_factory=list)
    observations: list[tuple[int, ...]] = field(default_factory=list)
    """One behind each completion but the last."""
    finish_reason: FinishReason | None = None
    """None while it goes on."""


class Player:
    """An engine, an environment, and the words between them."""

    def __init__(self, engine: Engine, environment: Environment, text: Text) -> None:
        self.engine = engine
        self._environment = environment
        self._text = text

    def play(self, task: Task) -> list[tuple[Turn, list[Trajectory]]]:
        """The trajectories of each prompt, in the order of the task."""
        dialogues = [self._start(task, turn, n) for turn in task.turns for n in range(task.num_samples)]
        running = dialogues
        while running:
            completions = self.engine.generate([self._request(task, dialogue) for dialogue in running])
            for dialogue, completion in zip(running, completions, strict=True):
                self._take(dialogue, completion, task.sampling.max_new_tokens)
            running = [dialogue for dialogue in running if dialogue.finish_reason is None]
        played = iter([self._trajectory(dialogue) for dialogue in dialogues])
        return [(turn, list(islice(played, task.num_samples))) for turn in task.turns]

    def _start(self, task: Task, turn: Turn, number: int) -> Dialogue:
        seed = derive(task.seed, "environment", turn.epoch, turn.index, number)
        state = self._environment.start(turn.prompt, seed)
        return Dialogue(turn=turn, number=number, state=state, token_ids=turn.prompt.token_ids)

    def _request(self, task: Task, dialogue: Dialogue) -> Request:
        room = self._room(dialogue, task.sampling.max_new_tokens)
        return stages.request(
            task,
            dialogue.turn,
            dialogue.number,
            round_number=len(dialogue.completions),
            token_ids=dialogue.token_ids,
            max_new_tokens=min(room, task.sampling.max_new_tokens),
        )

    def _room(self, dialogue: Dialogue, max_new_tokens: int) -> int:
        """Tokens that may still follow."""
        num_said = len(dialogue.token_ids) - len(dialogue.turn.prompt.token_ids)
        return self._environment.max_tokens(max_new_tokens) - num_said

    def _take(self, dialogue: Dialogue, completion: Completion, max_new_tokens: int) -> None:
        """An action, and what it leads to."""
        opening = "" if dialogue.completions else dialogue.turn.prompt.prefill
        dialogue.completions.append(completion)
        dialogue.token_ids += completion.token_ids
        action = opening + self._text.decode(completion.token_ids)
        step = self._environment.step(dialogue.state, action, completion.finish_reason == "length")
        dialogue.state = step.state
        if step.observation is None:
            dialogue.finish_reason = "stop" if step.is_done else "length"
            return
        observed = self._text.observation_ids(step.observation, completion.token_ids[-1])
        has_turns = len(dialogue.completions) < self._environment.max_turns
        # An observation that leaves no room for an action is not said: a trajectory ends with an action.
        if not has_turns or len(observed) >= self._room(dialogue, max_new_tokens):
            dialogue.finish_reason = "length"
            return
        dialogue.observations.append(observed)
        dialogue.token_ids += observed

    def _trajectory(self, dialogue: Dialogue) -> Trajectory:
        assert dialogue.finish_reason is not None
        return stages.dialogue(
            dialogue.turn.prompt,
            dialogue.completions,
            dialogue.observations,
            dialogue.finish_reason,
            self._text.decode,
        )

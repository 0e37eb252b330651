"""A Q table as a model of choices, and the support desk of recipes/make_dialogue_acts.py in every state."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from learner.choice.model import ChoiceModel
from learner.choice.replay import ReplayConfig
from learner.choice.sources import FrozenVectors, Source
from learner.choice.table import ChoiceTable, Texts, TransitionTable
from learner.choice.trainer import ChoiceTrainer, ChoiceTrainingConfig, QLearningConfig
from learner.choice.transitions import Choice, Transition
from learner.optimizer import OptimizerConfig

RECIPES = Path(__file__).parents[2] / "recipes"


def script(name: str) -> ModuleType:
    """A script of recipes/ as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class TableNetwork(nn.Module):
    """Q(s, a) is an entry of a table, for vectors that are one-hot: every value can be exact."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(size, size))

    def forward(self, states: Tensor, actions: Tensor, generator: Any = None) -> Tensor:
        return torch.einsum("bh,hk,bak->ba", states, self.table, actions)


def table_model(num_texts: int, source: Source | None = None) -> ChoiceModel:
    network: Any = TableNetwork(num_texts)
    return ChoiceModel(source or FrozenVectors(torch.eye(num_texts)), network)


class RecordingSource(FrozenVectors):
    """Remembers which texts were read."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__(vectors)
        self.read: set[int] = set()

    def forward(self, numbers: Tensor) -> Tensor:
        self.read |= set(numbers.tolist())
        return super().forward(numbers)


def step(
    state: str, action: str, reward: float, next_state: str = "", *next_actions: str, **changes: Any
) -> Transition:
    """A transition of which only the taken action is known; done where no next state is given."""
    fields = {
        "state": state,
        "actions": (action,),
        "taken": 0,
        "reward": reward,
        "next_state": next_state,
        "next_actions": next_actions,
        "is_done": not next_state,
    }
    return Transition(**{**fields, **changes})


def trainer_of(
    transitions: list[Transition],
    texts: Texts,
    model: ChoiceModel | None = None,
    *,
    num_updates: int = 1000,
    lr: float = 0.05,
    training: dict[str, Any] | None = None,
    replay: ReplayConfig | None = None,
    **learning: Any,
) -> ChoiceTrainer:
    """A trainer of a table, or of the given model, with plain settings."""
    table = TransitionTable.of(transitions, texts)
    optimizer = OptimizerConfig(head_lr=lr, schedule="linear", max_grad_norm=100.0, betas=(0.9, 0.99))
    return ChoiceTrainer(
        model or table_model(len(texts)),
        table,
        learning=QLearningConfig(**{"tau": 1.0, "target_every": 5, "huber_delta": None, **learning}),
        training=ChoiceTrainingConfig(**{"batch_size": 64, "optimizer": optimizer, **(training or {})}),
        replay=replay or ReplayConfig(),
        num_updates=num_updates,
        seed=3,
    )


def support_desk(gamma: float) -> tuple[list[Transition], list[Choice]]:
    """Every act in every state of one dialogue of each kind, and the exact Q of each."""
    desk = script("make_dialogue_acts")
    first = [
        desk.Talk(kind=kind, number=123, lines=(f"Customer: {texts[0].format(thing='lamp', day='Monday')}",))
        for kind, texts in enumerate(desk.COMPLAINTS)
    ]
    talks = [talk for start in first for talk in desk.reachable(start)]
    transitions = []
    for talk in talks:
        for number, act in enumerate(talk.acts):
            reward, following = talk.after(act)
            transitions.append(
                Transition(
                    state=talk.state,
                    actions=talk.acts,
                    taken=number,
                    reward=reward,
                    next_state=following.state if following else "",
                    next_actions=following.acts if following else (),
                    is_done=following is None,
                )
            )
    rows = [desk.choice(talk, gamma) for talk in talks]
    choices = [
        Choice(state=row["state"], actions=tuple(row["actions"]), values=tuple(row["values"])) for row in rows
    ]
    return transitions, choices


def q_of(model: ChoiceModel, texts: Texts, state: str, action: str) -> float:
    """The model's value of one action in one state."""
    table = ChoiceTable.of([Choice(state=state, actions=(action,), values=(0.0,))], texts)
    with torch.no_grad():
        return float(model(table.state, table.actions)[0, 0])

"""Prompts made by reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760): endless tasks with verifiers."""

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, JsonValue

from antiphon.errors import UserError, suggestion
from antiphon.settings import Settings
from rollout.prompts import Example, PromptSource, Split, split_off


class ReasoningGym(PromptSource):
    """One data set of the collection. The metadata carries each item as `entry`, for its verifier."""

    name: ClassVar[str] = "reasoning_gym"

    class Config(Settings):
        dataset: str
        """Such as chain_sum; the reward component of the same name takes the same word."""
        options: dict[str, JsonValue] = Field(default_factory=dict)
        """The data set's own settings, such as max_terms: 3."""
        num_train: int = Field(2048, ge=1)
        """Items to train on; fewer where some come out equal."""
        num_held_out: int = Field(256, ge=1)
        """Items to measure on, never trained on."""
        seed: int = 0
        """Which items, and which of them are held out. Not the seed of the run: runs stay comparable."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def examples(self) -> Split:
        config = self.config
        items = _items(config, config.num_train + config.num_held_out)
        _check_verifier(config.dataset, items[0])
        examples = [_example(config.dataset, number, item) for number, item in enumerate(items)]
        return split_off(examples, config.num_held_out, config.seed, f"reasoning_gym {config.dataset}")


def _items(config: ReasoningGym.Config, size: int) -> Sequence[Mapping[str, Any]]:
    # An extra of the package: recipes that do not ask for it must load without.
    if importlib.util.find_spec("reasoning_gym") is None:
        raise UserError(
            "the source reasoning_gym needs a package that is not installed",
            remedy="pip install 'antiphon[data]'",
        )
    library = importlib.import_module("reasoning_gym")
    known = importlib.import_module("reasoning_gym.factory").DATASETS
    if config.dataset not in known:
        raise UserError(
            f"reasoning-gym has no data set called {config.dataset!r}",
            remedy=suggestion(config.dataset, known),
        )
    try:
        items: Sequence[Mapping[str, Any]] = library.create_dataset(
            config.dataset, size=size, seed=config.seed, **config.options
        )
    # What its configs raise on a wrong or unknown setting.
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"reasoning-gym refuses the options of {config.dataset!r}: {error}",
            remedy="correct options; they are the fields of the data set's config class",
        ) from error
    return items


def _check_verifier(dataset: str, item: Mapping[str, Any]) -> None:
    """The verifier must judge an item that went through JSON as it judges the item itself.

    A few (arc_agi, rearc) compare tuples, and would call every right answer wrong without saying so.
    """
    judge = importlib.import_module("reasoning_gym.factory").get_score_answer_fn(dataset)
    if judge(item["answer"], _as_json(item)) != judge(item["answer"], item):
        raise UserError(
            f"the verifier of {dataset!r} misjudges items that were sent as JSON",
            remedy="use another data set of reasoning-gym",
        )


def _as_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata is JSON on the wire and on disk; made so here, all see the same."""
    entry: dict[str, Any] = json.loads(json.dumps(item, default=str))
    return entry


def _example(dataset: str, number: int, item: Mapping[str, Any]) -> Example:
    return Example(
        id=f"{dataset}/{number}",
        content=item["question"],
        reference=None if item["answer"] is None else str(item["answer"]),
        metadata={"entry": _as_json(item)},
    )

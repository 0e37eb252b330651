"""Any Python function as a reward component, by import path.

    def polite(completion, reference=None, bonus: float = 1.0) -> float: ...

Parameters called like a field of Sample (prompt, completion, reference, metadata, ...) receive it; all
others are options that the recipe may set. A `reference` without a default is a demand: samples that have
none are invalid input. Functions run isolated: what is trusted, or holds a model, is written as a Reward,
which says its own placement.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from pydantic import create_model

from antiphon.errors import UserError
from antiphon.settings import Settings, parse
from reward_service.reward import Reward, reference_of
from reward_service.types import Sample

SAMPLE_FIELDS = frozenset(f.name for f in fields(Sample))


class FunctionReward(Reward):
    """The score is what the function returns."""

    range = (float("-inf"), float("inf"))
    placement = "isolated"

    def __init__(self, config: Settings, function: Callable[..., float]) -> None:
        super().__init__(config)
        self._function = function
        self._options = config.model_dump()
        parameters = inspect.signature(function).parameters
        self._wanted = [name for name in parameters if name in SAMPLE_FIELDS]
        self._demands_reference = (
            "reference" in parameters and parameters["reference"].default is inspect.Parameter.empty
        )

    def score_one(self, sample: Sample) -> float:
        if self._demands_reference:
            reference_of(sample)
        return self._function(**{name: getattr(sample, name) for name in self._wanted}, **self._options)


def reward_from_function(
    function: object, path: str, options: Mapping[str, Any], where: str
) -> FunctionReward:
    """The function behind an import path as a component, its options checked like those of any other.

    Raises:
        UserError: it is no function that can be called with a sample by name, or an option is wrong.
    """
    if isinstance(function, type) or not callable(function) or inspect.iscoroutinefunction(function):
        raise UserError(
            f"{where}.name leads to {path}, which is neither a Reward nor an ordinary function",
            remedy="name a subclass of reward_service.reward.Reward, or a function that returns a float",
        )
    return FunctionReward(parse(options_model(function, path), options, where), function)


def options_model(function: Callable[..., Any], path: str) -> type[Settings]:
    """The parameters of a function that no field of Sample fills, as a config model.

    Raises:
        UserError: the function has a parameter that cannot be passed by name.
    """
    wanted: dict[str, Any] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(
                f"the parameter {parameter} of {path} cannot be passed by name",
                remedy=f"name what it needs: {', '.join(sorted(SAMPLE_FIELDS))}, or options of its own",
            )
        if name not in SAMPLE_FIELDS:
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            wanted[name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    return create_model("Options", __base__=Settings, **wanted)

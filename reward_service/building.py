"""How the name and the options of a component become the component."""

from collections.abc import Mapping
from typing import Any

from antiphon.plugins import find
from antiphon.settings import parse
from reward_service.function import reward_from_function
from reward_service.reward import Reward

COMPONENTS = "reward_service.components"
"""Its modules hold the built-in components."""


def import_path(name: str) -> str:
    """Where a component lies: for processes that load this one only, and not all that are built in.

    Raises:
        UserError: there is none of that name.
    """
    if ":" in name:
        return name
    found = find(Reward, COMPONENTS, name)
    return f"{found.__module__}:{found.__qualname__}"


def build_reward(name: str, options: Mapping[str, Any], where: str) -> Reward:
    """A component that was found and whose options fit; nothing heavy is loaded yet.

    Args:
        name: of a built-in, or `package.module:attribute` of a Reward or a function.
        where: its place in the recipe, for messages: "reward.components.0".

    Raises:
        UserError: an unknown component or option, or an import path that leads nowhere.
    """
    found = find(Reward, COMPONENTS, name)
    if isinstance(found, type) and issubclass(found, Reward):
        return found(parse(found.Config, options, where))
    return reward_from_function(found, name, options, where)

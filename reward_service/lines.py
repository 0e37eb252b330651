"""From a recipe to a gateway: which components run where, and what guards each.

Whoever assembles a service (local.py, serving/) says how a component is reached; everything else is here.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from antiphon.errors import UserError
from antiphon.schedules import value_at
from reward_service.building import build_reward
from reward_service.config import ComponentConfig, RewardConfig
from reward_service.fusion.calibration import load_calibration
from reward_service.fusion.config import FusionPart
from reward_service.fusion.fusion import Fusion
from reward_service.gateway import Gateway, Line
from reward_service.guards.breaker import BreakerConfig
from reward_service.guards.cache import CacheConfig
from reward_service.guards.guard import Guard, GuardConfig
from reward_service.guards.identity import identity_of, together
from reward_service.guards.retry import RetryConfig
from reward_service.http.wire import ComponentInfo
from reward_service.reward import Placement, Reward
from reward_service.types import Sample, Score

BUNDLE = ""
"""Stands for all components of placement cpu, which are asked together; no component has this label."""
BUNDLE_NAME = "cpu"
Call = Callable[[Sequence[Sample], float], Awaitable[list[Score]]]
"""Samples, and a deadline on the monotonic clock. May raise TimeoutError or ConnectionError."""
Placed = tuple[str, ComponentConfig]
"""The place of a component in the recipe, and the component."""

NO_CACHE = CacheConfig(max_entries=0)
NO_BREAKER = BreakerConfig(max_failed_share=1.0, min_calls=2**31)
"""Where a failure says something of the sample, and nothing of the component."""


def build_all(config: RewardConfig) -> dict[str, Reward]:
    """Every component, checked and not started, by its label.

    Raises:
        UserError: an unknown component or option, or an import path that leads nowhere.
    """
    return {
        c.shown_as: build_reward(c.name, c.options, f"reward.components.{i}")
        for i, c in enumerate(config.components)
    }


def placements(config: RewardConfig) -> dict[Placement, list[Placed]]:
    """The components of each placement, in the order of the recipe."""
    rewards = build_all(config)
    placed: dict[Placement, list[Placed]] = {p: [] for p in get_args(Placement)}
    for i, c in enumerate(config.components):
        placed[rewards[c.shown_as].placement].append((f"reward.components.{i}", c))
    return placed


def build_gateway(config: RewardConfig, call_of: Callable[[str], Call]) -> Gateway:
    """The gateway of a recipe; `call_of` a label (or BUNDLE) says how it is reached.

    Raises:
        UserError: a mistake in the recipe, or a cache that cannot be opened.
    """
    rewards = build_all(config)
    bundled = [c for c in config.components if is_bundled(c, rewards[c.shown_as])]
    lines = [
        _line(config, c, rewards[c.shown_as], call_of(c.shown_as))
        for c in config.components
        if c not in bundled
    ]
    if bundled:
        lines.insert(0, _bundle(config, bundled, rewards, call_of(BUNDLE)))
    return Gateway(lines, Fusion(config.fusion, [_part(c) for c in config.components]))


def check_rewards(config: RewardConfig) -> None:
    """Everything that can be found wrong without starting anything.

    Raises:
        UserError: the first mistake.
    """
    rewards = build_all(config)
    Fusion(config.fusion, [_part(c) for c in config.components])
    for i, c in enumerate(config.components):
        if c.num_repeats > 1 and not rewards[c.shown_as].is_repeatable:
            raise UserError(
                f"reward.components.{i}.num_repeats is {c.num_repeats}; {c.shown_as} always says the same",
                remedy="set a temperature above 0 (with answer: line), or num_repeats to 1",
            )


def reserved(config: RewardConfig) -> dict[str, float]:
    """The CPUs and GPUs that the service reserves when it starts."""
    placed = placements(config)
    own = [c.service for _, c in placed["own"]]
    shared = config.num_replicas * config.num_cpus_per_replica * bool(placed["cpu"] or placed["isolated"])
    return {
        "CPU": shared + sum(s.num_replicas * s.num_cpus for s in own),
        "GPU": sum(s.num_replicas * s.num_gpus for s in own),
    }


def num_processes(config: RewardConfig) -> int:
    """The processes that the service starts with: replicas, and the gateway in front of them."""
    if is_simple(config) and not config.http.enabled:
        return config.num_replicas
    placed = placements(config)
    quick = config.num_replicas * bool(placed["cpu"] or placed["isolated"])
    return quick + sum(c.service.num_replicas for _, c in placed["own"]) + 1


def is_bundled(component: ComponentConfig, reward: Reward) -> bool:
    """Whether it is asked together with others: quick, and once for each completion."""
    return reward.placement == "cpu" and component.num_repeats == 1


def is_simple(config: RewardConfig) -> bool:
    """Whether any process can score by itself: all components are quick, and no score changes what later ones
    are compared with."""
    rewards = build_all(config)
    return all(
        is_bundled(c, rewards[c.shown_as]) and c.estimates is None and c.normalize != "running"
        for c in config.components
    )


def describe(config: RewardConfig) -> tuple[ComponentInfo, ...]:
    """What the service scores by."""
    rewards = build_all(config)
    return tuple(
        ComponentInfo(
            label=c.shown_as,
            name=c.name,
            version=rewards[c.shown_as].version,
            low=_bound(rewards[c.shown_as].range[0]),
            high=_bound(rewards[c.shown_as].range[1]),
            weight=value_at(c.weight, 0),
            placement=rewards[c.shown_as].placement,
        )
        for c in config.components
    )


def _bundle(
    config: RewardConfig, bundled: Sequence[ComponentConfig], rewards: Mapping[str, Reward], call: Call
) -> Line:
    """Quick components together: recognising a sample would cost as much as scoring it."""
    labels = tuple(c.shown_as for c in bundled)
    identity = together({c.shown_as: identity_of(rewards[c.shown_as], c.name) for c in bundled})
    guards = GuardConfig(cache=NO_CACHE, retry=config.retry, breaker=NO_BREAKER)
    return Line(name=BUNDLE_NAME, judge=Guard(call, identity, guards), labels=labels, is_bundle=True)


def _line(config: RewardConfig, component: ComponentConfig, reward: Reward, call: Call) -> Line:
    identity = identity_of(reward, component.name, is_comparative=reward.is_comparative)
    guard = Guard(call, identity, _guards(config, component, reward), estimate=reward.estimate)
    label = component.shown_as
    return Line(name=label, judge=guard, labels=(label,), num_repeats=component.num_repeats)


def _guards(config: RewardConfig, component: ComponentConfig, reward: Reward) -> GuardConfig:
    """What the recipe says, but where it would do harm."""
    service, retry = component.service, config.retry
    cache, breaker = service.cache or NO_CACHE, service.breaker
    if reward.placement != "own":
        # What failed in a process of ours fails there again; a lost replica is worth one more try.
        retry = retry.model_copy(update={"num_retries": min(1, retry.num_retries)})
        breaker = NO_BREAKER
    if reward.waits_for_people:
        cache, breaker, retry = NO_CACHE, NO_BREAKER, RetryConfig(num_retries=0)
    return GuardConfig(cache=cache, retry=retry, breaker=breaker, budget=service.budget, hedge=service.hedge)


def _part(component: ComponentConfig) -> FusionPart:
    return FusionPart(
        label=component.shown_as,
        weight=component.weight,
        normalize=component.normalize,
        clip=component.clip,
        estimates=component.estimates,
        sigma=component.known_sigma,
        calibration=None if component.calibration is None else load_calibration(Path(component.calibration)),
    )


def _bound(end: float) -> float | None:
    """JSON has no infinity."""
    return end if math.isfinite(end) else None

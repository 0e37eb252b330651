"""`antiphon serve-rewards`: the reward service on its own, for several runs, or for another trainer."""

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from antiphon.errors import UserError
from antiphon.settings import parse
from cluster import ray_environment
from cluster.recipe import apply_override, read_recipe, with_privacy
from reward_service.config import HttpConfig, RewardConfig
from reward_service.http.gatekeeper import token_of
from reward_service.lines import check_rewards, describe

Say = Callable[[str], None]


def load_rewards(path: Path, overrides: Sequence[str] = ()) -> RewardConfig:
    """The `reward:` section of a recipe, and what `privacy:` says; the rest of the file is not looked at.

    Raises:
        UserError: there is no such file or section, or something in it is wrong.
    """
    data = read_recipe(path)
    for override in overrides:
        data = apply_override(data, override)
    if "reward" not in data:
        raise UserError(f"{path} has no section `reward`", remedy="see docs/rewards.md for one")
    config = parse(RewardConfig, with_privacy(data)["reward"], "reward")
    check_rewards(config)
    return config


def with_door(config: RewardConfig, host: str | None, port: int | None) -> RewardConfig:
    """The same rewards behind an open door."""
    changed = {"enabled": True, "host": host or config.http.host, "port": port or config.http.port}
    http = parse(HttpConfig, {**config.http.model_dump(mode="json"), **changed}, "reward.http")
    return config.model_copy(update={"http": http})


def serve(config: RewardConfig, name: str, say: Say) -> None:
    """Bring the service up and keep it until the process is told to end.

    Raises:
        UserError: it cannot be started.
    """
    if config.shared is not None:
        raise UserError("reward.shared names a service that runs already", remedy="name components instead")
    token = token_of(config.http)
    ray_environment.prepare()
    from cluster.ray_session import connected
    from reward_service.serving.deployment import deploy, shutdown

    is_over = threading.Event()
    with connected():
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: is_over.set())
        deploy(config, name)
        say(f"POST {config.http.url}/v1/score")
        for c in describe(config):
            say(f"  {c.label}: {c.name} version {c.version}, weight {c.weight:g}, {c.placement}")
        say(f"token: {'in $' + config.http.token_env if token else 'none needed from this machine'}")
        say("Ctrl-C stops it")
        # Serve watches its processes itself; this one waits, in short turns so that signals are heard.
        while not is_over.wait(1.0):
            pass
        say("stopping")
        shutdown(name)

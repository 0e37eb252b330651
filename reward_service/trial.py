"""The rewards tried once, before a run starts, so that one that cannot work is found early."""

import threading

from antiphon.errors import UserError
from reward_service.config import RewardConfig
from reward_service.fusion.config import FusionConfig
from reward_service.lines import build_all
from reward_service.local import LocalClient
from reward_service.types import Sample, Score


def try_rewards(config: RewardConfig, sample: Sample) -> None:
    """Score one sample by every component that is quick to start: models and judges are not tried.

    Raises:
        UserError: a component failed, or did not answer in time.
    """
    quick = tuple(
        c for c in config.components if build_all(config)[c.shown_as].placement in ("cpu", "isolated")
    )
    if not quick:
        return
    # Alone, each with a weight of its own: what is tried are components, not how they are fused.
    bare = [
        c.model_copy(update={"weight": 1.0, "estimates": None, "known_sigma": None, "num_repeats": 1})
        for c in quick
    ]
    alone = config.model_copy(update={"components": tuple(bare), "fusion": FusionConfig()})
    client = LocalClient(alone, is_isolated=True)
    scores: list[Score] = []
    # A thread that hangs cannot be ended, but a daemon does not keep the process alive.
    trial = threading.Thread(target=lambda: scores.extend(client.score([sample])), daemon=True)
    trial.start()
    trial.join(config.deadline_s)
    if not scores:
        raise UserError(
            f"the reward gave no score to the first held-out prompt within {config.deadline_s:g} s",
            remedy="make the component faster, or raise reward.deadline_s",
        )
    client.close()
    if not scores[0].is_ok:
        raise UserError(
            f"the reward fails on the first held-out prompt: {scores[0].status}: {scores[0].message}",
            remedy="mend the component, or choose one that fits the data",
        )

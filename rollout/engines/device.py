"""Where the model of an engine lies. Called by the torch engine."""

import torch

from antiphon.errors import UserError


def device_for(name: str, now: torch.device) -> torch.device:
    """Where a model that lies at `now` belongs; one that lies on a GPU stays on that one.

    Raises:
        UserError: a GPU is wanted, and this process has none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise UserError(
            "rollout.engine.device is cuda, and this process has no GPU",
            remedy="set it to auto, or cluster.gpus_per_actor above 0",
        )
    if name == "cpu" or not has_gpu:
        return torch.device("cpu")
    return now if now.type == "cuda" else torch.device("cuda")

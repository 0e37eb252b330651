"""Where the model of an engine lies, and how things are computed there. Called by the torch engine."""

import torch

from antiphon.errors import UserError


def device_for(name: str, now: torch.device) -> torch.device:
    """Where a model that lies at `now` belongs; one that was put on a GPU stays there unless it is sent away.

    Raises:
        UserError: a GPU is wanted, and this process has none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise UserError(
            "rollout.engine.device is cuda, and this process has no GPU",
            remedy="set it to auto, or cluster.gpus_per_actor above 0",
        )
    if name == "auto" and now.type != "cpu":
        return now
    wanted = torch.device("cuda" if has_gpu and name != "cpu" else "cpu")
    return now if now.type == wanted.type else wanted


def arithmetic_of(device: torch.device, is_native: bool) -> str:
    """What decides how results are rounded: whose operations, and for which instructions or GPU.

    Example:
        >>> arithmetic_of(torch.device("cpu"), is_native=True)
        'kernels in C, AVX512'
    """
    if device.type == "cuda":
        return f"torch, {torch.cuda.get_device_name(device)}"
    return f"{'kernels in C' if is_native else 'torch'}, {torch.backends.cpu.get_cpu_capability()}"

"""The tensors of a module as a flat dict, tied ones once; the way into and out of checkpoints."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, sorted; a tied one only under its first name. Not copied."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in sorted(module.state_dict(keep_vars=True).items()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def copy_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Overwrite the module's tensors, all of them or none.

    Raises:
        ValueError: names what is missing, extra, or of another shape.
    """
    own = tensors_of(module)
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = sorted(n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape)
    if missing or extra or reshaped:
        raise ValueError(f"tensors do not fit: missing {missing}, extra {extra}, reshaped {reshaped}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

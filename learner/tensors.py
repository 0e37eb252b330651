"""The tensors of a module as a flat dict, tied ones once; the way into and out of checkpoints.

A tensor of a sharded module stands for the whole, and this process holds a part of it: what is written into
it is cut to fit.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


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
            own_part(tensor).copy_(own_part(placed_as(tensors[name], tensor)))


def placed_as(full: Tensor, like: Tensor) -> Tensor:
    """The whole tensor on the device of another, and sharded as that one is. Nothing is sent: whoever has the
    whole keeps its part."""
    if not isinstance(like, DTensor):
        return full.to(like.device)
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

"""A model split over ranks: each holds a part of every parameter, its gradient and its moments (FSDP2).

The parameters of a layer are gathered while it computes and let go of afterwards; gradients are added up
over the ranks and split again. What is outside the layers (embeddings, heads) is gathered for a whole pass.
With one rank nothing here does anything. Called by the learner: when it is made, and for what leaves it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from learner.model import PolicyModel, logit_scale, remember_scale
from learner.ranks import RankError, Ranks
from learner.tensors import tensors_of
from rollout.weights import GUIDE, together


def settle(lm: PreTrainedModel, device: torch.device, ranks: Ranks) -> None:
    """Before heads and copies are made of a model: bring it to its device. Of several ranks each brings its
    parts there later (`shard`); what only the first can try, whose model has values, it tells the others."""
    if ranks.num == 1:
        nn.Module.to(lm, device)
        return
    own = torch.tensor(logit_scale(lm), dtype=torch.float64) if ranks.is_first else None
    told = ranks.same(None if own is None else {"scale": own})
    assert told is not None
    remember_scale(lm, float(told["scale"]))


def shard(model: PolicyModel, ranks: Ranks, device: torch.device, is_half: bool) -> None:
    """Split the parameters in place. Values are those of the first rank; others may be on the meta device.

    Args:
        is_half: layers are gathered in bfloat16, which their matrix products compute in. Outside of layers
            parameters stay as they are.

    Raises:
        RankError: the ranks have different models.
    """
    assert dist.group.WORLD is not None
    mesh = DeviceMesh.from_group(dist.group.WORLD, device.type)
    _materialise(model)
    _check_same(model, ranks)
    layers = list(_layers(model))
    half = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for unit in (*layers, model):
        # Part by part, so that no rank but the first ever holds more than one layer whole.
        for tensor in _own_tensors(unit):
            dist.broadcast(tensor.data, 0)
        if is_half and unit is not model:
            fully_shard(unit, mesh=mesh, mp_policy=half)
        else:
            fully_shard(unit, mesh=mesh)
    for unit in (*layers, model):
        assert isinstance(unit, FSDPModule)
        # Sums: losses are divided by counts over all ranks.
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has split it."""
    return isinstance(model, FSDPModule)


def let_go(model: nn.Module) -> None:
    """After a pass without a backward, which would do it: nothing is kept whole."""
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(tree: Any, ranks: Ranks) -> Any:
    """The tensors of a nested dict put together on the first rank, on the CPU; every rank calls this.

    The same tensor under two names is one there, too. Other ranks get empty tensors.
    """
    if ranks.num == 1:
        return tree
    return _whole(tree, ranks, {})


def gathered(
    lm: nn.Module, guide: nn.Module | None, dtype: torch.dtype | None, ranks: Ranks
) -> dict[str, Tensor]:
    """What actors play, whole on the first rank, under the names of `together`; sent in `dtype`, if any."""
    if ranks.num == 1:
        return together(lm, guide)
    beside = {} if guide is None else tensors_of(guide)
    own = {**tensors_of(lm), **{GUIDE + name: tensor for name, tensor in beside.items()}}
    as_sent = {n: x if dtype is None or not x.is_floating_point() else x.to(dtype) for n, x in own.items()}
    return whole(as_sent, ranks)


def _whole(tree: Any, ranks: Ranks, done: dict[int, tuple[Tensor, Tensor]]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _whole(value, ranks, done) for key, value in tree.items()}
    if not isinstance(tree, Tensor):
        return tree
    if id(tree) not in done:
        full = tree.full_tensor() if isinstance(tree, DTensor) else tree
        done[id(tree)] = (tree, full.detach().cpu() if ranks.is_first else torch.empty(0))
    return done[id(tree)][1]


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The repeated blocks of every language model inside, by the class names that transformers gives."""
    kinds = {kind for m in model.modules() for kind in getattr(m, "_no_split_modules", None) or ()}
    for module in model.modules():
        if type(module).__name__ in kinds:
            yield module


def _own_tensors(unit: nn.Module) -> list[Tensor]:
    """Parameters and buffers of the module that were not split yet, in an order that all ranks share."""
    found = [*unit.parameters(), *unit.buffers()]
    return [tensor for tensor in found if not isinstance(tensor, DTensor)]


def _materialise(model: nn.Module) -> None:
    """Room for parameters that are on the meta device; tied ones stay tied."""
    made: dict[int, tuple[Tensor, Tensor]] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    if id(tensor) not in made:
                        made[id(tensor)] = (tensor, _with_room(tensor))
                    tensors[name] = made[id(tensor)][1]  # type: ignore[assignment]


def _with_room(tensor: Tensor) -> Tensor:
    room = torch.empty_like(tensor, device="cpu")
    return nn.Parameter(room, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else room


def _check_same(model: nn.Module, ranks: Ranks) -> None:
    named = [*model.named_parameters(), *model.named_buffers()]
    own = {name: torch.tensor([tensor.dim(), *tensor.shape]) for name, tensor in named}
    first = ranks.same(own if ranks.is_first else None) or {}
    differ = [n for n in {**own, **first} if n not in own or n not in first or not own[n].equal(first[n])]
    if differ:
        raise RankError(f"rank {ranks.rank} has another model than rank 0: {sorted(differ)[:5]} differ")

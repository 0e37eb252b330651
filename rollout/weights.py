"""The weights of one policy version, as they travel from the learner to the engines.

Both ends live here: the learner packs, an engine checks and applies. One flat buffer per dtype (few large
messages instead of one per tensor), with a digest of names, shapes, dtypes and bytes that the receiver echoes
from its own tensors. Knows neither Ray nor algorithms: how the buffers travel is the transport's business.

    learner: pack(version, model) --Weights--> engine: apply(weights, model) --digest--> learner

Where actors play a Q function beside the model, `together` makes one set of tensors of both, at either end.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rollout.digest import Digest, TensorSpec, overlap
from rollout.room import Room


class WeightsError(RuntimeError):
    """Weights that do not fit the model, or are not the bytes that were packed. The model is as it was."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """All tensors of a policy version. Pickles without copying; the buffers may be read-only."""

    version: int
    specs: tuple[TensorSpec, ...]
    """Sorted by name; tied tensors once, under the first of their names."""
    buffers: Mapping[str, np.ndarray]
    """dtype -> the tensors of that dtype in the order of the specs, flat; bfloat16 as its int16 view."""
    digest: str
    """xxh3-128 of the specs and the bytes, as fast as memory is read: against accidents, not against enemies.
    The version is no part of it."""

    @property
    def size_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every (name, tensor), as views of the buffers: to be read, never written."""
        offsets = dict.fromkeys(self.buffers, 0)
        flats = {dtype: _as_tensor(buffer, dtype) for dtype, buffer in self.buffers.items()}
        for spec in self.specs:
            start = offsets[spec.dtype]
            offsets[spec.dtype] = start + spec.numel
            yield spec.name, flats[spec.dtype][start : start + spec.numel].view(spec.shape)


Source = nn.Module | Mapping[str, Tensor]
"""A module, of which parameters and persistent buffers count, or tensors by name."""
GUIDE = "guide."
"""How the names of the tensors begin that do not belong to the language model."""


def together(lm: nn.Module, guide: nn.Module | None) -> dict[str, Tensor]:
    """The tensors of a language model, and under "guide.…" those of the Q function that is played with it."""
    beside = {} if guide is None else guide.state_dict()
    return {**lm.state_dict(), **{GUIDE + name: tensor for name, tensor in beside.items()}}


def pack(version: int, source: Source, dtype: torch.dtype | None = None, room: Room | None = None) -> Weights:
    """Copies the parameters and persistent buffers of a model, or the named tensors, into flat buffers.

    Args:
        dtype: what floating tensors are sent as; None keeps each tensor's own. Other tensors keep theirs.
        room: where the buffers come from; None: from nowhere in particular.
    """
    room = room or Room()
    named = _named(source)
    specs = tuple(_spec(name, tensor, dtype) for name, tensor in named.items())
    sizes = {spec.dtype: 0 for spec in specs}
    for spec in specs:
        sizes[spec.dtype] += spec.numel
    buffers = {name: room.take(name, size, _numpy_dtype(name)) for name, size in sizes.items()}
    weights = Weights(version=version, specs=specs, buffers=buffers, digest="")
    sent = _copy(specs, named.values(), (view for _, view in weights.tensors()))
    return Weights(version=version, specs=specs, buffers=buffers, digest=sent)


def digest(source: Source, dtype: torch.dtype | None = None) -> str:
    """The digest that `pack` would give, without packing."""
    named = _named(source)
    return _digest([_spec(name, tensor, dtype) for name, tensor in named.items()], named.values())


def check(weights: Weights, model: Source) -> None:
    """Whether the weights are whole, finite and exactly the set of tensors of the model.

    Raises:
        WeightsError: naming the tensors that are missing, unknown, of another shape, of a dtype that the
            model cannot hold exactly, or not finite; or the bytes are not those that were packed.
    """
    own, sent = _named(model), {spec.name: spec for spec in weights.specs}
    both = [name for name in sent if name in own]
    in_order = sorted(sent) == [spec.name for spec in weights.specs]
    problems = {
        "missing": [name for name in own if name not in sent],
        "unknown to the model": [name for name in sent if name not in own],
        "of another shape": [name for name in both if sent[name].shape != tuple(own[name].shape)],
        "of a wider dtype than the model's": [n for n in both if not _holds(own[n].dtype, sent[n].dtype)],
        "not whole": _not_whole(weights),
        "not sorted, or there twice": [] if in_order else list(sent),
    }
    _refuse(weights.version, problems)
    found = Digest(weights.specs)
    not_finite = [name for name, tensor in weights.tensors() if not found.add_looking(tensor)]
    _refuse(weights.version, {"not finite": not_finite})
    if found.hexdigest() != weights.digest:
        raise WeightsError(
            f"weights {weights.version}: the bytes are not those of digest {weights.digest[:12]}"
        )


@torch.no_grad()
def apply(weights: Weights, model: Source) -> str:
    """Puts the weights into the model: all of them, or none.

    Returns:
        The digest, computed anew from the model's own tensors in the dtypes of the wire.

    Raises:
        WeightsError: see `check`; the model is as it was. Or the model did not take what was copied into it.
    """
    check(weights, model)
    own = list(_named(model).values())
    taken = _copy(weights.specs, (tensor for _, tensor in weights.tensors()), own)
    if overlap(own):
        # Each was right for a moment.
        taken = _digest(weights.specs, own)
    if taken != weights.digest:
        raise WeightsError(
            f"weights {weights.version}: the model has digest {taken[:12]}, sent {weights.digest[:12]}"
        )
    return taken


def _named(source: Source) -> dict[str, Tensor]:
    """Name -> tensor, sorted by name, tensors that share their memory once."""
    everything = source.state_dict() if isinstance(source, nn.Module) else source
    named: dict[str, Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    for name in sorted(everything):
        tensor = everything[name].detach()
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or memory not in seen:
            named[name] = tensor
        seen.add(memory)
    return named


def _spec(name: str, tensor: Tensor, dtype: torch.dtype | None) -> TensorSpec:
    sent = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return TensorSpec(name=name, shape=tuple(tensor.shape), dtype=str(sent).removeprefix("torch."))


def _digest(specs: Sequence[TensorSpec], tensors: Iterable[Tensor]) -> str:
    hashed = Digest(specs)
    for spec, tensor in zip(specs, tensors, strict=True):
        hashed.add(tensor, _torch_dtype(spec.dtype))
    return hashed.hexdigest()


def _copy(specs: Sequence[TensorSpec], sources: Iterable[Tensor], targets: Iterable[Tensor]) -> str:
    """Copies, and returns the digest of what the targets then hold."""
    hashed = Digest(specs)
    for spec, source, target in zip(specs, sources, targets, strict=True):
        hashed.add_copying(source, target, _torch_dtype(spec.dtype))
    return hashed.hexdigest()


def _not_whole(weights: Weights) -> list[str]:
    """The dtypes whose buffer is not as long as their tensors together."""
    sizes = dict.fromkeys(weights.buffers, 0)
    for spec in weights.specs:
        sizes[spec.dtype] = sizes.get(spec.dtype, 0) + spec.numel
    return [d for d, n in sizes.items() if d not in weights.buffers or weights.buffers[d].size != n]


def _refuse(version: int, problems: Mapping[str, list[str]]) -> None:
    found = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    if found:
        raise WeightsError(f"weights {version} are refused; {'; '.join(found)}")


def _holds(own: torch.dtype, sent: str) -> bool:
    return torch.promote_types(own, _torch_dtype(sent)) == own


def _torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise WeightsError(f"there is no dtype {name!r}")
    return dtype


def _numpy_dtype(name: str) -> np.dtype:
    """What carries a dtype of torch: numpy has no bfloat16."""
    own = torch.int16 if name == "bfloat16" else _torch_dtype(name)
    return torch.empty(0, dtype=own).numpy().dtype


def _as_tensor(buffer: np.ndarray, dtype: str) -> Tensor:
    with warnings.catch_warnings():
        # The object store gives read-only memory; we only read it, which torch cannot know.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(buffer).view(_torch_dtype(dtype))

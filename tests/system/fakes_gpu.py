"""A make-believe GPU: tensors that say they lie there, and do not meet those that lie on the CPU.

    with gpu():
        torch.ones(3, device=GPU) + torch.ones(3)      # RuntimeError, as where there is a real one

Nothing else in the process may use torch's place for private devices, so it runs in a program of its own
(drive_gpu.py). It cannot show speed, autocast, tied parameters that stay tied when a module moves, or what
several streams do to each other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("gpu")
GPU = torch.device("gpu:0")
COPIES = ("copy_", "_to_copy")
INDEXING = ("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_")
"""Take indices from the CPU for a tensor on a GPU, but not the other way round."""


class OnGpu(Tensor):
    """A tensor on the GPU; `inner` has its numbers."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnGpu":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """
    Raises:
        RuntimeError: tensors of the GPU meet tensors of the CPU.
    """
    name, device = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    ours = [x for x in tensors if isinstance(x, OnGpu)]
    others = [x for x in tensors if not isinstance(x, OnGpu) and x.dim() > 0]
    may_meet = name in COPIES or (name in INDEXING and isinstance(args[0], OnGpu))
    if ours and others and not may_meet:
        raise RuntimeError(f"{func} of tensors on the GPU and on the CPU: {[t.shape for t in tensors]}")
    on_gpu = bool(ours) if device is None else is_gpu(device)
    on_gpu = isinstance(args[0], OnGpu) if name == "copy_" else on_gpu
    if is_gpu(device):
        kwargs = {**kwargs, "device": torch.device("cpu")}
        kwargs.pop("pin_memory", None)
    inner_args, inner_kwargs = tree_map(inner_of, (args, kwargs))
    returned = func(*inner_args, **inner_kwargs)

    def outer(x: Any) -> Any:
        known = [old for old in ours if old.inner is x]
        return known[0] if known else OnGpu(x) if on_gpu and isinstance(x, Tensor) else x

    return tree_map(outer, returned)


def inner_of(x: Any) -> Any:
    return x.inner if isinstance(x, OnGpu) else x


def is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == GPU.type


class Operations(TorchDispatchMode):
    """Those that make tensors know the GPU by its name alone."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        has_ours = any(isinstance(x, OnGpu) for x in tree_leaves((args, kwargs or {})))
        if has_ours or is_gpu((kwargs or {}).get("device")):
            return compute(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """What torch does in C++ with a tensor's own memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and is_gpu(kwargs.get("device")):
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if args and isinstance(args[0], OnGpu):
            if func in (Tensor.tolist, Tensor.data_ptr):
                return func(args[0].inner)
            if func == Tensor.data.__set__:  # type: ignore[attr-defined]
                args[0].inner = args[1].inner
                return None
        return func(*args, **kwargs)


@contextmanager
def gpu() -> Iterator[None]:
    """There is a GPU inside the block."""
    with Calls(), Operations():
        yield


def _kernel(name: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _LIBRARY.impl(name, function, "PrivateUse1")
        return function

    return register


_LIBRARY = torch.library.Library("aten", "IMPL")


@_kernel("empty_strided")
def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> OnGpu:
    return OnGpu(torch.empty_strided(size, stride, dtype=dtype))


@_kernel("empty.memory_format")
def _empty(size: Any, *, dtype: Any = None, **_: Any) -> OnGpu:
    return OnGpu(torch.empty(size, dtype=dtype))


@_kernel("_copy_from")
def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    inner_of(target).copy_(inner_of(source))
    return target

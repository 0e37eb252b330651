"""Attention over rows of a prompt and its completions, by branches.h; called by the learner's attention.

Shapes: R rows of S tokens, K parts of a row, A attention heads in G groups of keys and values, D width of a
head. Float32 on the CPU; heads may lie in any order in memory, if the numbers of one lie side by side.
"""

import ctypes
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from antiphon.native.build import NotBuilt, library

_log = logging.getLogger(__name__)


class _Heads(ctypes.Structure):
    """struct heads of branches.h."""

    _fields_: ClassVar[Sequence[tuple[str, type]]] = [
        ("at", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("row", "head", "token")),
    ]


class _Branches(ctypes.Structure):
    """struct branches of branches.h."""

    _fields_: ClassVar[Sequence[tuple[str, type]]] = [
        *((name, _Heads) for name in ("queries", "keys", "values", "seen")),
        *((name, _Heads) for name in ("by_seen", "by_queries", "by_keys", "by_values")),
        ("ends", ctypes.c_void_p),
        ("log_norm", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("num_rows", "num_ends", "length")),
        *((name, ctypes.c_int64) for name in ("num_queries", "num_groups", "head_dim")),
        ("scaling", ctypes.c_float),
    ]


class BranchKernels:
    """The two functions of branches.h."""

    def __init__(self) -> None:
        """
        Raises:
            NotBuilt: there is no library for this machine.
        """
        self._attend, self._attend_back = library().attend_branches, library().attend_branches_back
        for function in (self._attend, self._attend_back):
            function.argtypes, function.restype = [ctypes.c_void_p], None

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, ends: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """What each query sees of the prompt up to itself, and of its own completion up to itself.

        Args:
            queries: [R, A, S, D].
            keys: [R, G, S, D], as the values.
            ends: [R, K] int64, rising up to S: where the prompt ends, and each completion. Tokens past the
                last end are padding: they are not read.

        Returns:
            seen [R, S, A, D], 0 on padding, and log Σ exp of the scores [R, A, S].

        Raises:
            ValueError: other shapes, types or ends.
        """
        _check(queries, keys, values, ends)
        num_rows, num_heads, length, head_dim = queries.shape
        seen = queries.new_empty(num_rows, length, num_heads, head_dim)
        log_norm = queries.new_empty(num_rows, num_heads, length)
        heads = {"queries": queries, "keys": keys, "values": values, "seen": seen.transpose(1, 2)}
        self._attend(_struct(heads, ends, log_norm, scaling))
        return seen, log_norm

    def attend_back(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        ends: Tensor,
        scaling: float,
        seen: Tensor,
        log_norm: Tensor,
        by_seen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients with respect to queries, keys and values, in their shapes, from that with respect to
        `seen` [R, S, A, D], and what `attend` returned."""
        _check(queries, keys, values, ends)
        if seen.shape != by_seen.shape or by_seen.dtype != torch.float32 or by_seen.stride(-1) != 1:
            raise ValueError(f"a gradient of {list(by_seen.shape)} is not that of {list(seen.shape)}")
        grads = [torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (queries, keys, values)]
        names = ("queries", "keys", "values", "seen", "by_seen", "by_queries", "by_keys", "by_values")
        tensors = queries, keys, values, seen.transpose(1, 2), by_seen.transpose(1, 2), *grads
        self._attend_back(_struct(dict(zip(names, tensors, strict=True)), ends, log_norm, scaling))
        return grads[0], grads[1], grads[2]


def _struct(heads: dict[str, Tensor], ends: Tensor, log_norm: Tensor, scaling: float) -> Any:
    num_rows, num_queries, length, head_dim = heads["queries"].shape
    own = {name: _Heads(x.data_ptr(), *x.stride()[:3]) for name, x in heads.items()}
    return ctypes.byref(
        _Branches(
            **own,
            ends=ends.data_ptr(),
            log_norm=log_norm.data_ptr(),
            num_rows=num_rows,
            num_ends=ends.shape[1],
            length=length,
            num_queries=num_queries,
            num_groups=heads["keys"].shape[1],
            head_dim=head_dim,
            scaling=scaling,
        )
    )


def _check(queries: Tensor, keys: Tensor, values: Tensor, ends: Tensor) -> None:
    shapes = [list(x.shape) for x in (queries, keys, values, ends)]
    for x in (queries, keys, values):
        if x.dtype != torch.float32 or x.device.type != "cpu" or x.dim() != 4 or x.stride(3) != 1:
            raise ValueError(
                f"heads {list(x.shape)} of {x.dtype} on {x.device}: the kernel takes float32 on the CPU"
            )
    num_rows, num_heads, length, head_dim = queries.shape
    num_groups = keys.shape[1]
    if keys.shape != values.shape or keys.shape != (num_rows, num_groups, length, head_dim):
        raise ValueError(f"queries, keys and values {shapes[:3]} do not match")
    if num_groups == 0 or num_heads % num_groups:
        raise ValueError(f"{num_heads} heads cannot share {num_groups} groups of keys and values")
    if ends.dtype != torch.int64 or ends.dim() != 2 or len(ends) != num_rows or not ends.is_contiguous():
        raise ValueError(f"ends {shapes[3]} of {ends.dtype} are not int64 for {num_rows} rows")
    steps = torch.cat((ends[:, :1], ends.diff(), length - ends[:, -1:]), dim=1)
    if bool((steps < 0).any()):
        raise ValueError(f"ends do not rise from 0 up to {length}: {ends.tolist()}")


@cache
def branch_kernels() -> BranchKernels | None:
    """The kernels; None, with one warning, where there are none."""
    try:
        return BranchKernels()
    except NotBuilt as why:
        _log.warning("learning on this CPU is slower than it could be: %s", why)
        return None

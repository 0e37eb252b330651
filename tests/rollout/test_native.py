"""The kernels in C against the plain formulas, and the machine that cannot build them."""

import logging
import math

import pytest
import torch
from torch.nn import functional

from rollout.engines.fused import FusedDecoder
from rollout.engines.native_decoder import best_decoder
from rollout.native import build
from rollout.native.build import NotBuilt, library
from rollout.native.kernels import Common, Kernels
from tests.rollout.fakes_engines import tiny_model

DTYPES = [torch.float32, torch.bfloat16]


def kernels(dtype: torch.dtype = torch.float32) -> Kernels:
    try:
        return Kernels(dtype)
    except NotBuilt as why:
        pytest.skip(str(why))


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Within a few roundings of the dtype, relative to the largest value; sums are taken in any order."""
    num_roundings = 32 if found.dtype == torch.float32 else 2
    bound = num_roundings * torch.finfo(found.dtype).eps * float(wanted.abs().max())
    assert float((found.float() - wanted).abs().max()) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_adds_first_and_keeps_the_sum(dtype: torch.dtype) -> None:
    """Row (3, 4) + (0, 0): mean square 12.5. Mutation: norm what was there before the sum."""
    hidden = torch.tensor([[1.0, 1.0], [3.0, 4.0]], dtype=dtype)
    delta = torch.tensor([[2.0, 3.0], [0.0, 0.0]], dtype=dtype)
    normed = kernels(dtype).add_norm(hidden, delta, torch.tensor([1.0, 2.0], dtype=dtype), 0.0)
    assert hidden.tolist() == [[3.0, 4.0], [3.0, 4.0]]
    rms = math.sqrt(12.5)
    close(normed, torch.tensor([[3 / rms, 8 / rms]] * 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 33, 300])
def test_gates_are_silu_for_all_sizes(dtype: torch.dtype, num_rows: int) -> None:
    """One thread and several, widths that fill no register. Mutation: gate and up exchanged."""
    torch.manual_seed(0)
    gate_up = (torch.randn(num_rows, 2 * 77) * 20).to(dtype)
    gate, up = gate_up.float().chunk(2, dim=1)
    close(kernels(dtype).gated(gate_up), functional.silu(gate) * up)


def test_a_gate_that_is_far_below_zero_is_shut_and_one_far_above_open() -> None:
    gate_up = torch.tensor([[-1e4, 1e4, 0.0, 1.0, 1.0, 1.0]])
    [[shut, is_open, zero]] = kernels().gated(gate_up).tolist()
    assert abs(shut) < 1e-30
    assert (is_open, zero) == (1e4, 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_queries", "num_groups", "width"), [(4, 4, 64), (6, 2, 32), (3, 1, 20), (2, 1, 128)]
)
def test_attention_is_softmax_over_what_each_row_holds(
    dtype: torch.dtype, num_queries: int, num_groups: int, width: int
) -> None:
    """Rows of different length; what lies beyond is not a number, and is not read.

    Mutations: read one position further; write the key before it is turned; the wrong group.
    """
    torch.manual_seed(0)
    position = torch.tensor([0, 5, 31, 17])
    heads = torch.randn(4, num_queries + 2 * num_groups, width).to(dtype)
    angle = torch.rand(32, width // 2) * 6
    cosine = torch.cat([angle.cos()] * 2, 1).contiguous()
    sine = torch.cat([-angle.sin(), angle.sin()], 1).contiguous()
    keys, values = torch.randn(2, 4, num_groups, 32, width).to(dtype)
    for row, here in enumerate(position.tolist()):
        keys[row, :, here:], values[row, :, here:] = torch.nan, torch.nan
    held = keys.clone().float(), values.clone().float()
    common = Common(cosine=cosine, sine=sine, scaling=0.3)
    seen = kernels(dtype).attend(heads, common, position, keys, values)
    for row, here in enumerate(position.tolist()):
        x = heads[row].float()
        turned = x * cosine[here] + x.roll(width // 2, dims=1) * sine[here]
        key = torch.cat((held[0][row, :, :here], turned[num_queries : num_queries + num_groups, None]), 1)
        value = torch.cat((held[1][row, :, :here], x[num_queries + num_groups :, None]), 1)
        share = num_queries // num_groups
        key, value = (z.repeat_interleave(share, 0) for z in (key.to(dtype).float(), value))
        weight = (key @ turned[:num_queries, :, None] * 0.3).softmax(1)
        close(seen[row].view(num_queries, width), (weight * value).sum(1))


def test_what_does_not_fit_the_kernels_is_refused_before_c_sees_it() -> None:
    """C reads what the pointer says. Mutation: leave out a check."""
    own, x = kernels(), torch.zeros(2, 4)
    for wrong in (x.double(), x.t(), x.to("meta")):
        with pytest.raises(ValueError, match=r"contiguous tensors of torch\.float32 on the CPU"):
            own.gated(wrong)
    with pytest.raises(ValueError, match="do not match"):
        own.add_norm(x, None, torch.zeros(3), 1e-6)
    with pytest.raises(ValueError, match="do not match"):
        own.add_norm(x, torch.zeros(1, 4), torch.zeros(4), 1e-6)
    common = Common(cosine=torch.zeros(8, 4), sine=torch.zeros(8, 4), scaling=1.0)
    with pytest.raises(ValueError, match="do not take"):
        own.attend(
            torch.zeros(2, 3, 4), common, torch.zeros(2, dtype=torch.int64), *torch.zeros(2, 1, 1, 8, 4)
        )
    with pytest.raises(ValueError, match="too few turns"):
        own.spread(torch.zeros(18, 3, 4), common, 1, 9)


def test_without_a_compiler_torch_decodes_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    library.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert type(best_decoder(tiny_model("llama"))) is FusedDecoder
    assert "there is no C compiler" in caplog.text
    library.cache_clear()


def test_a_compiler_that_refuses_is_quoted(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "no such option" >&2; exit 1; }\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path / "cache"))
    library.cache_clear()
    with pytest.raises(NotBuilt, match="refused: no such option"):
        library()
    assert list((tmp_path / "cache" / "native").iterdir()) == []
    library.cache_clear()


def test_a_library_is_built_once_and_not_from_a_folder_that_others_can_write(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels()
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path))
    library.cache_clear()
    library()
    [built] = (tmp_path / "native").iterdir()
    made = built.stat().st_mtime_ns
    library.cache_clear()
    library()
    assert built.stat().st_mtime_ns == made
    (tmp_path / "native").chmod(0o777)
    library.cache_clear()
    with pytest.raises(NotBuilt, match="can be written by, others"):
        library()
    library.cache_clear()


def test_no_flag_changes_the_arithmetic_of_the_whole_process() -> None:
    """Linked with -ffast-math, a library makes the processor round numbers near zero down to it."""
    kernels()
    assert "-ffast-math" not in build.FLAGS
    assert float(torch.tensor(1e-30) * torch.tensor(1e-10)) > 0.0

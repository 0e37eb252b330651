"""The kernels in C against the plain formulas, and the machine that cannot build them."""

import logging
import math
import tempfile

import pytest
import torch
from torch.nn import functional

from antiphon.native import build
from antiphon.native.attention import Common, Places
from antiphon.native.build import NotBuilt, library
from antiphon.native.kernels import Kernels, kernels_for
from rollout.engines.drawing import draw
from rollout.engines.guidance import Controls, played
from rollout.engines.sampling import distribution, pick

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
    ("num_queries", "num_groups", "width"),
    [(4, 4, 64), (6, 2, 32), (3, 1, 20), (2, 1, 128), (6, 2, 64), (7, 1, 64), (6, 1, 128)],
)
def test_attention_is_softmax_over_what_each_row_holds(
    dtype: torch.dtype, num_queries: int, num_groups: int, width: int
) -> None:
    """Rows of different length; what lies beyond is not a number, and is not read. One, two or three queries
    of a group, and more than are looked at together.

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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_queries", "num_groups", "width"), [(6, 2, 64), (4, 4, 128), (2, 1, 20)])
def test_sequences_that_are_read_at_once_are_what_token_after_token_saw(
    dtype: torch.dtype, num_queries: int, num_groups: int, width: int
) -> None:
    """To the last bit; one is shorter than what a thread takes, one longer, and zeros are behind them.

    Mutations: the row of the first token for all of a thread's; one position further; memory as it comes.
    """
    torch.manual_seed(0)
    lengths, own = [3, 37], kernels(dtype)
    heads = torch.randn(40, num_queries + 2 * num_groups, width).to(dtype)
    common = Common(cosine=torch.randn(37, width), sine=torch.randn(37, width), scaling=0.3)
    seen, keys, values = own.read(heads, common, Places(lengths), num_groups)
    kept = torch.zeros(2, 2, num_groups, 37, width).to(dtype)
    for row, first, length in ((0, 0, 3), (1, 3, 37)):
        for here in range(length):
            one, place = heads[first + here : first + here + 1], torch.tensor([here])
            saw = own.attend(one, common, place, kept[0, row : row + 1], kept[1, row : row + 1])
            assert torch.equal(saw[0], seen[first + here])
    assert torch.equal(keys, kept[0])
    assert torch.equal(values, kept[1])


def test_places_are_counted_within_each_sequence() -> None:
    places = Places([2, 1, 3])
    assert (places.num_rows, places.longest) == (3, 3)
    assert places.row.tolist() == [0, 0, 1, 2, 2, 2]
    assert places.position.tolist() == [0, 1, 0, 0, 1, 2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_words", [7, 256, 1000, 5000])
def test_a_word_is_drawn_as_by_the_inverse_of_the_whole_sum(dtype: torch.dtype, num_words: int) -> None:
    """Numbers that are near a border of two words may fall on either side: there the sums differ in rounding.

    Mutation: begin a block's sum at zero.
    """
    torch.manual_seed(0)
    logits, temperature = (torch.randn(400, num_words) * 4).to(dtype), torch.rand(400) * 2 + 0.2
    uniform = torch.rand(400, dtype=torch.float64)
    token, logprob = kernels(dtype).draw(logits, temperature, uniform)
    probabilities = distribution(logits, temperature)
    torch.testing.assert_close(
        logprob, probabilities.gather(1, token[:, None]).squeeze(1).log(), atol=2e-5, rtol=1e-5
    )
    below = probabilities.double().cumsum(1).gather(1, token[:, None]).squeeze(1)
    above = below - probabilities.double().gather(1, token[:, None]).squeeze(1)
    assert bool(((above - 1e-6 <= uniform) & (uniform <= below + 1e-6)).all())
    assert int((token != pick(probabilities, uniform)[0]).sum()) <= 2


def test_what_has_no_mass_is_never_drawn_and_a_faint_tail_is() -> None:
    """Words 0, 1 and 5 are impossible; of the others the last has a share of e^-30.

    Mutations: e^-87 for all that lies below; the last word of the block where the sum falls short.
    """
    logits = torch.full((4, 6), -torch.inf)
    logits[:, 2:5] = torch.tensor([0.0, 0.0, -30.0])
    almost_one = 1 - 2**-53
    uniform = torch.tensor([0.0, 0.49, 0.51, almost_one], dtype=torch.float64)
    token, logprob = kernels().draw(logits, torch.ones(4), uniform)
    assert token.tolist() == [2, 2, 3, 4]
    assert logprob.tolist() == pytest.approx([-math.log(2)] * 3 + [-30 - math.log(2)], abs=1e-5)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_drawn_with_a_logprob_that_is_not(wrong: float) -> None:
    logits = torch.zeros(2, 300)
    logits[1, 299] = wrong
    token, logprob = kernels().draw(logits, torch.ones(2), torch.full((2,), 0.5, dtype=torch.float64))
    assert logprob.isfinite().tolist() == [True, False]
    assert 0 <= int(token[1]) < 300


def test_a_row_draws_the_same_beside_rows_that_draw_in_other_ways() -> None:
    """Plain, greedy, truncated, exploring. Mutation: send all rows one way if one needs it."""
    own = kernels()
    torch.manual_seed(0)
    logits, uniform = torch.randn(5, 300), torch.rand(5, dtype=torch.float64)
    controls = Controls(
        temperature=torch.tensor([1.0, 0.0, 0.7, 1.0, 1.3]),
        top_k=torch.tensor([0, 0, 5, 0, 0]),
        top_p=torch.ones(5),
        beta=torch.zeros(5),
        epsilon=torch.tensor([0.0, 0.0, 0.0, 0.2, 0.0]),
    )
    assert controls.is_plain.tolist() == [True, False, False, False, True]
    token, logprob = draw(logits, None, controls, uniform, own)
    for row in range(5):
        one = torch.tensor([row])
        alone = draw(logits[one], None, controls.only(one), uniform[one], own)
        assert (int(alone[0]), float(alone[1])) == (int(token[row]), float(logprob[row]))
    by_torch = pick(played(logits, None, controls), uniform)
    assert token.tolist() == by_torch[0].tolist()
    torch.testing.assert_close(logprob, by_torch[1])


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
    with pytest.raises(ValueError, match="one temperature and one number"):
        own.draw(x, torch.ones(3), torch.zeros(2, dtype=torch.float64))
    for lengths in ([9, 9], [8, 9]):
        with pytest.raises(ValueError, match="not at these places, or there are too few turns"):
            own.read(torch.zeros(18, 3, 4), common, Places(lengths), 1)


def test_without_a_compiler_torch_decodes_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    kernels_for.cache_clear()
    library.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert kernels_for(torch.float32, "cpu") is None
    assert "there is no C compiler" in caplog.text
    kernels_for.cache_clear()
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
    # A source that is compiled at once.
    for name in build.SOURCES:
        (tmp_path / name).write_text("int nothing;" if name.endswith(".c") else "")
    monkeypatch.setattr(build, "HERE", tmp_path)
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
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "other"))
    library()
    library.cache_clear()
    [elsewhere] = (tmp_path / "other").iterdir()
    assert [file.suffix for file in elsewhere.iterdir()] == [".so"]
    elsewhere.chmod(0o777)
    with pytest.raises(NotBuilt, match=r"(others can write there.*){2}"):
        library()
    library.cache_clear()


def test_no_flag_changes_the_arithmetic_of_the_whole_process() -> None:
    """Linked with -ffast-math, a library makes the processor round numbers near zero down to it."""
    kernels()
    assert "-ffast-math" not in build.FLAGS
    assert float(torch.tensor(1e-30) * torch.tensor(1e-10)) > 0.0

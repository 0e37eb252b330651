import math

import pytest
import torch

from rollout.engines.sampling import distribution, pick, truncate, uniforms


def column(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def test_the_distribution_divides_logits_by_the_temperature_of_their_row() -> None:
    # softmax of (0, ln 3) is (1/4, 3/4); of twice that (T = 0.5), (1/10, 9/10).
    logits = torch.tensor([[0.0, math.log(3.0)]] * 2)
    expected = torch.tensor([[0.25, 0.75], [0.1, 0.9]])
    torch.testing.assert_close(distribution(logits, column(1.0, 0.5)), expected)


def test_temperature_zero_is_certain_of_the_most_probable_token_and_spares_its_neighbour() -> None:
    logits = torch.tensor([[0.0, 5.0, 4.0], [0.0, 0.0, 0.0]])
    probabilities = distribution(logits, column(0.0, 1.0))
    assert probabilities[0].tolist() == [0.0, 1.0, 0.0]
    torch.testing.assert_close(probabilities[1], torch.full((3,), 1 / 3))


def test_logits_in_bfloat16_are_raised_to_float32_before_the_sum() -> None:
    probabilities = distribution(torch.zeros(1, 1000, dtype=torch.bfloat16), column(1.0))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))


def test_top_k_keeps_exactly_k_and_renormalises() -> None:
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    # The best two are 0.4 and 0.3: 4/7 and 3/7.
    kept = truncate(probabilities, column(2, dtype=torch.int64), column(1.0))
    torch.testing.assert_close(kept, torch.tensor([[0.0, 4 / 7, 0.0, 3 / 7]]))


def test_top_k_keeps_k_even_among_equals() -> None:
    kept = truncate(torch.full((1, 8), 0.125), column(3, dtype=torch.int64), column(1.0))
    assert (kept > 0).sum() == 3


@pytest.mark.parametrize(
    ("top_p", "expected"),
    # Descending 0.5, 0.25, 0.25 (exact in binary): the smallest set with mass 0.5 is the first alone.
    [(0.5, [0.0, 1.0, 0.0]), (0.4, [0.0, 1.0, 0.0]), (0.8, [0.25, 0.5, 0.25])],
)
def test_top_p_keeps_the_smallest_set_with_that_mass(top_p: float, expected: list[float]) -> None:
    kept = truncate(torch.tensor([[0.25, 0.5, 0.25]]), column(0, dtype=torch.int64), column(top_p))
    torch.testing.assert_close(kept, torch.tensor([expected]))


def test_top_p_counts_the_mass_that_top_k_has_left() -> None:
    # top-k leaves 0.5 and 0.3, renormalised 0.625 and 0.375: the first alone has mass 0.6.
    kept = truncate(torch.tensor([[0.5, 0.3, 0.2]]), column(2, dtype=torch.int64), column(0.6))
    assert kept.tolist() == [[1.0, 0.0, 0.0]]


def test_rows_that_ask_for_no_truncation_are_the_same_bits_beside_one_that_does() -> None:
    probabilities = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)).softmax(-1)
    kept = truncate(probabilities, column(0, 50, 5, dtype=torch.int64), column(1.0, 1.0, 0.9))
    assert torch.equal(kept[:2], probabilities[:2])
    assert not torch.equal(kept[2], probabilities[2])


def test_pick_inverts_the_cumulative_distribution_and_never_draws_what_has_no_mass() -> None:
    # Cumulative 0, 0.25, 0.25, 0.75, 0.75, 1: the words 0, 2 and 4 have no mass.
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.0, 0.25]])
    aims = [0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53]
    token, logprob = pick(probabilities.expand(6, -1), column(*aims, dtype=torch.float64))
    assert token.tolist() == [1, 1, 3, 3, 5, 5]
    expected = column(0.25, 0.25, 0.5, 0.5, 0.25, 0.25).log()
    torch.testing.assert_close(logprob, expected)


def test_pick_tells_the_words_of_a_faint_tail_apart() -> None:
    # One word has 1 - 2^-20, after it come 1024 words of 2^-30: too little to be seen beside 1 in float32.
    probabilities = torch.full((1, 1025), 2.0**-30)
    probabilities[0, 0] = 1 - 2.0**-20
    words = torch.tensor([1, 2, 700, 1024])
    uniform = 1 - 2.0**-20 + (words.double() - 0.5) * 2.0**-30
    token, logprob = pick(probabilities.expand(4, -1), uniform)
    assert token.tolist() == words.tolist()
    torch.testing.assert_close(logprob, torch.full((4,), -30 * math.log(2.0)))


def test_a_large_vocabulary_is_drawn_from_as_if_it_were_summed_in_one_go() -> None:
    torch.manual_seed(0)
    # 3 blocks of 256, with words, and a whole block, that have no mass.
    probabilities = torch.randn(64, 768).mul(4).softmax(-1)
    probabilities[:, 200:520] = 0.0
    uniform = torch.rand(64, dtype=torch.float64)
    cumulative = probabilities.double().cumsum(-1)
    expected = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1)
    token, logprob = pick(probabilities, uniform)
    assert torch.equal(token, expected)
    assert torch.equal(logprob, probabilities[torch.arange(64), token].log())
    ends = torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    first_and_last, _ = pick(probabilities[:1].expand(2, -1).contiguous(), ends)
    has_mass = probabilities[0].nonzero().squeeze(1)
    assert first_and_last[0] == has_mass[0]
    assert probabilities[0, first_and_last[1]] > 0


def test_what_is_not_finite_stays_visible_in_the_logprob() -> None:
    logits = torch.tensor([[0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf], [math.nan, 0.0]])
    probabilities = distribution(logits, column(1.0, 1.0, 1.0, 0.0))
    _, logprob = pick(probabilities, torch.full((4,), 0.5, dtype=torch.float64))
    assert not logprob.isfinite().any()


def test_uniforms_depend_on_the_seed_alone_and_begin_alike_for_every_length() -> None:
    assert uniforms(5, 3).tolist() == uniforms(5, 100)[:3].tolist()
    assert uniforms(5, 3).tolist() != uniforms(6, 3).tolist()
    many = uniforms(2**63 - 1, 10_000)
    assert many.min() >= 0.0
    assert many.max() < 1.0
    # The mean of n uniforms has standard error 1/sqrt(12 n) = 0.0029.
    assert abs(many.mean() - 0.5) < 4 * 0.0029


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        distribution(torch.zeros(2, 3), column(1.0))
    with pytest.raises(ValueError, match="columns"):
        pick(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.float64))

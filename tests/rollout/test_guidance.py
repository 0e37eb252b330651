import math

import pytest
import torch

from rollout.engines.guidance import Controls, guided, mixed, played
from rollout.engines.sampling import distribution, truncate


def controls(*rows: dict[str, float]) -> Controls:
    """One row of settings per completion; what is not named is neutral."""
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "beta": 0.0, "epsilon": 0.0}
    columns = {name: torch.tensor([{**neutral, **row}[name] for row in rows]) for name in neutral}
    return Controls(**columns)


def test_guidance_multiplies_by_the_exponential_of_beta_times_the_advantage() -> None:
    # (1/4, 3/4) · (exp(2 ln 3), 1) = (9/4, 3/4): renormalised (3/4, 1/4).
    p = guided(torch.tensor([[0.25, 0.75]]), torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([2.0]))
    torch.testing.assert_close(p, torch.tensor([[0.75, 0.25]]))


def test_what_a_row_of_advantages_has_in_common_has_no_influence() -> None:
    p, a, beta = torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[1.0, -1.0, 0.5]]), torch.tensor([3.0])
    torch.testing.assert_close(guided(p, a, beta), guided(p, a + 5.0, beta))


def test_a_token_without_mass_stays_without_however_good_it_is() -> None:
    p = guided(torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([[0.0, 1e30, 0.0]]), torch.tensor([1.0]))
    assert p.tolist() == [[0.5, 0.0, 0.5]]


def test_a_share_of_tokens_is_drawn_uniformly_from_what_was_kept() -> None:
    # 0.8 · 0.9 + 0.2 / 2 = 0.82 and 0.8 · 0.1 + 0.2 / 2 = 0.18; the last was not kept.
    kept = torch.tensor([[True, True, False]])
    p = mixed(torch.tensor([[0.9, 0.1, 0.0]]), kept, torch.tensor([0.2]))
    torch.testing.assert_close(p, torch.tensor([[0.82, 0.18, 0.0]]))


def test_truncation_comes_before_guidance() -> None:
    # top_k 2 of (0.5, 0.3, 0.2) keeps (5/8, 3/8), whatever the third is worth; exp(ln 5) makes 3/8 to 15/8.
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    advantages = torch.tensor([[0.0, math.log(5.0), 100.0]])
    p = played(logits, advantages, controls({"top_k": 2, "beta": 1.0}))
    torch.testing.assert_close(p, torch.tensor([[0.25, 0.75, 0.0]]))


def test_the_temperature_divides_the_logits_and_not_the_advantages() -> None:
    # softmax(2 · (0, ln 3)) = (1/10, 9/10); times (9, 1): (1/2, 1/2).
    logits = torch.tensor([[0.0, math.log(3.0)]])
    p = played(logits, torch.tensor([[math.log(9.0), 0.0]]), controls({"temperature": 0.5, "beta": 1.0}))
    torch.testing.assert_close(p, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize(
    ("row", "best"),
    # log π + A is up to a constant ln 4, ln 3 + ln 2, ln 1 + ln 3.
    [
        ({}, 0),
        ({"beta": 1.0}, 1),
        ({"beta": 9.0}, 2),
        ({"beta": 9.0, "top_k": 2}, 1),
        ({"beta": 1.0, "top_k": 1}, 0),
    ],
)
def test_greedy_takes_the_best_of_the_truncated_model_and_the_advantage(row: dict, best: int) -> None:
    logits = torch.tensor([[math.log(4.0), math.log(3.0), 0.0]])
    advantages = torch.tensor([[0.0, math.log(2.0), math.log(3.0)]])
    p = played(logits, advantages, controls({"temperature": 0.0, **row}))
    assert p.tolist() == [[float(i == best) for i in range(3)]]


def test_greedy_with_a_share_of_uniform_draws_that_from_what_truncation_keeps() -> None:
    # Not from the one token that greedy keeps: 0.9 + 0.1 / 2, and 0.1 / 2.
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    p = played(logits, None, controls({"temperature": 0.0, "top_k": 2, "epsilon": 0.1}))
    torch.testing.assert_close(p, torch.tensor([[0.95, 0.05, 0.0]]))


def test_rows_that_are_not_guided_are_the_same_bits_beside_rows_that_are() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    rows = [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_k": 9, "top_p": 0.8}]
    alone = controls(*rows, {})
    plain = truncate(distribution(logits, alone.temperature), alone.top_k, alone.top_p)
    assert torch.equal(played(logits, None, alone), plain)
    advantages = torch.randn(4, 50)
    advantages[0, 3], advantages[1, 4] = torch.inf, torch.nan
    beside = played(logits, advantages, controls(*rows, {"beta": 2.0, "epsilon": 0.3, "temperature": 0.0}))
    assert torch.equal(beside[:3], plain[:3])
    assert not torch.equal(beside[3], plain[3])


def test_what_is_not_finite_stays_visible() -> None:
    advantages = torch.tensor([[0.0, torch.nan], [torch.inf, 0.0]])
    for row in ({"beta": 1.0}, {"beta": 1.0, "temperature": 0.0, "epsilon": 0.5}):
        assert not played(torch.zeros(2, 2), advantages, controls(row, row)).isfinite().all(1).any()


def test_every_row_is_a_distribution() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, advantages = torch.randn(60, 40, generator=generator), torch.randn(60, 40, generator=generator)
    rows = [
        {"temperature": t, "top_k": k, "top_p": p, "beta": b, "epsilon": e}
        for t in (0.0, 0.6, 1.0)
        for k, p in ((0, 1.0), (5, 0.9))
        for b in (0.0, 4.0)
        for e in (0.0, 0.25, 1.0)
    ][:60]
    drawn = played(logits[: len(rows)], advantages[: len(rows)], controls(*rows))
    torch.testing.assert_close(drawn.sum(1), torch.ones(len(rows)))
    assert bool((drawn >= 0).all())


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="need advantages"):
        played(torch.zeros(1, 2), None, controls({"beta": 1.0}))
    with pytest.raises(ValueError, match="two matrices"):
        guided(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1))
    with pytest.raises(ValueError, match="two matrices"):
        mixed(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool), torch.zeros(1))

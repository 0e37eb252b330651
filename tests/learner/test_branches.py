"""Attention over a prompt and its completions against the plain formula: the native kernel, and torch."""

import pytest
import torch
from torch import Tensor

from antiphon.native.branches import branch_kernels
from learner.attention import attending_by
from learner.batch import Batch
from learner.functional.branches import Branches, branched_attention
from learner.layout import bundles, shared
from tests.learner.fakes_groups import random_groups
from tests.learner.fakes_models import tiny_llama

ROWS = [[(5, 3, 7)], [(17, 30, 1, 64), (9, 2)], [(40,), (31,)], [(1, 1, 1), (2, 25, 24, 49)], [(3, 0, 4)]]
"""Tokens of the prompt and of each completion of each row: parts shorter and longer than a block."""
HEADS = [(4, 4, 64), (6, 2, 20), (2, 1, 128)]
"""Heads, groups of keys and values, width of a head."""
PADDING = 3


def branches_of(rows: list[tuple[int, ...]]) -> Branches:
    num_parts = max(map(len, rows))
    ends = [[sum(row[: i + 1]) for i in range(num_parts)] for row in rows]
    return Branches(
        ends=torch.tensor(ends),
        length=max(map(sum, rows)) + PADDING,
        num_prompt=max(row[0] for row in rows),
        num_completion=max((part for row in rows for part in row[1:]), default=0),
    )


def parts_of(branches: Branches) -> Tensor:
    """The number of the part that each token belongs to; K on padding. [R, S]"""
    return (torch.arange(branches.length)[:, None] >= branches.ends[:, None]).sum(-1)


def plainly(heads: list[Tensor], branches: Branches, scaling: float) -> Tensor:
    """All pairs, and then only those that see each other."""
    part, token = parts_of(branches), torch.arange(branches.length)
    query, key = part[:, :, None], part[:, None]
    sees = ((key == 0) | (key == query)) & (token[:, None] >= token)
    share = heads[0].shape[1] // heads[1].shape[1]
    q, k, v = heads[0], *(x.repeat_interleave(share, dim=1) for x in heads[1:])
    weights = (q @ k.transpose(2, 3) * scaling).masked_fill(~sees[:, None], -torch.inf).softmax(-1)
    return (weights @ v).transpose(1, 2)


def random_heads(branches: Branches, num_heads: int, num_groups: int, width: int) -> list[Tensor]:
    """Queries and keys in the order in which products give them, values in another one."""
    torch.manual_seed(0)
    num_rows, length = len(branches.ends), branches.length
    queries = torch.randn(num_rows, length, num_heads, width).transpose(1, 2)
    keys = torch.randn(num_rows, length, num_groups, width).transpose(1, 2)
    return [queries, keys, torch.randn(num_rows, num_groups, length, width)]


@pytest.mark.parametrize("shape", HEADS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_seen_and_its_gradients_are_those_of_the_plain_formula(
    rows: list[tuple[int, ...]], shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    """float32 by the kernel, float64 by torch. Mutations: see one's own token not; the prompt of another row;
    a part one token further; no scaling in the gradient of keys; gradients of one head of a group alone."""
    branches = branches_of(rows)
    is_real = (parts_of(branches) < branches.ends.shape[1])[:, :, None, None]
    heads = random_heads(branches, *shape)
    by_seen = torch.randn(heads[0].transpose(1, 2).shape) * is_real
    wanted_heads = [x.double().requires_grad_() for x in heads]
    wanted = plainly(wanted_heads, branches, 0.3)
    (wanted * by_seen).sum().backward()
    found_heads = [x.to(dtype).requires_grad_() for x in heads]
    found = branched_attention(*found_heads, branches, 0.3)
    (found * by_seen).sum().backward()
    # Scores reach ±10 and gradients ±100 here: sums of a few dozen float32 products.
    atol = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close((found * is_real).double(), wanted * is_real, rtol=0, atol=atol)
    for one, other in zip(found_heads, wanted_heads, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=0, atol=atol)


def test_padding_is_not_read_and_gets_no_gradient() -> None:
    """Mutation: leave what stands there as it was allocated."""
    if branch_kernels() is None:
        pytest.skip("no native kernels here")
    branches = branches_of([(5, 3, 7), (4, 2)])
    padding = (parts_of(branches) == 3)[:, None, :, None]
    assert padding.sum() == PADDING + PADDING + 9
    heads = [x.masked_fill(padding, torch.nan).requires_grad_() for x in random_heads(branches, 4, 2, 16)]
    seen = branched_attention(*heads, branches, 1.0)
    seen.sum().backward()
    assert bool((seen.transpose(1, 2).masked_select(padding) == 0).all())
    for head in heads:
        assert bool(head.grad.isfinite().all())
        assert bool((head.grad.masked_select(padding) == 0).all())


def test_half_precision_comes_back_as_such() -> None:
    branches = branches_of([(5, 3, 7)])
    heads = [x.bfloat16() for x in random_heads(branches, 2, 2, 16)]
    seen = branched_attention(*heads, branches, 0.3)
    assert seen.dtype == torch.bfloat16
    wanted = plainly([x.double() for x in heads], branches, 0.3)
    torch.testing.assert_close(seen[:, :15].double(), wanted[:, :15], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("wrong", ["keys", "ends", "length"])
def test_shapes_that_do_not_match_are_refused(wrong: str) -> None:
    branches = branches_of([(5, 3, 7), (4, 2)])
    queries, keys, values = random_heads(branches, 4, 2, 16)
    if wrong == "keys":
        keys = keys[:, :1]
    if wrong == "ends":
        queries, keys, values = queries[:1], keys[:1], values[:1]
    if wrong == "length":
        queries, keys, values = (x[:, :, 1:] for x in (queries, keys, values))
    with pytest.raises(ValueError, match="do not match"):
        branched_attention(queries, keys, values, branches, 1.0)


def test_ends_that_fall_or_lie_outside_are_refused_by_the_kernel() -> None:
    """They are addresses there. Mutation: leave the last step out."""
    kernels = branch_kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    heads = random_heads(branches_of([(5, 3)]), 2, 2, 16)
    for ends in ([[5, 4]], [[5, 12]], [[-1, 4]]):
        with pytest.raises(ValueError, match="rise from 0 up to 11"):
            kernels.attend(*heads, torch.tensor(ends), 1.0)


def test_taking_apart_saves_where_completions_are_about_equally_long() -> None:
    """A prompt of 4 and completions of 4, 4, and 3 of padding: 225 pairs; apart 16 + 2 · 4 · 8 = 80.
    Completions of 18 and 1: 26² = 676 pairs; apart 16 + 2 · 18 · 22 = 808."""
    assert branches_of([(4, 4, 4)]).saves
    assert not branches_of([(4, 18, 1)]).saves


def test_in_a_model_the_branches_decide_and_afterwards_the_model_is_as_it_was() -> None:
    """A mask that says something else is what tells the two. Mutation: never ask the branches."""
    batch = Batch.from_groups(random_groups(2, 3, prompt_tokens=(4, 4), completion_tokens=(3, 5)))
    layout = shared(batch, bundles(batch, range(6), 100), width=19)
    trunk = tiny_llama(head_dim=16).base_model
    assert layout.mask is not None

    def states(mask: Tensor, as_told: Tensor) -> Tensor:
        with attending_by(layout.branches, as_told, trunk):
            ids = {"input_ids": layout.token_ids, "position_ids": layout.position_ids}
            return trunk(**ids, attention_mask=mask, use_cache=False).last_hidden_state.flatten(0, 1)

    is_seen = torch.cat((layout.states, layout.finals))
    everything = torch.ones_like(layout.mask).tril()
    plain = trunk(
        input_ids=layout.token_ids, position_ids=layout.position_ids, attention_mask=layout.mask
    ).last_hidden_state.flatten(0, 1)[is_seen]
    by_branches = states(everything, everything)[is_seen]
    by_another_mask = states(everything, layout.mask)[is_seen]
    torch.testing.assert_close(by_branches, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(by_another_mask, plain, rtol=0, atol=1e-2)
    assert trunk.config._attn_implementation == "sdpa"


def test_a_pass_that_fails_leaves_the_model_as_it_was() -> None:
    trunk = tiny_llama().base_model
    branches = branches_of([(4, 2)])
    with pytest.raises(IndexError), attending_by(branches, None, trunk):
        trunk(input_ids=torch.full((1, 9), 1000))
    assert trunk.config._attn_implementation == "sdpa"

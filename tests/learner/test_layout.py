from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from learner.batch import Batch
from learner.layout import bundles, lay_out, plain, prompt_lengths, shared
from learner.model import PolicyModel
from tests.learner.fakes_groups import group, random_groups, trajectory
from tests.learner.fakes_models import tiny_gpt2, tiny_llama, tiny_qwen2


def test_a_shared_row_by_hand() -> None:
    # prompt 7 8, completions 1 2 and 3: one row 7 8 1 2 3, where 3 sees 7 8 3 and counts from position 2
    batch = Batch.from_groups([group(0, [trajectory([7, 8], [1, 2]), trajectory([7, 8], [3])], [0.0, 1.0])])
    layout = shared(batch, [[0, 1]], width=5)
    assert layout.token_ids.tolist() == [[7, 8, 1, 2, 3]]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert layout.mask is not None
    assert layout.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    # the prompt ends after 2 tokens, the completions after 4 and 5
    assert layout.branches.ends.tolist() == [[2, 4, 5]]
    assert (layout.branches.num_prompt, layout.branches.num_completion) == (2, 2)
    # states before 1, 2 and 3: tokens 8, 1 and 8; states after the rows: tokens 2 and 3
    assert layout.states.tolist() == [1, 2, 1]
    assert layout.finals.tolist() == [3, 4]


def test_a_shared_row_with_fewer_completions_repeats_its_last_end() -> None:
    """Mutation: repeat the end of the prompt, so that ends fall."""
    two = group(0, [trajectory([7, 8], [1, 2]), trajectory([7, 8], [3])], [0.0, 1.0])
    batch = Batch.from_groups([two, group(1, [trajectory([9], [1, 2])], [0.0])])
    layout = shared(batch, [[0, 1], [2]], width=6)
    assert layout.branches.ends.tolist() == [[2, 4, 5], [1, 3, 3]]
    assert layout.branches.length == 6


def test_a_plain_layout_points_at_the_token_before() -> None:
    batch = Batch.from_groups([group(0, [trajectory([7, 8], [1, 2]), trajectory([7, 8], [3])], [0.0, 1.0])])
    layout = plain(batch)
    assert layout.mask is None
    assert layout.states.tolist() == [1, 2, 5]
    assert layout.finals.tolist() == [3, 6]


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_qwen2])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sharing_prompts_changes_neither_outputs_nor_gradients(
    make: Callable[..., PreTrainedModel], attention: str
) -> None:
    batch = Batch.from_groups(random_groups(3, 4, prompt_tokens=(5, 12)))
    assert lay_out(batch, share_prompts=True).mask is not None
    found = []
    for share_prompts in (False, True):
        lm = make(dtype=torch.float64)
        lm.set_attn_implementation(attention)
        outputs = PolicyModel(lm, share_prompts=share_prompts)(batch)
        (outputs["logprob"] * torch.arange(batch.token_ids.shape[1])).sum().backward()
        found.append([outputs["logprob"], outputs["entropy"], *(p.grad for p in lm.parameters())])
    for one, other in zip(*found, strict=True):
        # Llama and Qwen compute norms and rotations in fp32 whatever their dtype.
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9 if make is tiny_gpt2 else 1e-4)


def test_rows_are_bundled_by_group_and_by_the_tokens_of_their_prompt() -> None:
    same = [trajectory([7, 8], [1, 2]), trajectory([7, 8], [3]), trajectory([7, 9], [3])]
    other = [trajectory([7, 9], [1])]
    batch = Batch.from_groups([group(0, same, [0.0] * 3), group(1, other, [0.0])])
    assert bundles(batch, range(4), max_tokens=100) == [[0, 1], [2], [3]]
    assert bundles(batch, [1, 0, 3], max_tokens=100) == [[1, 0], [3]]


def test_a_bundle_does_not_grow_past_its_limit() -> None:
    batch = Batch.from_groups([group(0, [trajectory([7, 8], [1, 2])] * 5, [0.0] * 5)])
    # 2 + 2 + 2 = 6 tokens fit into 7, a third completion does not
    assert bundles(batch, range(5), max_tokens=7) == [[0, 1], [2, 3], [4]]


def test_where_sharing_saves_little_the_rows_stay_as_they_are() -> None:
    batch = Batch.from_groups(random_groups(2, 2, prompt_tokens=(1, 1), completion_tokens=(20, 20)))
    assert lay_out(batch, share_prompts=True).mask is None


def test_the_prompt_ends_at_the_first_action() -> None:
    batch = Batch.from_groups([group(0, [trajectory([7, 8], [1, 2])], [0.0])])
    assert prompt_lengths(batch).tolist() == [2]

"""The bounds of a GPU's work, worked by hand, and the refusal of a machine without one."""

import pytest
import torch

from antiphon.errors import UserError
from benchmarks.bounds import Shape, group_pairs
from benchmarks.gpu import SHAPE, require_gpu

SMALL = Shape(
    num_layers=2, hidden_size=4, mlp_size=6, num_heads=2, num_kv_heads=1, head_size=3, vocab_size=10
)


def test_a_step_reads_every_weight_once_and_the_keys_and_values_of_all_rows():
    """A layer: 4 x (2 + 1 + 1 + 2) x 3 = 72 in attention, 3 x 4 x 6 = 72 in the MLP. Two of them and 4 x 10
    of the unembedding: 328. A position: keys and values of 2 layers and 3 numbers, 12. 5 rows of 7 positions:
    420. In two bytes each: 1496. Mutations: heads of queries in the place of those of keys; weights read per
    row."""
    assert SMALL.product_parameters == 328
    assert SMALL.step_bytes(num_rows=5, num_positions=7) == 2 * (328 + 420)


def test_an_update_multiplies_forward_once_and_backward_twice():
    """6 tokens: 2 x 2 x 144 x 6 = 3456. Logits at 4: 2 x 40 x 4 = 320. 20 pairs: two products of 3 numbers in
    2 heads and 2 layers, 2 x 2 x 3 x 2 x 2 x 20 = 960. Three times 4736. Mutation: logits at every token."""
    assert SMALL.update_flops(num_tokens=6, num_actions=4, num_pairs=20) == 3 * (3456 + 320 + 960)


def test_completions_see_their_prompt_and_themselves():
    """Prompt of 3: 1 + 2 + 3. Completions of 2 and 1: (4 + 5) and 4. Mutation: completions see each other."""
    assert group_pairs(3, [2, 1]) == 6 + 9 + 4


def test_the_model_that_is_measured_has_between_half_and_one_and_a_half_billion_parameters():
    """16 layers x (2048 x (64 + 16) x 64 + 3 x 2048 x 8192) + 2048 x 128256 = 1.24e9."""
    assert SHAPE.product_parameters == pytest.approx(1.236e9, rel=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(UserError, match="torch sees none"):
        require_gpu()

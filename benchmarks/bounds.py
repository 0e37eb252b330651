"""What a GPU could do at best: the bytes that a decode step must read, and the operations of an update.

Called by benchmarks/gpu.py, which divides what was measured by it. Arithmetic alone.
"""

from dataclasses import dataclass

FORWARD_AND_BACKWARD = 3
"""A backward pass multiplies twice as much as the forward pass."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What of a Llama decides its bytes and operations."""

    num_layers: int
    hidden_size: int
    mlp_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocab_size: int

    @property
    def layer_parameters(self) -> int:
        """Of the products of one layer: q, k, v, output; gate, up, down."""
        heads = 2 * self.num_heads + 2 * self.num_kv_heads
        return self.hidden_size * (heads * self.head_size + 3 * self.mlp_size)

    @property
    def product_parameters(self) -> int:
        """That every decoded token is multiplied with: the layers and the unembedding."""
        return self.num_layers * self.layer_parameters + self.hidden_size * self.vocab_size

    def step_bytes(self, num_rows: int, num_positions: float, element_bytes: int = 2) -> float:
        """Read by one decode step: each weight once, keys and values of all rows.

        Args:
            num_positions: that a row looks at, on average.
        """
        per_position = 2 * self.num_layers * self.num_kv_heads * self.head_size
        return element_bytes * (self.product_parameters + num_rows * num_positions * per_position)

    def update_flops(self, num_tokens: int, num_actions: int, num_pairs: int) -> float:
        """Multiplications and additions of one forward and backward pass, nothing computed twice.

        Args:
            num_tokens: that go through the layers; a shared prompt counts once.
            num_actions: that logits are computed for.
            num_pairs: of a token and one that it sees, itself included.
        """
        layers = 2 * self.num_layers * self.layer_parameters * num_tokens
        unembedding = 2 * self.hidden_size * self.vocab_size * num_actions
        # q kᵀ and the weighted sum of v, in each layer and head.
        attention = 4 * self.num_layers * self.num_heads * self.head_size * num_pairs
        return float(FORWARD_AND_BACKWARD * (layers + unembedding + attention))


def group_pairs(prompt_length: int, lengths: list[int]) -> int:
    """Pairs of a token and one that it sees, where completions of these lengths share a prompt.

    The prompt sees itself, p (p + 1) / 2; the i-th token of a completion sees p + i.
    """
    causal = prompt_length * (prompt_length + 1) // 2
    return causal + sum(n * prompt_length + n * (n + 1) // 2 for n in lengths)

"""The model of the Wordle benchmark: a small GPT-2 with one token per letter and per colour.

`rollout/models.py` calls this for the name "gpt2-wordle". It knows nothing of the game.
"""

import torch
from transformers import GPT2Config, PreTrainedModel, PreTrainedTokenizerFast

from rollout.letters import letter_config, letter_tokenizer, random_model

LETTERS = "abcdefghijklmnopqrstuvwxyzBYGX>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """<pad> and <eos> as ids 0 and 1, then the letters, a to z, from 2, the colours BYGX, and the sign >."""
    return letter_tokenizer(LETTERS, build_config().n_positions)


def build_config() -> GPT2Config:
    """The architecture: 4 layers of width 128, 33 tokens, 0.8 million parameters."""
    return letter_config(LETTERS, width=128, num_layers=4, num_heads=4, num_positions=256)


def build_model(
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """The model with parameters drawn from `seed`; the global random state is left as it was."""
    return random_model(build_config(), seed, dtype, attn_implementation)

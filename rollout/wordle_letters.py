"""The model of the Wordle benchmark: a small Llama with one token per letter and per colour.

`rollout/models.py` calls this for the name "llama-wordle". It knows nothing of the game.
"""

import torch
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from rollout.letters import letter_tokenizer, random_model

LETTERS = "abcdefghijklmnopqrstuvwxyzBYGX>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """<pad> and <eos> as ids 0 and 1, then the letters, a to z, from 2, the colours BYGX, and the sign >."""
    return letter_tokenizer(LETTERS, build_config().max_position_embeddings)


def build_config() -> LlamaConfig:
    """The architecture: 2 layers of width 128, 33 tokens, 0.3 million parameters.

    A colour stands five tokens behind its letter, wherever in the game: a model with relative (rotary)
    positions learns that once, one with absolute positions for each place. And weights have the scale that
    suits this width; with 0.02, that of far larger models, this one needs twice as many updates.
    """
    return LlamaConfig(
        vocab_size=2 + len(LETTERS),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=256,
        initializer_range=0.08,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )


def build_model(
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """The model with parameters drawn from `seed`; the global random state is left as it was."""
    return random_model(build_config(), seed, dtype, attn_implementation)

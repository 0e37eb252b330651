"""Small models and tokenizers with one token per letter, made from nothing.

Here what they have in common, and the model of the random-walks benchmark: `rollout/models.py` calls this for
the name "gpt2-walks". It knows nothing of graphs.
"""

import torch
from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers import models as token_models
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

PAD, EOS = "<pad>", "<eos>"
LETTERS = "abcdefghijklmnopqrstu"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """<pad> and <eos> as ids 0 and 1, then one token per letter: a is 2, u is 22."""
    return letter_tokenizer(LETTERS, build_config().n_positions)


def build_config() -> GPT2Config:
    """The architecture that trlX gives to the benchmark: 6 layers of width 144, 23 tokens, 1.7 million
    parameters. Without dropout, so that no two passes differ."""
    return GPT2Config(
        vocab_size=2 + len(LETTERS),
        n_embd=144,
        n_layer=6,
        n_head=12,
        # The GELU of GPT-2, in one operation instead of seven.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
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


def letter_tokenizer(letters: str, max_length: int) -> PreTrainedTokenizerFast:
    """<pad> and <eos> as ids 0 and 1, then one token per letter.

    Other characters are no tokens and are left out. Nothing is added to a text by itself.
    """
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, *letters])}
    by_letter = Tokenizer(token_models.BPE(vocab=vocabulary, merges=[]))
    by_letter.decoder = decoders.Fuse()
    by_letter.add_special_tokens([AddedToken(token, special=True) for token in (PAD, EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=by_letter,
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=max_length,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def random_model(
    config: PreTrainedConfig, seed: int, dtype: torch.dtype, attn_implementation: str
) -> PreTrainedModel:
    """Parameters are drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attn_implementation
        )
    return model

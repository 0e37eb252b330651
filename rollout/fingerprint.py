"""A short name for what token ids mean, written beside every stored token.

The trajectory store carries it; whoever learns from another run's trajectories compares it with its own.
"""

import hashlib
import json

from transformers import PreTrainedTokenizerBase

NUM_DIGITS = 16


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Equal for two tokenizers that give every id the same text and end a completion by the same id.

    How they cut a text into tokens is not part of it: stored ids are never cut again.
    """
    facts = {"vocabulary": sorted(tokenizer.get_vocab().items()), "eos": tokenizer.eos_token_id}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:NUM_DIGITS]

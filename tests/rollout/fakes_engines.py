"""Tiny random models and what they say of a sequence, computed in the plainest way."""

import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rollout.types import Completion, Request, Sampling

NUM_WORDS = 31
"""Of the vocabulary; odd, so that no alignment hides a wrong stride."""

EOS = 2


def tiny_model(kind: str, seed: int = 0) -> PreTrainedModel:
    """Its weights are so large that its distributions are far from uniform and depend on the whole text.

    Args:
        kind: llama, gpt2, qwen2, qwen3; "wide-..." has heads of 32 numbers, the least that vLLM has a kernel
            for on a CPU; "wide-long" is a Llama with room for 512 tokens.
    """
    torch.manual_seed(seed)
    is_wide = kind.startswith("wide-")
    kind = kind.removeprefix("wide-")
    width, num_positions = (64 if is_wide else 16), (512 if kind == "long" else 64)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=NUM_WORDS,
            n_positions=num_positions,
            n_embd=width,
            n_layer=2,
            n_head=2,
            initializer_range=0.2 if is_wide else 0.5,
        )
        return GPT2LMHeadModel(config).eval()
    shape = {
        "vocab_size": NUM_WORDS,
        "hidden_size": width,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2 if is_wide else 4,
        "num_key_value_heads": 1 if is_wide else 2,
        "max_position_embeddings": num_positions,
        "initializer_range": 0.2 if is_wide else 0.4,
        "tie_word_embeddings": True,
    }
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape)).eval()
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=32 if is_wide else 8)).eval()
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


@torch.no_grad()
def logits_of(model: PreTrainedModel, token_ids: tuple[int, ...]) -> Tensor:
    """[T, V]: one sequence alone, no cache, no padding, no mask."""
    return model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0].float()


def logprobs_of(model: PreTrainedModel, request: Request, completion: Completion) -> Tensor:
    """The log-probability of each token of the completion, under softmax(logits / temperature)."""
    sequence = request.token_ids + completion.token_ids
    logits = logits_of(model, sequence[:-1])[len(request.token_ids) - 1 :]
    logprobs = (logits / request.sampling.temperature).log_softmax(-1)
    return logprobs.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)


def requests_of_all_lengths(num: int, **sampling: object) -> list[Request]:
    """Prompts of 1 to 9 tokens, the token 0 (a pad id elsewhere) among them; 3 to 12 new tokens."""
    requests = []
    for seed in range(num):
        generator = torch.Generator().manual_seed(seed)
        length = 1 + seed * 5 % 9
        prompt = torch.randint(0, NUM_WORDS, (length,), generator=generator)
        prompt[length // 2] = 0
        options = {"max_new_tokens": 3 + seed * 7 % 10} | sampling
        requests.append(
            Request(token_ids=tuple(prompt.tolist()), sampling=Sampling(**options), seed=seed)  # type: ignore[arg-type]
        )
    return requests

"""Decoding by merged products, against the model's own forward over the whole sequence."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from rollout.engines.fused import FusedDecoder, fused_decoder
from rollout.engines.kv_cache import SlotCache
from rollout.engines.passes import Said, prefill
from rollout.weights import apply, pack
from tests.rollout.fakes_engines import NUM_WORDS, tiny_model

TEXTS = ((3, 1, 4, 1, 5, 9), (2, 7), (1, 8, 2, 8))
"""Of different lengths, so that every row has its own position and mask."""


def biased_llama() -> PreTrainedModel:
    """Biases everywhere, one head per group, no tied unembedding, a head that is not width / heads wide."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=NUM_WORDS,
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=4,
        attention_bias=True,
        mlp_bias=True,
        initializer_range=0.4,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.normal_()
    return model


def mistral() -> PreTrainedModel:
    torch.manual_seed(2)
    config = MistralConfig(**{**tiny_model("llama").config.to_dict(), "model_type": "mistral"})
    config.sliding_window = None
    return MistralForCausalLM(config).eval()


MAKERS = {
    "llama": lambda: tiny_model("llama"),
    "biased": biased_llama,
    "mistral": mistral,
    "qwen2": lambda: tiny_model("qwen2"),
    "qwen3": lambda: tiny_model("qwen3"),
}


def last_token_by(fused: FusedDecoder, model: PreTrainedModel) -> Said:
    """What comes after each text: all but its last token prefilled by the model, the last one decoded."""
    cache = SlotCache(len(TEXTS))
    for row, text in enumerate(TEXTS):
        [batch] = prefill(model, [text[:-1]], max_tokens=64)
        cache.reserve(8, like=batch.layers)
        cache.put(torch.tensor([row]), batch.layers, torch.tensor([0]), len(text) - 1)
    last = torch.tensor([text[-1] for text in TEXTS])
    return fused(cache, last, torch.tensor([len(text) - 1 for text in TEXTS]))


@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_logits_and_states_are_those_of_the_model_alone(kind: str) -> None:
    model = MAKERS[kind]()
    plain = copy.deepcopy(model)
    fused = fused_decoder(model)
    assert fused is not None
    said = last_token_by(fused, model)
    for row, text in enumerate(TEXTS):
        alone = plain(input_ids=torch.tensor([text]), use_cache=False, output_hidden_states=True)
        torch.testing.assert_close(said.logits[row], alone.logits[0, -1], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(said.states[row], alone.hidden_states[-1][0, -1], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_new_weights_in_the_model_are_new_weights_in_the_decoder() -> None:
    model, other = tiny_model("qwen2", seed=0), tiny_model("qwen2", seed=5)
    fused = fused_decoder(model)
    assert fused is not None
    weights = pack(3, other)
    assert apply(weights, model) == weights.digest
    said = last_token_by(fused, model)
    for row, text in enumerate(TEXTS):
        alone = other(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(said.logits[row], alone, atol=2e-5, rtol=1e-5)


def test_the_names_and_values_of_the_model_stay_and_its_memory_does_not_grow() -> None:
    model = biased_llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused_decoder(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    attention = model.model.layers[0].self_attn
    storages = {p.weight.untyped_storage().data_ptr() for p in (attention.q_proj, attention.k_proj)}
    assert storages == {attention.v_proj.weight.untyped_storage().data_ptr()}


def test_other_architectures_are_left_to_their_own_forward() -> None:
    assert fused_decoder(tiny_model("gpt2")) is None
    model = tiny_model("llama")
    model.config.hidden_act = "gelu"
    assert fused_decoder(model) is None

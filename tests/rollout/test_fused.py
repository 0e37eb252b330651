"""Decoding by merged products, by torch and by native kernels, against the model's own forward."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from antiphon.cpu_linear import PackedLinear
from antiphon.native.build import NotBuilt
from antiphon.native.kernels import Kernels
from rollout.engines.fused import FusedDecoder, is_known
from rollout.engines.kv_cache import SlotCache
from rollout.engines.native_decoder import NativeDecoder, best_decoder
from rollout.engines.passes import Said, read
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


def decoder(kind: str, model: PreTrainedModel) -> FusedDecoder:
    if kind == "torch":
        return FusedDecoder(model)
    try:
        return NativeDecoder(model, Kernels(model.dtype))
    except NotBuilt as why:
        pytest.skip(str(why))


def last_token_by(fused: FusedDecoder, model: PreTrainedModel) -> Said:
    """What comes after each text: all but its last token prefilled by the model, the last one decoded."""
    cache = SlotCache(len(TEXTS))
    for row, text in enumerate(TEXTS):
        batch = read(model, (text[:-1],))
        cache.reserve(8, like=batch.layers)
        cache.put(torch.tensor([row]), batch.layers, torch.tensor([0]), len(text) - 1)
    last = torch.tensor([text[-1] for text in TEXTS])
    return fused(cache, last, torch.tensor([len(text) - 1 for text in TEXTS]))


@pytest.mark.parametrize("by", ["torch", "native"])
@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_logits_and_states_are_those_of_the_model_alone(kind: str, by: str) -> None:
    model = MAKERS[kind]()
    plain = copy.deepcopy(model)
    fused = decoder(by, model)
    said = last_token_by(fused, model)
    for row, text in enumerate(TEXTS):
        alone = plain(input_ids=torch.tensor([text]), use_cache=False, output_hidden_states=True)
        torch.testing.assert_close(said.logits[row], alone.logits[0, -1], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(said.states[row], alone.hidden_states[-1][0, -1], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("by", ["torch", "native"])
@torch.no_grad()
def test_new_weights_in_the_model_are_new_weights_in_the_decoder(by: str) -> None:
    """Mutation: keep the packed weights when told to forget."""
    model, other = tiny_model("qwen2", seed=0), tiny_model("qwen2", seed=5)
    fused = decoder(by, model)
    last_token_by(fused, model)
    weights = pack(3, other)
    assert apply(weights, model) == weights.digest
    fused.forget()
    said = last_token_by(fused, model)
    for row, text in enumerate(TEXTS):
        alone = other(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(said.logits[row], alone, atol=2e-5, rtol=1e-5)


def test_the_names_and_values_of_the_model_stay_and_its_memory_does_not_grow() -> None:
    model = biased_llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    FusedDecoder(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    attention = model.model.layers[0].self_attn
    storages = {p.weight.untyped_storage().data_ptr() for p in (attention.q_proj, attention.k_proj)}
    assert storages == {attention.v_proj.weight.untyped_storage().data_ptr()}


def test_other_architectures_are_left_to_their_own_forward() -> None:
    assert best_decoder(tiny_model("gpt2"), None) is None
    model = tiny_model("llama")
    model.config.hidden_act = "gelu"
    assert not is_known(model)


def test_torch_decodes_where_native_kernels_are_not_wanted() -> None:
    assert type(best_decoder(tiny_model("llama"), None)) is FusedDecoder


@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_a_prompt_that_is_read_natively_is_read_as_by_the_model(kind: str) -> None:
    """Keys, values, logits and states; the texts differ in length. Mutation: states of the first tokens."""
    model = MAKERS[kind]()
    native, wanted = decoder("native", model), read(MAKERS[kind](), TEXTS, reads_states=True)
    assert isinstance(native, NativeDecoder)
    batch = native.read(TEXTS)
    torch.testing.assert_close(batch.said.logits, wanted.logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(batch.said.states, wanted.said.states, atol=2e-5, rtol=1e-5)
    for pair, wanted_pair in zip(batch.layers, wanted.layers, strict=True):
        for row, text in enumerate(TEXTS):
            for own, other in zip(pair, wanted_pair, strict=True):
                assert own.shape == other.shape
                there = slice(0, len(text))
                torch.testing.assert_close(own[row, :, there], other[row, :, there], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_bfloat16_is_played_natively_within_its_rounding() -> None:
    """Against the same weights in float32: no further off than the model's own forward in bfloat16."""
    model = tiny_model("llama").to(torch.bfloat16)
    exact, plain = copy.deepcopy(model).float(), copy.deepcopy(model)
    said = last_token_by(decoder("native", model), plain)
    assert said.logits.dtype == torch.bfloat16
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([text])
        wanted = exact(input_ids=ids, use_cache=False).logits[0, -1]
        rounding = (plain(input_ids=ids, use_cache=False).logits[0, -1] - wanted).abs().max()
        assert (said.logits[row] - wanted).abs().max() <= 2 * rounding + 2**-6 * wanted.abs().max()


@torch.no_grad()
def test_a_packed_layer_multiplies_like_the_layer_with_the_weight_it_has_now() -> None:
    """Mutation: do not pack again."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(24, 40), torch.randn(9, 24)
    packed = PackedLinear(layer)
    torch.testing.assert_close(packed(x), layer(x), atol=1e-6, rtol=1e-5)
    layer.weight.zero_()
    packed.forget()
    torch.testing.assert_close(packed(x), layer.bias.expand(9, -1))


@torch.no_grad()
def test_a_position_beyond_the_cache_is_refused_before_anything_is_written() -> None:
    """C checks no bounds. Mutation: leave the check away."""
    model = tiny_model("llama")
    native = decoder("native", model)
    batch, cache = read(model, ((1, 2, 3),)), SlotCache(1)
    cache.reserve(8, like=batch.layers)
    with pytest.raises(IndexError, match="64 positions"):
        native(cache, torch.tensor([1]), torch.tensor([64]))
    with pytest.raises(IndexError, match="2 rows"):
        native(cache, torch.tensor([1, 1]), torch.tensor([3, 3]))

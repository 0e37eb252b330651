"""The map between the names of transformers and the tensors of vLLM, on modules that look like vLLM's."""

import pytest
import torch
from torch import nn

from antiphon.errors import UserError
from rollout.engines.vllm_tensors import named_tensors, require_same_tensors, turned_names
from rollout.weights import apply, digest, pack
from tests.rollout.fakes_engines import NUM_WORDS, tiny_model

PADDED = 64


class Packed(nn.Module):
    """Several matrices in one, as vLLM keeps them."""

    def __init__(self, *parts: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat(parts), requires_grad=False)
        self.output_partition_sizes = [len(part) for part in parts]


class Padded(nn.Module):
    """A vocabulary, filled up with rows that no word has."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        filled = torch.cat([rows, torch.zeros(PADDED - len(rows), rows.shape[1])])
        self.weight = nn.Parameter(filled, requires_grad=False)
        self.org_vocab_size = len(rows)


def like_vllm(llama: nn.Module) -> nn.Module:
    """A Llama of two layers with tied embeddings, its tensors copied into vLLM's arrangement."""
    own = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    model, layers = nn.Module(), nn.ModuleList()
    model.packed_modules_mapping = {  # type: ignore[assignment]
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }
    for n in range(2):
        layer = nn.Module()
        for block, packed, names, alone in (
            ("self_attn", "qkv_proj", ("q_proj", "k_proj", "v_proj"), "o_proj"),
            ("mlp", "gate_up_proj", ("gate_proj", "up_proj"), "down_proj"),
        ):
            path = f"model.layers.{n}.{block}."
            inner = nn.Module()
            inner.add_module(packed, Packed(*(own[f"{path}{name}.weight"] for name in names)))
            inner.add_module(alone, Packed(own[f"{path}{alone}.weight"]))
            layer.add_module(block, inner)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            layer.add_module(norm, nn.RMSNorm(16))
            getattr(layer, norm).weight.data = own[f"model.layers.{n}.{norm}.weight"]
        layers.append(layer)
    trunk = nn.Module()
    trunk.embed_tokens = Padded(own["model.embed_tokens.weight"])
    trunk.layers, trunk.norm = layers, nn.RMSNorm(16)
    trunk.norm.weight.data = own["model.norm.weight"]
    model.model, model.lm_head = trunk, nn.Module()
    model.lm_head.weight = trunk.embed_tokens.weight
    model.lm_head.org_vocab_size = NUM_WORDS  # type: ignore[assignment]
    return model


def test_the_views_are_the_whole_model_with_its_ties() -> None:
    """Mutation: padding not cut off, or the parts in another order, and the digests differ."""
    llama = tiny_model("llama")
    views = named_tensors(like_vllm(llama))
    assert digest(views) == digest(llama)
    require_same_tensors(views, llama)


def test_weights_are_written_into_the_memory_of_the_other_arrangement() -> None:
    inner, newer = like_vllm(tiny_model("llama")), tiny_model("llama", seed=1)
    weights = pack(1, newer)
    assert apply(weights, named_tensors(inner)) == weights.digest
    attention = newer.model.layers[1].self_attn
    expected = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    assert torch.equal(inner.model.layers[1].self_attn.qkv_proj.weight, expected)  # type: ignore[union-attr,index]
    # The rows that pad the vocabulary stay what they were.
    assert not inner.lm_head.weight[NUM_WORDS:].any()  # type: ignore[union-attr,index]


def test_matrices_of_gpt2_are_seen_the_other_way_round() -> None:
    gpt2 = tiny_model("gpt2")
    turned = turned_names(gpt2)
    assert "transformer.h.0.attn.c_attn.weight" in turned
    assert "transformer.wte.weight" not in turned
    layer = nn.Module()
    layer.c_attn = nn.Linear(16, 48)
    view = named_tensors(layer, {"c_attn.weight"})["c_attn.weight"]
    assert view.shape == (16, 48)
    assert view.data_ptr() == layer.c_attn.weight.data_ptr()


def test_a_model_that_lies_otherwise_in_vllm_is_refused() -> None:
    llama = tiny_model("llama")
    inner = like_vllm(llama)
    inner.model.norm.extra = nn.Parameter(torch.zeros(1))  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"1 names differ, the first is model\.norm\.extra"):
        require_same_tensors(named_tensors(inner), llama)
    swapped = like_vllm(llama)
    swapped.packed_modules_mapping["gate_up_proj"] = ["up_proj", "gate_proj"]  # type: ignore[index,operator,assignment]
    with pytest.raises(UserError, match="bytes or shapes differ"):
        require_same_tensors(named_tensors(swapped), llama)

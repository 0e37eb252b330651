"""One more token for every slot, for models built like Llama: the same mathematics in far fewer operations.

Called by the torch engine in place of the model's own forward where the architecture is a known one.
Queries, keys and values come out of one product, gate and up of another; both rotate together; grouped heads
are never copied. What is measured is in docs/results.md, command benchmarks/rollout.py.

Shapes: n rows, H width, A attention heads in G groups of keys and values, D width of a head, L positions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from antiphon.cpu_linear import speed_up
from rollout.engines.kv_cache import SlotCache
from rollout.engines.passes import Said

KINDS = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""Model types whose layers are computed here, by the names of their classes in transformers; anything else,
and any class derived from these, goes through its own forward."""

FIXED_ROPES = ("default", "linear", "llama3", "yarn")
"""Rotations that depend on the position alone; others, on the longest sequence too, fit no table."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What a layer needs beside its products."""

    num_heads: int
    num_groups: int
    head_dim: int
    scaling: float
    query_norm: nn.Module | None
    key_norm: nn.Module | None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A decoder layer whose products are merged; all weights are those of the model, seen another way."""

    input_norm: nn.Module
    query_key_value: nn.Linear
    attention: Attention
    output: nn.Module
    mlp_norm: nn.Module
    gate_up: nn.Linear
    down: nn.Module


class FusedDecoder:
    """Decodes with the weights of a model, which may be changed in place at any time."""

    def __init__(self, model: PreTrainedModel) -> None:
        trunk: Any = model.base_model
        self._embed: nn.Module = trunk.embed_tokens
        self._rotary: nn.Module = trunk.rotary_emb
        self._turns: tuple[Tensor, Tensor] | None = None
        self._layers = [_merged(layer) for layer in trunk.layers]
        self._norm: nn.Module = trunk.norm
        self._unembed: nn.Module = model.get_output_embeddings()

    def __call__(self, cache: SlotCache, token: Tensor, position: Tensor) -> Said:
        """Runs one token for each of the rows 0..n-1 of the cache, and puts its keys and values there.

        Args:
            token: [n] int64.
            position: [n] int64; the row holds all positions before it.
        """
        return self.under_mask(cache, token, position, cache.aim(position))

    def under_mask(self, cache: SlotCache, token: Tensor, position: Tensor, mask: Tensor) -> Said:
        """The same, with the mask that the cache gave when it was aimed. Nothing here is read back from the
        device, so that a GPU may capture it."""
        hidden: Tensor = self._embed(token)
        cos, sin = self._table(hidden, cache.capacity)
        turn = cos[position], sin[position]
        for number, layer in enumerate(self._layers):
            hidden = hidden + layer.output(
                _attend(layer, _normed(hidden, layer.input_norm), turn, mask, cache, number)
            )
            gate, up = layer.gate_up(_normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden = hidden + layer.down(functional.silu(gate).mul_(up))
        states = _normed(hidden, self._norm)
        return Said(self._unembed(states), states)

    def forget(self) -> None:
        """The weights have changed. Here they are read where they lie, and nothing was made of them."""

    def _table(self, hidden: Tensor, num_positions: int) -> tuple[Tensor, Tensor]:
        """cos and sin of all positions [C, 1, D], the sin of the first half negated: x cos + swapped(x) sin
        rotates."""
        if self._turns is None or len(self._turns[0]) < num_positions or self._turns[0].dtype != hidden.dtype:
            cos, sin = self._rotary(hidden, torch.arange(num_positions, device=hidden.device)[None])
            half = sin.shape[-1] // 2
            signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
            self._turns = cos[0, :, None], signed[0, :, None]
        return self._turns


def is_known(model: PreTrainedModel) -> bool:
    """Whether the layers of this model are those that are computed here."""
    kind, cls = model.config.model_type, type(model)
    known = f"transformers.models.{kind}.modeling_{kind}", f"{KINDS.get(kind)}ForCausalLM"
    is_built_so = (cls.__module__, cls.__qualname__) == known and model.config.hidden_act == "silu"
    trunk: Any = model.base_model
    return is_built_so and trunk.rotary_emb.rope_type in FIXED_ROPES


def _normed(x: Tensor, norm: Any) -> Tensor:
    """RMSNorm in one operation, where that of the model is eight: on a GPU each is a kernel. In float32 the
    same to the last bit, in half precision rounded once less."""
    return functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def _attend(
    layer: Layer, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor, cache: SlotCache, number: int
) -> Tensor:
    """What the heads of a layer bring, [n, A·D]; adds one position to the cache."""
    own = layer.attention
    num_rows, num_queries = len(x), own.num_heads
    heads = layer.query_key_value(x).view(num_rows, -1, own.head_dim)
    turned, value = heads[:, : num_queries + own.num_groups], heads[:, num_queries + own.num_groups :]
    if own.query_norm is not None and own.key_norm is not None:
        turned = torch.cat(
            (
                _normed(turned[:, :num_queries], own.query_norm),
                _normed(turned[:, num_queries:], own.key_norm),
            ),
            dim=1,
        )
    cos, signed_sin = turn
    turned = torch.addcmul(turned * cos, turned.roll(own.head_dim // 2, dims=-1), signed_sin)
    query = turned[:, :num_queries].view(num_rows, own.num_groups, -1, own.head_dim)
    keys, values = cache.update(turned[:, num_queries:, None], value[:, :, None], number)
    seen = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=own.scaling)
    return seen.reshape(num_rows, -1)


def _merged(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    head_dim = attention.head_dim
    return Layer(
        input_norm=layer.input_layernorm,
        query_key_value=_together(attention.q_proj, attention.k_proj, attention.v_proj),
        attention=Attention(
            num_heads=attention.q_proj.out_features // head_dim,
            num_groups=attention.k_proj.out_features // head_dim,
            head_dim=head_dim,
            scaling=attention.scaling,
            query_norm=getattr(attention, "q_norm", None),
            key_norm=getattr(attention, "k_norm", None),
        ),
        output=attention.o_proj,
        mlp_norm=layer.post_attention_layernorm,
        gate_up=_together(mlp.gate_proj, mlp.up_proj),
        down=mlp.down_proj,
    )


@torch.no_grad()
def _together(*layers: nn.Linear) -> nn.Linear:
    """One linear layer that gives the outputs of several, side by side.

    Its weight is the only copy: those of the layers become views of it, so that whoever changes them in place
    (`Engine.load`) changes this one.
    """
    merged = nn.Linear(1, 1, bias=layers[0].bias is not None, device="meta")
    merged.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
    merged.in_features, merged.out_features = merged.weight.shape[1], merged.weight.shape[0]
    if merged.bias is not None:
        merged.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), requires_grad=False)
    start = 0
    for layer in layers:
        end = start + layer.out_features
        layer.weight.data = merged.weight.data[start:end]
        if merged.bias is not None:
            layer.bias.data = merged.bias.data[start:end]
        start = end
    speed_up(merged)
    return merged

"""The fused decoder on a CPU with native kernels: four products per layer, one call for all between two.

Called by the torch engine through `best_decoder`; reads prompts too. The mathematics is that of fused.py,
only rounding differs: what is rounded to bfloat16 there between two operations stays float32 here until it is
stored.

Shapes as in fused.py; B prompts, the longest of T tokens.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from antiphon.cpu_linear import PackedLinear, can_pack
from antiphon.native.attention import Common, Places
from antiphon.native.kernels import Kernels
from antiphon.native.products import PanelLinear, fits, multiplier
from rollout.engines.fused import Attention, FusedDecoder, is_known
from rollout.engines.kv_cache import SlotCache
from rollout.engines.passes import Prefilled, Said, TokenIds

Attend = Callable[[Tensor, Attention, int], Tensor]
"""What the heads [n, A + 2G, D] of a layer, of which the number is given too, see: [n, A·D]."""


class NativeDecoder(FusedDecoder):
    """Decodes with packed copies of a model's weights; whoever changes those calls `forget`."""

    def __init__(self, model: PreTrainedModel, kernels: Kernels) -> None:
        super().__init__(model)
        self._kernels = kernels
        self._packed: list[PackedLinear | PanelLinear] = []
        self._layers = [
            replace(
                layer,
                query_key_value=self._pack(layer.query_key_value),
                output=self._pack(layer.output),
                gate_up=self._pack(layer.gate_up),
                down=self._pack(layer.down),
            )
            for layer in self._layers
        ]
        self._unembed = self._pack(self._unembed)

    def forget(self) -> None:
        for layer in self._packed:
            layer.forget()

    def __call__(self, cache: SlotCache, token: Tensor, position: Tensor) -> Said:
        """See FusedDecoder."""
        cache.require_room(position)
        cosine, sine = self._float_table(cache.capacity)

        def attend(heads: Tensor, own: Attention, number: int) -> Tensor:
            common = _common(own, cosine, sine)
            return self._kernels.attend(heads, common, position, *cache.block(number))

        states = self._run(token, attend)
        return Said(self._unembed(states), states)

    def read(self, prompts: tuple[TokenIds, ...]) -> Prefilled:
        """One pass over whole prompts, one behind the other: no product is made of padding."""
        places = Places([len(prompt) for prompt in prompts])
        token_ids = torch.tensor([token for prompt in prompts for token in prompt])
        cosine, sine = self._float_table(places.longest)
        layers: list[tuple[Tensor, Tensor]] = []

        def attend(heads: Tensor, own: Attention, number: int) -> Tensor:
            seen, *both = self._kernels.read(heads, _common(own, cosine, sine), places, own.num_groups)
            layers.append((both[0], both[1]))
            return seen

        ends = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0) - 1
        last = self._run(token_ids, attend)[ends]
        return Prefilled(prompts=prompts, layers=layers, said=Said(self._unembed(last), last))

    def _run(self, token: Tensor, attend: Attend) -> Tensor:
        """The states [n, H] of n tokens before the unembedding."""
        kernels = self._kernels
        hidden: Tensor = self._embed(token)
        delta: Tensor | None = None
        for number, layer in enumerate(self._layers):
            own = layer.attention
            heads = layer.query_key_value(self._add_norm(hidden, delta, layer.input_norm))
            seen = attend(heads.view(len(token), -1, own.head_dim), own, number)
            normed = self._add_norm(hidden, layer.output(seen), layer.mlp_norm)
            delta = layer.down(kernels.gated(layer.gate_up(normed)))
        return self._add_norm(hidden, delta, self._norm)

    def _add_norm(self, hidden: Tensor, delta: Tensor | None, norm: Any) -> Tensor:
        return self._kernels.add_norm(hidden, delta, norm.weight, norm.variance_epsilon)

    def _float_table(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin of all positions, [C', D] each."""
        cos, sin = self._table(torch.empty(0), num_positions)
        return cos[:, 0], sin[:, 0]

    def _pack(self, layer: Any) -> Any:
        """The layer by our own products, or by those of oneDNN."""
        if not isinstance(layer, nn.Linear):
            return layer
        multiply = multiplier(layer.weight.dtype)
        if multiply is not None and fits(layer):
            self._packed.append(PanelLinear(layer, multiply))
        elif can_pack():
            self._packed.append(PackedLinear(layer))
        else:
            return layer
        return self._packed[-1]


def best_decoder(model: PreTrainedModel, kernels: Kernels | None) -> FusedDecoder | None:
    """The fastest decoder there is for this model; None: its own forward is."""
    if not is_known(model):
        return None
    return FusedDecoder(model) if kernels is None else NativeDecoder(model, kernels)


def _common(own: Attention, cosine: Tensor, sine: Tensor) -> Common:
    query, key = own.query_norm, own.key_norm
    if query is None or key is None:
        return Common(cosine=cosine, sine=sine, scaling=own.scaling)
    norms: Any = query.weight, key.weight
    epsilon: Any = query.variance_epsilon
    return Common(cosine=cosine, sine=sine, scaling=own.scaling, norms=norms, epsilon=epsilon)

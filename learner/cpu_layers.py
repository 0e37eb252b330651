"""Lets the norms and gates of models built like Llama compute by native kernels where they lie on a CPU.

Called by the policy model. What is not known by name, and what lies elsewhere or in another precision,
computes as transformers says; only rounding differs.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.native.layers import layer_kernels
from learner.functional.layers import gated, rms_norm

KINDS = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""Model types with such layers, by the names of their classes in transformers."""


def fuse_layers(model: nn.Module) -> int:
    """Names, parameters and state of the model stay as they are, and so does the class of each module.

    Returns:
        The number of modules whose forward was replaced; 0 where there are no kernels.
    """
    if layer_kernels() is None:
        return 0
    num = 0
    for module in model.modules():
        forward = _norm if _is(module, "RMSNorm") else _mlp if _is_silu_mlp(module) else None
        if forward is not None:
            module.forward = partial(forward, module)
            num += 1
    return num


def _is(module: nn.Module, what: str) -> bool:
    """Whether the module is of the very class that ends so, of one of the known kinds."""
    known = {f"transformers.models.{kind}.modeling_{kind}.{name}{what}" for kind, name in KINDS.items()}
    return f"{type(module).__module__}.{type(module).__qualname__}" in known


def _is_silu_mlp(module: Any) -> bool:
    return _is(module, "MLP") and module.config.hidden_act == "silu"


def _norm(module: Any, hidden_states: Tensor) -> Tensor:
    kernels = layer_kernels()
    is_ours = hidden_states.device.type == "cpu" and hidden_states.dtype == torch.float32
    if kernels is None or not is_ours or module.weight.dtype != torch.float32:
        plain: Tensor = type(module).forward(module, hidden_states)
        return plain
    return rms_norm(hidden_states, module.weight, module.variance_epsilon, kernels)


def _mlp(module: Any, x: Tensor) -> Tensor:
    gate, up = module.gate_proj(x), module.up_proj(x)
    kernels = layer_kernels()
    is_ours = gate.device.type == "cpu" and gate.dtype == up.dtype in (torch.float32, torch.bfloat16)
    product = gated(gate, up, kernels) if kernels is not None and is_ours else module.act_fn(gate) * up
    down: Tensor = module.down_proj(product)
    return down

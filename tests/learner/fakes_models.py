"""Models small enough to know everything about, for the tests of the learner."""

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

VOCAB_SIZE = 32


class TableConfig(PreTrainedConfig):
    model_type = "table"

    def __init__(self, vocab_size: int = 4, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.vocab_size = self.hidden_size = vocab_size


class TableTrunk(nn.Module):
    """The hidden state is the row of the table that belongs to the current token."""

    def __init__(self, config: TableConfig) -> None:
        super().__init__()
        self.config = config
        self.rows = nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, input_ids: Tensor, **_: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.rows(input_ids))


class TableLM(PreTrainedModel):
    """A model whose next-token logits depend on the current token alone: every log-prob is known by hand."""

    config_class = TableConfig
    base_model_prefix = "model"

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config)
        self.model = TableTrunk(config)
        self.lm_head = nn.Linear(config.vocab_size, config.vocab_size, bias=False)
        nn.init.eye_(self.lm_head.weight).requires_grad_(False)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: Tensor, **_: object) -> CausalLMOutput:
        return CausalLMOutput(logits=self.lm_head(self.model(input_ids).last_hidden_state))


def table_lm(logits: Tensor) -> TableLM:
    """TableLM with these logits: row = current token, column = next token."""
    lm = TableLM(TableConfig(vocab_size=len(logits))).to(logits.dtype)
    with torch.no_grad():
        lm.model.rows.weight.copy_(logits)
    return lm


def tiny_llama(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: object) -> LlamaForCausalLM:
    """Rotary positions, grouped queries, tied embeddings; weights large enough for peaked distributions."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "tie_word_embeddings": True, "initializer_range": 0.3}
    return _build(
        LlamaForCausalLM, LlamaConfig(vocab_size=VOCAB_SIZE, **{**sizes, **more, **changes}), seed, dtype
    )


def tiny_qwen2(seed: int = 0, dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=VOCAB_SIZE, num_key_value_heads=2, initializer_range=0.3, **sizes)
    return _build(Qwen2ForCausalLM, config, seed, dtype)


def tiny_gpt2(seed: int = 0, dtype: torch.dtype = torch.float32, dropout: float = 0.1) -> GPT2LMHeadModel:
    """Absolute positions, and dropout in its config, as GPT-2 has."""
    rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3, **rates
    )
    return _build(GPT2LMHeadModel, config, seed, dtype)


def _build(model: type, config: PreTrainedConfig, seed: int, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(seed)
    lm: PreTrainedModel = model(config).to(dtype)
    return lm

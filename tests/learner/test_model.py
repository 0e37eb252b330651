from collections.abc import Callable

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM, PreTrainedModel

from antiphon.errors import UserError
from learner import model as model_module
from learner.batch import Batch
from learner.heads import ValueHead
from learner.model import PolicyModel
from tests.learner.fakes_groups import group, random_groups, trajectory
from tests.learner.fakes_models import VOCAB_SIZE, table_lm, tiny_gpt2, tiny_llama, tiny_qwen2

MODELS = [tiny_llama, tiny_gpt2, tiny_qwen2]


def test_logprobs_are_those_of_the_next_token() -> None:
    """S2: prompt [a, b], completion [c, d, e] -> [log P(c|b), log P(d|c), log P(e|d)], in a ragged batch."""
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    log_p = logits.log_softmax(dim=1)
    a, b, c, d, e = range(5)
    rows = [trajectory([a, b], [c, d, e]), trajectory([a, b], [e])]
    batch = Batch.from_groups([group(0, rows, [0.0, 1.0]), group(1, [trajectory([d], [d, a])], [0.0])])
    logprob = PolicyModel(table_lm(logits))(batch)["logprob"]
    expected = torch.zeros(3, 5)
    expected[0, 2:] = torch.stack([log_p[b, c], log_p[c, d], log_p[d, e]])
    expected[1, 2] = log_p[b, e]
    expected[2, 1:3] = torch.stack([log_p[d, d], log_p[d, a]])
    torch.testing.assert_close(logprob, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_logprobs_and_entropies_are_those_of_the_tempered_softmax(temperature: float) -> None:
    """S1."""
    lm = tiny_llama()
    batch = Batch.from_groups(random_groups(3, 2))
    outputs = PolicyModel(lm, temperature=temperature)(batch)
    logits = lm(batch.token_ids).logits[:, :-1] / temperature
    log_p = logits.log_softmax(-1)
    mask = batch.action_mask[:, 1:]
    taken = log_p.gather(-1, batch.token_ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(outputs["logprob"][:, 1:][mask], taken[mask], rtol=0, atol=1e-5)
    entropy = -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close(outputs["entropy"][:, 1:][mask], entropy[mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("share_prompts", [False, True])
def test_a_sequence_alone_scores_as_among_neighbours(
    make: Callable[..., PreTrainedModel], share_prompts: bool
) -> None:
    """S10: neighbours of any length, right padding, token 0 (the padding) inside the text."""
    lm = make()
    model = PolicyModel(lm, _trained_value_head(lm), share_prompts=share_prompts)
    batch = Batch.from_groups(random_groups(4, 3, completion_tokens=(1, 16)))
    assert (batch.token_ids[batch.action_mask] == 0).any()
    together = model(batch)
    for row in range(batch.num_rows):
        alone = model(batch.select([row]))
        width = int(batch.lengths[row])
        for name in ("logprob", "entropy", "value"):
            torch.testing.assert_close(alone[name][0], together[name][row, :width], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone["value_final"][0], together["value_final"][row], rtol=0, atol=1e-5)


def test_values_speak_of_the_state_before_the_token() -> None:
    """With V(s) = the logit of token 0 after the current one: value[t] reads token t − 1, final the last."""
    logits = torch.arange(9.0).reshape(3, 3)
    lm = table_lm(logits)
    head = ValueHead(ValueHead.Config(hidden_size=0), lm)
    with torch.no_grad():
        head.last.weight[0, 0] = 1.0
    batch = Batch.from_groups([group(0, [trajectory([2], [1, 0])], [0.0])])
    outputs = PolicyModel(lm, {"value": head})(batch)
    assert outputs["value"].tolist() == [[0.0, 6.0, 3.0]]
    assert outputs["value_final"].tolist() == [0.0]


def test_a_new_critic_says_zero_and_a_separate_one_sends_nothing_into_the_policy() -> None:
    lm = tiny_llama()
    head = ValueHead(ValueHead.Config(trunk="separate", hidden_size=8), lm)
    model = PolicyModel(lm, {"value": head})
    batch = Batch.from_groups(random_groups(2, 2))
    value = model(batch)["value"]
    assert not value.any()
    value.sum().backward()
    assert all(p.grad is None for p in lm.parameters())
    assert head.last.bias.grad is not None


def test_chunks_of_the_unembedding_change_neither_values_nor_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = Batch.from_groups(random_groups(3, 3))
    gradients = []
    for num_bytes in (2**20, 4 * VOCAB_SIZE * 5):  # all at once; five states at a time
        monkeypatch.setattr(model_module, "_CHUNK_BYTES", num_bytes)
        lm = tiny_llama(dtype=torch.float64)
        outputs = PolicyModel(lm)(batch)
        (outputs["logprob"].square().sum() + outputs["entropy"].sum()).backward()
        gradients.append([p.grad for p in lm.parameters()])
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, chunked, rtol=0, atol=1e-10)


def test_dropout_stays_off_whatever_is_asked() -> None:
    """S11."""
    model = PolicyModel(tiny_gpt2(dropout=0.5)).train()
    batch = Batch.from_groups(random_groups(2, 2))
    assert torch.equal(model(batch)["logprob"], model(batch)["logprob"])


def test_a_batch_without_actions_passes() -> None:
    batch = Batch.from_groups(random_groups(2, 2))
    empty = Batch(**{**vars(batch), "action_mask": torch.zeros_like(batch.action_mask)})
    outputs = PolicyModel(tiny_llama())(empty)
    assert not outputs["logprob"].any()
    outputs["logprob"].sum().backward()


def test_scaled_logits_are_found_and_soft_capped_ones_refused() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    granite = GraniteForCausalLM(
        GraniteConfig(vocab_size=VOCAB_SIZE, num_key_value_heads=2, logits_scaling=4.0, **sizes)
    )
    assert model_module.logit_scale(granite) == pytest.approx(0.25, abs=1e-3)
    gemma = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=VOCAB_SIZE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.01, **sizes
        )
    )
    with pytest.raises(UserError, match="Gemma2ForCausalLM"):
        PolicyModel(gemma)


def test_prompts_are_not_shared_where_attention_has_a_window() -> None:
    assert model_module.takes_pair_masks(tiny_llama())
    assert model_module.takes_pair_masks(tiny_gpt2())
    lm = tiny_qwen2()
    lm.config.use_sliding_window = True
    assert not model_module.takes_pair_masks(lm)
    flash = tiny_llama()
    flash.config._attn_implementation = "flash_attention_2"
    assert not model_module.takes_pair_masks(flash)


def _trained_value_head(lm: PreTrainedModel) -> dict[str, ValueHead]:
    head = ValueHead(ValueHead.Config(), lm)
    with torch.no_grad():
        head.last.weight.normal_(generator=torch.Generator().manual_seed(3))
    return {"value": head}

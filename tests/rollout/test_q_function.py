import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from antiphon.errors import UserError
from rollout.q_file import read_guide, write_guide
from rollout.q_function import QConfig, QFunction, for_model, joined
from tests.rollout.fakes_engines import NUM_WORDS, tiny_model
from tests.rollout.fakes_guides import FORMS, opinionated


def states(num: int, width: int = 16) -> torch.Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("hidden_size", [0, 6])
@pytest.mark.parametrize("form", FORMS)
def test_a_new_one_says_0_of_everything(form: str, hidden_size: int) -> None:
    q = for_model(QConfig(form=form, hidden_size=hidden_size, rank=3), tiny_model("llama"))
    assert len(q.all(states(5))) == 2
    assert all(torch.equal(x, torch.zeros(5, NUM_WORDS)) for x in q.all(states(5)))
    assert all(torch.equal(x, torch.zeros(5)) for x in q.taken(states(5), torch.arange(5)))
    assert torch.equal(q.value(states(5)), torch.zeros(5))


@pytest.mark.parametrize("form", FORMS)
def test_the_taken_token_has_the_value_it_has_among_all(form: str) -> None:
    q = opinionated(tiny_model("llama"), form)
    token_ids = torch.tensor([3, 0, 30, 3, 11, 3])
    taken, everything = q.taken(states(6), token_ids), q.all(states(6))
    assert len(taken) == len(everything) == FORMS[form].num_q
    for one, whole in zip(taken, everything, strict=True):
        torch.testing.assert_close(one, whole.gather(1, token_ids[:, None]).squeeze(1))


@pytest.mark.parametrize("form", FORMS)
def test_the_taken_token_sends_back_the_gradient_that_it_would_among_all(form: str) -> None:
    """The same token twice: its gradients add up."""
    q, token_ids = opinionated(tiny_model("llama"), form), torch.tensor([3, 0, 3])
    weights = torch.tensor([1.0, 2.0, -0.5])
    gradients = []
    for of in (lambda: q.taken(states(3), token_ids), lambda: q.all(states(3))):
        q.zero_grad()
        total = sum(
            (x if x.dim() == 1 else x.gather(1, token_ids[:, None]).squeeze(1)) @ weights for x in of()
        )
        total.backward()
        gradients.append([p.grad.clone() for p in q.q_heads.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_each_form_computes_what_it_says() -> None:
    """Two states' width, three words, by hand: the state is (1, 2)."""
    state = torch.tensor([[1.0, 2.0]])
    full = QFunction(QConfig(form="full", hidden_size=0, num_q=1), 2, 3)
    with torch.no_grad():
        full.q_heads[0].last.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        full.q_heads[0].last.bias.copy_(torch.tensor([0.0, 10.0, 0.0]))
    # 1, 2 + 10, 1 + 2.
    assert full.all(state)[0].tolist() == [[1.0, 12.0, 3.0]]
    low = QFunction(QConfig(form="low_rank", hidden_size=0, rank=1, num_q=1), 2, 3)
    with torch.no_grad():
        low.q_heads[0].body[1].weight.copy_(torch.tensor([[3.0, 1.0]]))
        low.q_heads[0].body[1].bias.fill_(1.0)
        low.q_heads[0].last.weight.copy_(torch.tensor([[1.0], [2.0], [0.0]]))
        low.q_heads[0].last.bias.copy_(torch.tensor([0.0, 0.0, 4.0]))
    # One number, 3·1 + 1·2 + 1 = 6; times 1, 2 and 0, plus 0, 0 and 4.
    assert low.all(state)[0].tolist() == [[6.0, 12.0, 4.0]]
    unembedding = nn.Linear(2, 3, bias=False)
    tied = QFunction(QConfig(form="tied", hidden_size=0, num_q=1), 2, 3, unembedding)
    with torch.no_grad():
        unembedding.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]))
        tied.q_heads[0].last.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]))
    # The direction is the state, the level 3·2 = 6: 1 + 6, 2 + 6, 2·1 + 2·2 + 6.
    assert tied.all(state)[0].tolist() == [[7.0, 8.0, 12.0]]


def test_advantages_are_the_least_q_minus_v() -> None:
    q = opinionated(tiny_model("llama"), "tied")
    wanted = torch.stack(q.all(states(4))).min(0).values - q.value(states(4))[:, None]
    assert torch.equal(q.advantages(states(4)), wanted)


def test_the_unembedding_is_read_but_neither_trained_nor_saved_nor_copied() -> None:
    model = tiny_model("llama")
    q = opinionated(model, "tied")
    assert all(p is not model.lm_head.weight for p in q.parameters())
    assert all(x.shape != model.lm_head.weight.shape for x in q.state_dict().values())
    q.taken(states(2), torch.tensor([1, 2]))[0].sum().backward()
    q.all(states(2))[0].sum().backward()
    assert model.lm_head.weight.grad is None
    twin = copy.deepcopy(q)
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
    assert torch.equal(twin.all(states(2))[0], q.all(states(2))[0])


def test_the_number_of_parameters_is_that_of_the_heads_alone() -> None:
    # full: 2 x (16·31 + 31) and V 16 + 1. low_rank, no hidden layer, rank 5: 2 x (16·5 + 5 + 5·31 + 31) + 17.
    # tied: 2 x (16·17 + 17) + 17.
    counts = {"full": 2 * 527 + 17, "low_rank": 2 * 271 + 17, "tied": 2 * 289 + 17}
    for form, count in counts.items():
        config = QConfig(form=form, hidden_size=0, rank=5)
        assert for_model(config, tiny_model("llama")).num_parameters == count


def test_joined_shares_the_q_heads_of_one_and_the_v_head_of_the_other() -> None:
    for form in FORMS:
        model = tiny_model("llama")
        targets, online = opinionated(model, form, seed=1), opinionated(model, form, seed=2)
        both = joined(targets, online)
        assert all(
            torch.equal(a, b) for a, b in zip(both.all(states(3)), targets.all(states(3)), strict=True)
        )
        assert torch.equal(both.value(states(3)), online.value(states(3)))
        own = {p.data_ptr() for p in both.parameters()}
        assert own <= {p.data_ptr() for q in (targets, online) for p in q.parameters()}
        assert set(both.state_dict()) == set(targets.state_dict())


def test_it_computes_in_its_own_precision_beside_a_model_in_half() -> None:
    half = tiny_model("llama").to(torch.bfloat16)
    for form in FORMS:
        q = opinionated(half, form).float()
        said = states(3).to(torch.bfloat16)
        assert {x.dtype for x in (*q.all(said), *q.taken(said, torch.arange(3)), q.value(said))} == {
            torch.float32
        }


def test_what_does_not_fit_is_refused() -> None:
    q = opinionated(tiny_model("llama"))
    with pytest.raises(ValueError, match=r"want states \[N, 16\], got \(2, 15\)"):
        q.all(states(2, 15))
    with pytest.raises(ValueError, match=r"want states \[N, 16\], got \(1, 2, 16\)"):
        q.value(states(2)[None])
    with pytest.raises(ValueError, match=r"want token_ids \[2\], got \(3,\)"):
        q.taken(states(2), torch.arange(3))
    with pytest.raises(ValueError, match="need the unembedding"):
        QFunction(QConfig(form="tied"), 16, 31)
    with pytest.raises(ValueError, match=r"want an unembedding \[31, 16\], got \(16, 31\)"):
        QFunction(QConfig(form="tied"), 16, 31, nn.Linear(31, 16))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_beside_the_model_holds_all_of_it(form: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    q = opinionated(model, form)
    write_guide(q, tmp_path)
    again = read_guide(tmp_path, model)
    assert again.config == FORMS[form]
    assert torch.equal(again.advantages(states(3)), q.advantages(states(3)))


def test_a_file_that_is_not_there_or_belongs_to_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no guide\.safetensors"):
        read_guide(tmp_path, tiny_model("llama"))
    write_guide(for_model(QConfig(), tiny_model("llama")), tmp_path)
    with pytest.raises(UserError, match="does not fit the model"):
        read_guide(tmp_path, _wider())


def _wider() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=NUM_WORDS,
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config)

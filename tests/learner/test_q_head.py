from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon.settings import parse
from learner.functional.q_targets import double_q, supported
from learner.heads import ValueHead
from learner.q_head import Choice, QHead
from learner.target_value_head import TargetValueHead
from learner.targets import TargetConfig, follow
from rollout.q_function import QConfig
from tests.learner.fakes_models import VOCAB_SIZE, tiny_gpt2

FORMS = ["full", "low_rank", "tied"]
NUM_STATES = 40


class Largest(TorchDispatchMode):
    """Writes down the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


def head_of(
    form: str = "full",
    *,
    share: float = 0.0,
    chunk_bytes: int = 2**20,
    has_logsumexp: bool = True,
    is_detached: bool = False,
) -> QHead:
    """Over a tiny GPT-2, with weights that are not zero."""
    lm = tiny_gpt2(dtype=torch.float64)
    choice = Choice(unembedding=lm.get_output_embeddings(), scale=2.0, share=share)
    config = parse(QConfig, {"form": form, "hidden_size": 8, "rank": 4})
    head = QHead(
        config,
        lm,
        is_detached=is_detached,
        has_logsumexp=has_logsumexp,
        choice=choice,
        chunk_bytes=chunk_bytes,
    )
    shake(head, seed=1)
    return head


def shake(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def states(num_states: int = NUM_STATES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(num_states, 16, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), torch.randint(VOCAB_SIZE, (num_states,), generator=generator)


@pytest.mark.parametrize("form", FORMS)
def test_streams_are_those_of_the_whole_tables(form: str) -> None:
    head = head_of(form, share=0.3)
    hidden, tokens = states()
    streams = head(hidden, tokens)
    online, target = head.online.all(hidden), head.target.all(hidden)
    for k in range(2):
        torch.testing.assert_close(streams[f"q_{k}"], online[k].gather(1, tokens[:, None])[:, 0])
        torch.testing.assert_close(streams[f"q_target_{k}"], target[k].gather(1, tokens[:, None])[:, 0])
        torch.testing.assert_close(streams[f"logsumexp_{k}"], online[k].logsumexp(1))
    logits = 2.0 * tiny_gpt2(dtype=torch.float64).lm_head(hidden)
    torch.testing.assert_close(streams["q_next"], double_q(online, target, supported(logits.float(), 0.3)))
    torch.testing.assert_close(streams["value"], head.online.value(hidden))
    finals = head.final(hidden)
    assert torch.equal(finals["q_next_final"], streams["q_next"])
    assert torch.equal(finals["value_final"], streams["value"])


def test_the_choice_matters_here() -> None:
    """Else the test above would not see a choice among the wrong tokens."""
    hidden, tokens = states()
    among = [head_of(share=share)(hidden, tokens)["q_next"] for share in (0.0, 0.3, 1.0)]
    assert not torch.allclose(among[0], among[1])
    assert not torch.allclose(among[1], among[2])


@pytest.mark.parametrize("form", FORMS)
def test_chunks_change_neither_streams_nor_gradients(form: str) -> None:
    found = []
    for chunk_bytes in (2**20, 8 * 2 * VOCAB_SIZE * 7, 1):
        head = head_of(form, share=0.3, chunk_bytes=chunk_bytes)
        hidden, tokens = states()
        streams = head(hidden, tokens)
        weights = torch.linspace(1.0, 2.0, NUM_STATES, dtype=torch.float64)
        total = sum((weights * streams[name]).sum() for name in ("q_0", "logsumexp_0", "logsumexp_1"))
        assert isinstance(total, Tensor)
        total.backward()
        grads = [hidden.grad, *(p.grad for p in head.online.q_heads.parameters())]
        found.append((dict(streams), grads))
    for streams, grads in found[1:]:
        torch.testing.assert_close(streams, found[0][0])
        torch.testing.assert_close(grads, found[0][1])


@pytest.mark.parametrize("form", FORMS)
def test_the_values_of_all_tokens_never_exist_at_once(form: str) -> None:
    num_states, per_chunk = 200, 5
    head = head_of(form, share=0.3, chunk_bytes=8 * 2 * VOCAB_SIZE * per_chunk)
    hidden, tokens = states(num_states)
    with Largest() as largest:
        streams = head(hidden, tokens)
        (streams["logsumexp_0"].sum() + streams["q_1"].sum() + streams["q_next"].sum()).backward()
    assert hidden.grad is not None
    # States are [200, 16], what is multiplied with an unembedding [200, 17]; a table would be [200, 32].
    assert largest.numel <= num_states * 17 < num_states * VOCAB_SIZE


def test_nothing_of_the_size_of_a_table_is_kept_for_the_backward_pass() -> None:
    num_states = 200
    kept = []
    for has_logsumexp in (False, True):
        head = head_of(has_logsumexp=has_logsumexp, chunk_bytes=1)
        hidden, tokens = states(num_states)
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            head(hidden, tokens)
        kept.append(sum(sizes))
    assert kept[1] - kept[0] < num_states * VOCAB_SIZE


def test_target_copies_start_equal_and_have_no_gradient() -> None:
    lm = tiny_gpt2()
    head = QHead(QConfig(), lm)
    hidden, tokens = states()
    for parameter in head.online.q_heads.parameters():
        assert parameter.requires_grad
    assert not any(p.requires_grad for p in head.target.q_heads.parameters())
    for one, other in zip(head.online.parameters(), head.target.parameters(), strict=True):
        assert torch.equal(one, other)
    streams = head_of()(hidden, tokens)
    assert {name for name, x in streams.items() if not x.requires_grad} == {
        "q_target_0",
        "q_target_1",
        "q_next",
    }


def test_what_actors_play_has_the_target_q_heads_and_the_trained_v_head() -> None:
    head = head_of()
    shake(head.online, seed=3)
    hidden, _ = states()
    assert torch.equal(head.target.value(hidden), head.online.value(hidden))
    assert not torch.allclose(head.target.all(hidden)[0], head.online.all(hidden)[0])


def test_following_goes_a_share_of_the_way() -> None:
    target, online = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for module, value in ((target, 1.0), (online, 3.0)):
            for parameter in module.parameters():
                parameter.fill_(value)
    follow(target, online, 0.25)
    assert [p.item() for p in target.parameters()] == [1.5, 1.5]
    assert [p.item() for p in online.parameters()] == [3.0, 3.0]
    follow(target, online, 1.0)
    assert [p.item() for p in target.parameters()] == [3.0, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        follow(target, nn.Linear(1, 1, bias=False), 0.5)


def test_copies_are_due_every_so_many_updates() -> None:
    assert [n for n in range(1, 10) if TargetConfig(every=3).is_due(n)] == [3, 6, 9]


def test_detached_heads_send_nothing_into_the_model() -> None:
    hidden, tokens = states()
    head_of()(hidden, tokens)["q_0"].sum().backward()
    assert hidden.grad is not None
    hidden, tokens = states()
    head_of(is_detached=True)(hidden, tokens)["q_0"].sum().backward()
    assert hidden.grad is None


@pytest.mark.parametrize("trunk", ["shared", "detached", "separate"])
def test_a_value_head_with_a_copy_that_follows(trunk: str) -> None:
    lm = tiny_gpt2(dtype=torch.float64)
    head = TargetValueHead(parse(ValueHead.Config, {"trunk": trunk, "hidden_size": 8}), lm)
    hidden, tokens = states()
    old = head.final(hidden)["value_target_final"]
    shake(head.body, seed=4)
    shake(head.last, seed=5)
    streams = head(hidden, tokens)
    assert torch.equal(streams["value_target"], old)
    assert not streams["value_target"].requires_grad
    assert not torch.allclose(streams["value"], old)
    head.follow(1.0)
    assert torch.equal(head(hidden, tokens)["value_target"], streams["value"])


def test_a_detached_value_head_sends_nothing_into_the_model() -> None:
    for trunk, is_sent in (("shared", True), ("detached", False)):
        head = ValueHead(parse(ValueHead.Config, {"trunk": trunk}), tiny_gpt2(dtype=torch.float64))
        shake(head, seed=6)
        hidden, tokens = states()
        head(hidden, tokens)["value"].sum().backward()
        assert (hidden.grad is not None) == is_sent

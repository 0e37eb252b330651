import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rollout.digest import TensorSpec
from rollout.weights import Weights, WeightsError, apply, check, digest, pack, together
from tests.rollout.fakes_engines import tiny_model


class Small(nn.Module):
    """Two floats, one of them under two names, and a counter that is a persistent buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        self.z = self.b
        self.a = nn.Parameter(torch.tensor([0.5]))
        self.register_buffer("count", torch.tensor([7], dtype=torch.int64))
        self.register_buffer("scratch", torch.tensor([9.0]), persistent=False)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def changed(weights: Weights, name: str, **fields: object) -> Weights:
    """The weights with one spec changed, and a digest that fits them: only the set is wrong."""
    specs = tuple(replace(s, **fields) if s.name == name else s for s in weights.specs)
    return replace(weights, specs=specs)


def repacked(model: nn.Module, **tensors: Tensor | None) -> Weights:
    """What a learner with other tensors would send."""
    named = {**model.state_dict(), **tensors}
    return pack(1, {name: tensor for name, tensor in named.items() if tensor is not None})


def test_pack_lays_the_tensors_out_by_name_each_dtype_in_its_own_buffer() -> None:
    weights = pack(3, Small())
    assert [spec.name for spec in weights.specs] == ["a", "b", "count"]
    assert weights.buffers["float32"].tolist() == [0.5, 1.0, 2.0, 3.0, 4.0]
    assert weights.buffers["int64"].tolist() == [7]
    assert weights.size_bytes == 5 * 4 + 8


def test_tied_tensors_travel_once_and_scratch_buffers_never() -> None:
    model = tiny_model("llama")
    names = {spec.name for spec in pack(0, model).specs}
    assert "lm_head.weight" in names
    assert "model.embed_tokens.weight" not in names
    assert not any("inv_freq" in name for name in names)


def test_bfloat16_travels_as_int16_and_leaves_integers_alone() -> None:
    weights = pack(0, Small(), torch.bfloat16)
    assert [spec.dtype for spec in weights.specs] == ["bfloat16", "bfloat16", "int64"]
    # bfloat16 is the upper half of float32: 0.5 = 0x3f000000, 1 = 0x3f800000, 2 = 0x40000000, ...
    assert weights.buffers["bfloat16"].dtype == np.int16
    assert weights.buffers["bfloat16"].tolist() == [0x3F00, 0x3F80, 0x4000, 0x4040, 0x4080]


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_receiver_ends_with_the_digest_of_the_sender(kind: str, dtype: torch.dtype | None) -> None:
    """S8 (a)."""
    learner, actor = tiny_model(kind, seed=1), tiny_model(kind, seed=2)
    weights = pack(1, learner, dtype)
    assert digest(actor, dtype) != weights.digest
    assert apply(weights, actor) == weights.digest == digest(learner, dtype) == digest(actor, dtype)


def test_weights_survive_the_object_store_with_buffers_that_cannot_be_written() -> None:
    weights = pack(1, tiny_model("llama", seed=1))
    buffers: list[pickle.PickleBuffer] = []
    raw = pickle.dumps(weights, protocol=5, buffer_callback=buffers.append)
    received = pickle.loads(raw, buffers=[memoryview(b.raw()).toreadonly() for b in buffers])
    assert not received.buffers["float32"].flags.writeable
    assert np.shares_memory(received.buffers["float32"], weights.buffers["float32"])
    assert apply(received, tiny_model("llama", seed=2)) == weights.digest


def test_the_version_is_no_part_of_the_digest_but_names_and_shapes_are() -> None:
    tensor = torch.arange(6.0)
    first = pack(1, {"a": tensor})
    assert pack(2, {"a": tensor}).digest == first.digest
    assert pack(1, {"b": tensor}).digest != first.digest
    assert pack(1, {"a": tensor.view(2, 3)}).digest != first.digest


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"b": None, "z": None}, "missing: b"),
        ({"c": torch.ones(1)}, "unknown to the model: c"),
        ({"a": None, "e": torch.ones(1)}, "missing: a; unknown to the model: e"),
        ({"a": torch.ones(2)}, "of another shape: a"),
        ({"a": torch.ones(1, dtype=torch.float64)}, "of a wider dtype than the model's: a"),
        ({"a": torch.tensor([float("nan")])}, "not finite: a"),
        ({"a": torch.tensor([float("inf")])}, "not finite: a"),
    ],
    ids=["dropped", "added", "renamed", "reshaped", "wider", "nan", "inf"],
)
def test_a_set_that_does_not_fit_is_refused_and_changes_nothing(
    tensors: dict[str, Tensor | None], words: str
) -> None:
    """S8 (d)."""
    model = Small()
    before = state(model)
    with pytest.raises(WeightsError, match=words):
        apply(repacked(model, **tensors), model)
    assert is_unchanged(model, before)


def test_bytes_that_changed_on_the_way_are_refused() -> None:
    model = Small()
    before = state(model)
    weights = repacked(model, a=torch.tensor([0.25]))
    weights.buffers["float32"][4] = 4.5
    with pytest.raises(WeightsError, match="the bytes are not those"):
        apply(weights, model)
    assert is_unchanged(model, before)


def test_a_buffer_cut_short_is_refused() -> None:
    weights = pack(1, Small())
    cut = {**weights.buffers, "float32": weights.buffers["float32"][:-1]}
    with pytest.raises(WeightsError, match="not whole: float32"):
        check(replace(weights, buffers=cut), Small())
    with pytest.raises(WeightsError, match="not whole: int64"):
        check(replace(weights, buffers={"float32": weights.buffers["float32"]}), Small())


def test_specs_out_of_order_or_twice_are_refused() -> None:
    weights = pack(1, Small())
    a, b, count = weights.specs
    for specs in ((b, a, count), (a, a, b, count)):
        with pytest.raises(WeightsError, match="not sorted, or there twice"):
            check(replace(weights, specs=specs), Small())


def test_the_echo_comes_from_the_tensors_of_the_receiver() -> None:
    """S8 (a): a model that cannot hold what it was sent does not echo the digest of the sender."""
    model = nn.Module()
    model.b = nn.Parameter(torch.zeros(2, 2))
    model.z = nn.Parameter(model.b.data[:1])
    # z lies in the first row of b, so that b and z of the sender cannot both be there.
    sent = pack(1, {"b": torch.zeros(2, 2), "z": torch.ones(1, 2)})
    with pytest.raises(WeightsError, match="the model has digest"):
        apply(sent, model)


def test_a_dtype_that_nobody_knows_is_refused() -> None:
    with pytest.raises(WeightsError, match="no dtype 'float7'"):
        check(changed(pack(1, Small()), "a", dtype="float7"), Small())


def test_a_model_in_float32_takes_bfloat16_weights_exactly() -> None:
    model = Small()
    sent = pack(
        1, {"a": torch.tensor([0.1]), "b": torch.ones(2, 2), "count": torch.tensor([8])}, torch.bfloat16
    )
    assert apply(sent, model) == sent.digest
    # 0.1 rounded to 8 bits of significand: 205 / 2048.
    assert model.a.item() == 205 / 2048
    assert model.count.item() == 8
    assert model.a.requires_grad


def test_weights_without_elements_are_possible() -> None:
    weights = pack(1, {"empty": torch.empty(0, 3)})
    assert weights.specs == (TensorSpec(name="empty", shape=(0, 3), dtype="float32"),)
    assert weights.size_bytes == 0


def test_together_are_the_tensors_of_the_model_and_those_of_the_guide_under_its_name() -> None:
    model, guide = tiny_model("llama"), Small()
    both = together(model, guide)
    assert set(both) - set(model.state_dict()) == {"guide.a", "guide.b", "guide.z", "guide.count"}
    assert set(together(model, None)) == set(model.state_dict())
    weights, alone = pack(0, both), pack(0, model)
    assert {s.name for s in weights.specs} - {s.name for s in alone.specs} == {
        "guide.a",
        "guide.b",
        "guide.count",
    }
    assert digest(together(model, None)) == alone.digest


def test_applied_together_both_are_taken_or_neither() -> None:
    model, guide = tiny_model("llama"), Small()
    before = state(model), state(guide)
    sent = {**together(tiny_model("llama", seed=1), None), "guide.a": torch.tensor([torch.nan])}
    sent |= {"guide.b": torch.ones(2, 2), "guide.count": torch.tensor([8])}
    with pytest.raises(WeightsError, match=r"not finite: guide\.a"):
        apply(pack(1, sent), together(model, guide))
    assert is_unchanged(model, before[0])
    assert is_unchanged(guide, before[1])
    sent["guide.a"] = torch.tensor([0.25])
    weights = pack(1, sent)
    assert apply(weights, together(model, guide)) == weights.digest
    assert (guide.a.item(), guide.count.item()) == (0.25, 8)
    assert torch.equal(model.lm_head.weight, tiny_model("llama", seed=1).lm_head.weight)

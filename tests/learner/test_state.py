from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from learner.state import StateError, load_state, save_state


def test_a_tree_survives_with_shapes_dtypes_and_bits(tmp_path: Path) -> None:
    tied = torch.randn(3, 4)
    tree = {
        "model": {"a.weight": tied, "b.weight": tied, "view": tied[1:, :2], "scalar": torch.tensor(7)},
        "half": torch.tensor([1.0, torch.nan, -0.0]).bfloat16(),
        "flags": {"mask": torch.tensor([True, False]), "none": torch.zeros(0, 3)},
        "optimizer": {},
        "beta": 0.1 + 0.2,
        "groups": [{"text": "ß", "ids": [1, 2]}, None],
        "num_updates": 3,
    }
    save_state(tree, tmp_path / "new", "learner")
    loaded = load_state(tmp_path / "new", "learner")
    assert loaded.keys() == tree.keys()
    assert loaded["beta"] == tree["beta"]
    assert loaded["groups"] == tree["groups"]
    assert loaded["optimizer"] == {}
    for part in ("model", "flags"):
        for name, tensor in tree[part].items():
            assert torch.equal(loaded[part][name], tensor)
            assert loaded[part][name].dtype == tensor.dtype
    assert torch.equal(loaded["half"].view(torch.int16), tree["half"].view(torch.int16))


def test_a_missing_and_an_extra_tensor_are_named(tmp_path: Path) -> None:
    save_state({"model": {"a": torch.zeros(1), "b": torch.zeros(1)}}, tmp_path, "learner")
    file = tmp_path / "learner.safetensors"
    tensors = load_file(file)
    save_file({"model/a": tensors["model/a"], "model/c": torch.zeros(1)}, file)
    with pytest.raises(StateError, match=r"missing \['model/b'\], extra \['model/c'\]"):
        load_state(tmp_path, "learner")


def test_a_tensor_of_another_dtype_is_named(tmp_path: Path) -> None:
    save_state({"a": torch.zeros(1)}, tmp_path, "learner")
    save_file({"a": torch.zeros(1).half()}, tmp_path / "learner.safetensors")
    with pytest.raises(StateError, match=r"changed \['a'\]"):
        load_state(tmp_path, "learner")


@pytest.mark.parametrize("tree", [{"a/b": 1}, {1: torch.zeros(1)}, {"a": {"__tensor__": 1}}])
def test_keys_that_could_not_be_told_apart_are_refused(tree: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys"):
        save_state(tree, tmp_path, "learner")


def test_what_json_cannot_carry_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_state({"a": object()}, tmp_path, "learner")
    assert list(tmp_path.iterdir()) == []

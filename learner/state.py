"""A nested dict of tensors and JSON-able values as two files: NAME.safetensors and NAME.json. No pickle.

The caller makes the folder visible; nothing here is atomic by itself.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_SEPARATOR = "/"
_TENSOR = "__tensor__"
"""Stands in the JSON file where a tensor belongs, with its shape and dtype."""


class StateError(ValueError):
    """Files that do not hold the state they should."""


def save_state(tree: Mapping[str, Any], folder: Path, name: str) -> None:
    """Write `tree` as folder/name.safetensors and folder/name.json, dtypes and shapes exactly kept.

    Raises:
        ValueError: a key that is no string or contains a slash, or a value that JSON cannot carry.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _take_tensors(tree, "", tensors, set())
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(skeleton)
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(text)


def load_state(folder: Path, name: str) -> dict[str, Any]:
    """What `save_state` wrote.

    Raises:
        FileNotFoundError: one of the files is not there.
        StateError: a tensor is missing, extra, or of another shape or dtype; names them.
    """
    skeleton = json.loads((folder / f"{name}.json").read_text())
    tensors = load_file(folder / f"{name}.safetensors")
    wanted = _wanted(skeleton, "")
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    changed = sorted(key for key in wanted.keys() & tensors.keys() if wanted[key] != _signature(tensors[key]))
    if missing or extra or changed:
        raise StateError(f"{folder / name}: missing {missing}, extra {extra}, changed {changed}")
    tree: dict[str, Any] = _put_tensors(skeleton, "", tensors)
    return tree


def _take_tensors(tree: Any, path: str, tensors: dict[str, Tensor], taken: set[int]) -> Any:
    """The tree with signatures in place of tensors, which go into `tensors` by their path."""
    if isinstance(tree, Tensor):
        tensors[path] = _with_storage_of_its_own(tree.detach().cpu(), taken)
        return {_TENSOR: _signature(tree)}
    if isinstance(tree, Mapping):
        wrong = [key for key in tree if not isinstance(key, str) or _SEPARATOR in key or key == _TENSOR]
        if wrong:
            raise ValueError(f"state keys must be strings without {_SEPARATOR!r}, got {wrong} at {path!r}")
        return {key: _take_tensors(value, _join(path, key), tensors, taken) for key, value in tree.items()}
    return tree


def _with_storage_of_its_own(tensor: Tensor, taken: set[int]) -> Tensor:
    """The tensor, or a copy: safetensors refuses two names for one storage, and views of a larger one.

    Moments and weights of a large model fit into a machine's memory once, hardly twice.
    """
    storage = tensor.untyped_storage()
    is_own = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
    if not is_own or storage.data_ptr() in taken:
        return tensor.clone(memory_format=torch.contiguous_format)
    taken.add(storage.data_ptr())
    return tensor


def _put_tensors(skeleton: Any, path: str, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(skeleton, dict):
        return skeleton
    if _TENSOR in skeleton:
        return tensors[path]
    return {key: _put_tensors(value, _join(path, key), tensors) for key, value in skeleton.items()}


def _wanted(skeleton: Any, path: str) -> dict[str, list[Any]]:
    """The signatures of all tensors, by path."""
    if not isinstance(skeleton, dict):
        return {}
    if _TENSOR in skeleton:
        return {path: skeleton[_TENSOR]}
    return {k: v for key, value in skeleton.items() for k, v in _wanted(value, _join(path, key)).items()}


def _signature(tensor: Tensor) -> list[Any]:
    return [list(tensor.shape), str(tensor.dtype)]


def _join(path: str, key: str) -> str:
    return f"{path}{_SEPARATOR}{key}" if path else key

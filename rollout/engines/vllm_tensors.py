"""The tensors of a model inside vLLM, under the names that the model has in transformers.

Called by the vllm engine. vLLM lays some tensors side by side (queries, keys and values; gate and up), pads
vocabularies and turns the matrices of GPT-2 round. What is given here are views of its memory: whoever writes
into them writes into the model that plays, in place, and whoever reads them reads what is played. Knows
modules by their attributes only, so that nothing of vLLM is imported.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from antiphon.errors import UserError
from rollout.weights import digest

REMEDY = "set rollout.engine.name to torch, or train a Llama, Mistral, Qwen2, Qwen3 or GPT-2"


def named_tensors(model: nn.Module, turned: Collection[str] = ()) -> dict[str, Tensor]:
    """Views of the parameters of a model of vLLM, by their names in transformers.

    Args:
        turned: names of matrices that are transposed there.
    """
    packed: Mapping[str, Sequence[str]] = getattr(model, "packed_modules_mapping", {})
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        holder = model.get_submodule(name.rpartition(".")[0])
        for own, view in _parts(name, parameter.detach(), holder, packed):
            found[own] = view.t() if own in turned else view
    return found


def turned_names(model: PreTrainedModel) -> set[str]:
    """The matrices that transformers keeps the other way round, [in, out]."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}


def require_same_tensors(views: Mapping[str, Tensor], model: PreTrainedModel) -> None:
    """Whether the views are the whole model: names, shapes, types, ties and bytes.

    Raises:
        UserError: vLLM keeps a model of this type in another form; new weights could not be written into it.
    """
    if digest(views) == digest(model):
        return
    others = sorted(set(views) ^ set(model.state_dict()))
    where = f"{len(others)} names differ, the first is {others[0]}" if others else "bytes or shapes differ"
    raise UserError(
        f"vLLM keeps a model of type {model.config.model_type!r} in a form that new weights cannot be "
        f"written into: {where}",
        remedy=REMEDY,
    )


def _parts(
    name: str, parameter: Tensor, holder: nn.Module, packed: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of transformers that lie in one of vLLM."""
    path, _, leaf = name.rpartition(".")
    parent, _, own = path.rpartition(".")
    if own in packed and hasattr(holder, "output_partition_sizes"):
        rows = parameter.split(holder.output_partition_sizes)
        for part, view in zip(packed[own], rows, strict=True):
            yield f"{parent}.{part}.{leaf}", view
    elif hasattr(holder, "org_vocab_size"):
        yield name, parameter[: holder.org_vocab_size]
    else:
        yield name, parameter

"""A Q function as a file beside an exported model: guide.safetensors, its form in the file's metadata.

`antiphon export` writes it; whoever has the folder can play the guided policy:

    lm = AutoModelForCausalLM.from_pretrained(folder)
    guide = read_guide(folder, lm)
"""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from antiphon.errors import UserError
from rollout.q_function import QConfig, QFunction, for_model

NAME = "guide.safetensors"


def write_guide(guide: QFunction, folder: Path) -> Path:
    """Writes the tensors of the Q function into the folder; returns the path of the file."""
    path = folder / NAME
    tensors = {name: tensor.detach().contiguous() for name, tensor in guide.state_dict().items()}
    save_file(tensors, path, metadata={"q_config": guide.config.model_dump_json()})
    return path


def read_guide(folder: Path, lm: PreTrainedModel) -> QFunction:
    """The Q function in the folder, for the hidden states of the model that lies there.

    Raises:
        UserError: there is none, or it belongs to a model of another shape.
    """
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{folder} holds no {NAME}", remedy="export a run whose actors play a Q function")
    with safe_open(path, framework="pt") as file:
        config = QConfig.model_validate_json(file.metadata()["q_config"])
    guide = for_model(config, lm)
    try:
        guide.load_state_dict(load_file(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"{path} does not fit the model: {reason}", remedy="take the model beside it"
        ) from None
    return guide

"""Where a network lies, and what its folder says of it: found out without loading anything.

Called by the constructors of components, where a recipe is checked.
"""

import json
from pathlib import Path
from typing import Any

from antiphon.errors import UserError
from antiphon.plugins import by_import_path

_RANDOM = "tiny-llama"
"""The built-in model has no file, and knows nothing."""


def locate(name: str) -> Path | str:
    """A folder in the Hugging Face format, or the id of a model on the hub.

    Raises:
        UserError: it is neither, or the folder holds no model.
    """
    if name == _RANDOM:
        raise UserError(
            f"{_RANDOM} starts from random weights: it cannot judge", remedy="name a folder, or owner/name"
        )
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    # The layer above knows the rule for model names. Named by path it stays above, and its torch out of
    # processes that only check a recipe with a folder.
    place: Path | str = by_import_path("rollout.models:locate")(name)
    return place


def folder_facts(place: Path | str, file: str = "config.json") -> dict[str, Any]:
    """What a file of the folder says; nothing where the model is on the hub, or has no such file.

    Raises:
        UserError: the file is no JSON object.
    """
    path = Path(place) / file
    if isinstance(place, str) or not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}", remedy="save the model again") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path} holds no object", remedy="save the model again")
    return facts


def check_is_classifier(place: Path | str, name: str) -> None:
    """Raises UserError where the folder says that it holds a language model, which gives no score."""
    kinds = folder_facts(place).get("architectures") or []
    if any(kind.endswith(("LMHeadModel", "ForCausalLM", "ForMaskedLM")) for kind in kinds):
        raise UserError(
            f"{name!r} holds a language model ({', '.join(kinds)}), not a sequence classifier",
            remedy="name a sequence classifier; `antiphon train-reward-model` makes one of a language model",
        )

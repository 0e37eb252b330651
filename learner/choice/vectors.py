"""Vectors of a frozen encoder, each text read once, kept in a file over runs.

<folder>/<fingerprint of the encoder>.safetensors   keys [U, 32] uint8: SHA-256 of a text's token ids
                                                    vectors [U, H] float32
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from learner.choice.encoder import Encoder
from reward_service.networks.batching import length_batches
from reward_service.networks.encoding import Ids

CHUNK = 4096
"""Texts after which the file is written: what was read survives a stop."""
OnProgress = Callable[[int, int], None]
"""Told how many texts are read, of how many."""


def vectors_of(
    encoder: Encoder,
    rows: Sequence[Ids],
    max_tokens: int,
    folder: Path,
    on_progress: OnProgress = lambda done, total: None,
) -> Tensor:
    """The vector of each text, [len(rows), H] float32 on the CPU; texts that the file holds are not read.

    Args:
        rows: their token ids, at most `max_tokens` of which go through the encoder together.
    """
    path = folder / f"{encoder.fingerprint()}.safetensors"
    known = _load(path)
    new = sorted({row for row in rows if _key(row) not in known}, key=lambda row: (len(row), row))
    for start in range(0, len(new), CHUNK):
        chunk = new[start : start + CHUNK]
        known |= _read(encoder, chunk, max_tokens)
        _save(path, known)
        on_progress(start + len(chunk), len(new))
    return torch.stack([known[_key(row)] for row in rows])


@torch.inference_mode()
def _read(encoder: Encoder, rows: Sequence[Ids], max_tokens: int) -> dict[bytes, Tensor]:
    found: dict[bytes, Tensor] = {}
    for batch in length_batches([len(row) for row in rows], max_tokens):
        vectors = encoder([rows[i] for i in batch]).cpu()
        found |= {_key(rows[i]): vector for i, vector in zip(batch, vectors, strict=True)}
    return found


def _key(row: Ids) -> bytes:
    return hashlib.sha256(array("q", row).tobytes()).digest()


def _load(path: Path) -> dict[bytes, Tensor]:
    """What the file holds. One that is broken counts as empty: everything in it can be made again."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return {}
    keys = (bytes(key) for key in tensors["keys"].numpy())
    return dict(zip(keys, tensors["vectors"], strict=True))


def _save(path: Path, known: dict[bytes, Tensor]) -> None:
    """The file appears whole, or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    keys = torch.frombuffer(bytearray(b"".join(known)), dtype=torch.uint8).view(len(known), -1)
    save_file({"keys": keys, "vectors": torch.stack(list(known.values()))}, temporary)
    temporary.replace(path)

"""Checkpoints that are whole or absent, and the registry that knows what must be in one.

A checkpoint is a folder. It is written under a temporary name; `manifest.json`, written last, lists every
file with its size and SHA-256; one rename publishes it. Reading takes the newest that is whole, and says what
it skipped and why.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from antiphon.errors import UserError
from cluster.run_dir import write_atomically

MANIFEST = "manifest.json"
CHUNK_BYTES = 1 << 20


@runtime_checkable
class Stateful(Protocol):
    """Anything whose state must survive a restart."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def check_registered(owner: object, registered: Mapping[str, Stateful]) -> None:
    """Refuse to start when a stateful attribute of `owner` is in no checkpoint.

    Raises:
        AssertionError: names the attribute.
    """
    known = {id(part) for part in registered.values()}
    missing = [k for k, v in vars(owner).items() if isinstance(v, Stateful) and id(v) not in known]
    assert not missing, f"{missing} of {type(owner).__name__} have state, but no place in the checkpoint"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that cannot be used."""

    path: Path
    reason: str


class Checkpoints:
    """The checkpoints of one run.

    Example:
        >>> checkpoints.save(10, lambda folder: write_everything(folder), facts={"run_id": "a1"})
        >>> path, skipped = checkpoints.newest()
    """

    def __init__(
        self,
        folder: Path,
        num_kept: int,
        writing: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """
        Args:
            writing: around what others see appear; it may refuse (antiphon/lease.py).
        """
        self.folder = folder
        self.num_kept = num_kept
        self._writing = writing

    def save(self, version: int, write: Callable[[Path], None], facts: Mapping[str, Any]) -> Path:
        """Let `write` fill a folder, seal it with a manifest and publish it under the version's name."""
        target = self.folder / f"step_{version:06d}"
        # No two attempts share it: process ids repeat from one container to the next.
        temporary = self.folder / f".step_{version:06d}.{uuid.uuid4().hex[:8]}.tmp"
        temporary.mkdir(parents=True)
        write(temporary)
        _seal(temporary, {"version": version, **facts})
        with self._writing():
            self._publish(temporary, target)
            self._retire()
        return target

    def _publish(self, temporary: Path, target: Path) -> None:
        replaced = target.with_name(f".{target.name}.replaced.tmp")
        shutil.rmtree(replaced, ignore_errors=True)
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
        _sync(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)

    def newest(self) -> tuple[Path, list[Skipped]]:
        """The newest whole checkpoint, and those that were passed over on the way to it.

        Raises:
            UserError: there is none.
        """
        skipped: list[Skipped] = []
        for path in sorted(self.folder.glob("step_*"), reverse=True):
            fault = find_fault(path)
            if fault is None:
                return path, skipped
            skipped.append(Skipped(path, fault))
        detail = "".join(f"; {s.path.name}: {s.reason}" for s in skipped)
        raise UserError(
            f"{self.folder} has no usable checkpoint{detail}",
            remedy="start the run again, with run.checkpoint_every set",
        )

    def latest(self) -> Path | None:
        """The newest checkpoint by its name, whether it is whole or not."""
        return max(self.folder.glob("step_*"), default=None)

    def _retire(self) -> None:
        """Delete the oldest beyond num_kept, and what a killed attempt left half written.

        The checkpoint just written was sealed before this is called.
        """
        unfinished = self.folder.glob(".step_*.tmp")
        for path in [*sorted(self.folder.glob("step_*"))[: -self.num_kept], *unfinished]:
            shutil.rmtree(path)


def find_fault(path: Path) -> str | None:
    """Why the checkpoint cannot be trusted, or None if every file is as its manifest says."""
    try:
        files = read_manifest(path)["files"]
        listed = {str(name): (int(e["size_bytes"]), str(e["sha256"])) for name, e in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"no readable manifest ({error})"
    for name, (size_bytes, sha256) in listed.items():
        file = path / name
        # Checksums say that nothing was damaged, not who wrote it: a manifest of others may name any path.
        if not file.resolve().is_relative_to(path.resolve()):
            return f"{name} lies outside of the checkpoint"
        if not file.is_file() or file.stat().st_size != size_bytes:
            return f"{name} is missing or cut short"
        if sha256_of(file) != sha256:
            return f"{name} does not match its checksum"
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / MANIFEST).read_text())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _seal(folder: Path, facts: Mapping[str, Any]) -> None:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    for path in paths:
        _sync(path)
    files = {
        str(p.relative_to(folder)): {"size_bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in paths
    }
    write_atomically(folder / MANIFEST, json.dumps({**facts, "files": files}, indent=2) + "\n")
    _sync(folder)


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

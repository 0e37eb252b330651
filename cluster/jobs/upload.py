"""What of a working directory would travel to the cluster: looked at before anything is sent.

The folder is walked by Ray's own code, so that what is listed is what is sent: without what .gitignore and
.rayignore name, and without what is excluded.
"""

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antiphon.errors import UserError

EXCLUDED = ("runs", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "*.egg-info", ".DS_Store")
"""Beside .git, .venv, venv and __pycache__, which Ray leaves out by itself."""
SECRETS = (".env", ".env.*", ".netrc", "*.pem", "*.key", "*.p12", "id_rsa", "id_ed25519", "auth_token")
"""Names of files that belong to one person and not into a cluster."""
NUM_NAMED = 5
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The files that would be sent."""

    folder: Path
    excludes: tuple[str, ...]
    sizes_bytes: dict[str, int]
    """By path below the folder."""

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes_bytes.values())

    def describe(self) -> str:
        """What is sent, in a line: how much, and the largest entries of the folder."""
        return f"{len(self.sizes_bytes)} files, {_mib(self.total_bytes)}: {self._largest()}"

    def check(self, recipe: str, max_bytes: int) -> None:
        """
        Args:
            recipe: path below the folder.

        Raises:
            UserError: too much, a file that looks like a secret, or no recipe.
        """
        if recipe not in self.sizes_bytes:
            raise UserError(
                f"{recipe} is not among the files of {self.folder} that are uploaded",
                remedy="keep the recipe inside of --working-dir, and out of .gitignore and --exclude",
            )
        for path in self.sizes_bytes:
            if any(fnmatch.fnmatch(Path(path).name, pattern) for pattern in SECRETS):
                raise UserError(
                    f"{path} looks like a secret, and would be uploaded",
                    remedy=f"--exclude {path}, or name it in .gitignore",
                )
        if self.total_bytes > max_bytes:
            raise UserError(
                f"{self.folder} holds {_mib(self.total_bytes)} to upload, the limit is {_mib(max_bytes)}: "
                f"{self._largest()}",
                remedy="--exclude what the run does not need, keep data and models on shared storage, or "
                "raise --max-upload-mib",
            )

    def _largest(self) -> str:
        entries: Counter[str] = Counter()
        for path, size in self.sizes_bytes.items():
            first, slash, _ = path.partition("/")
            entries[first + slash] += size
        named = [f"{name} {_mib(size)}" for name, size in entries.most_common(NUM_NAMED)]
        rest = len(entries) - len(named)
        return ", ".join(named) + (f" and {rest} more" if rest else "")


def look_at(folder: Path, excludes: Sequence[str] = ()) -> Upload:
    """The files below a folder that would be sent, with their sizes.

    Raises:
        UserError: there is no such folder.
    """
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    folder = folder.resolve()
    if not folder.is_dir():
        raise UserError(f"--working-dir {folder} is no folder", remedy="give the folder of your recipes")
    ours = (*EXCLUDED, *excludes)
    sizes: dict[str, int] = {}

    def count(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    skip = _get_excludes(folder, [*get_runtime_env_default_excludes(), *ours])
    _dir_travel(folder, [skip], count, include_gitignore=True)
    return Upload(folder=folder, excludes=ours, sizes_bytes=dict(sorted(sizes.items())))


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f} MiB"

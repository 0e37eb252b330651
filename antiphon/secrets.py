"""Where secrets come from, the environment or a file, and how one is noticed where it should not be.

    ANTIPHON_REWARD_TOKEN=…                          the secret itself
    ANTIPHON_REWARD_TOKEN_FILE=/run/secrets/token    or a file that holds it and nothing else

Recipes name the variable. They are kept in run directories, summaries and version control, so that a secret
in one is refused before it is copied anywhere. No message says what the secret is.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from antiphon.errors import UserError

MAX_BYTES = 64 * 2**10
"""Of a file with a secret in it; a larger one is something else."""
NAMES = re.compile(
    r"(^|[_-])(password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?|authorization|bearer)$",
    re.IGNORECASE,
)
"""Settings that would hold a secret; `token_env`, which names where one is, is none of them."""
SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|[a-z]://[^/\s:@]*:[^/\s@]+@",
)
"""What keys of known services, JSON web tokens, private keys, and a URL with a password look like."""


def read_secret(variable: str) -> str | None:
    """The secret that a variable holds, or the file that `<variable>_FILE` names; None where neither is set.

    Raises:
        UserError: both are set, or the file cannot be read or holds nothing.
    """
    value, path = os.environ.get(variable, "").strip(), os.environ.get(f"{variable}_FILE", "").strip()
    if value and path:
        raise UserError(f"{variable} and {variable}_FILE are both set", remedy="unset one of the two")
    return _in_file(Path(path), f"{variable}_FILE") if path else value or None


def refuse_secrets(data: Any, where: str = "") -> None:
    """
    Args:
        data: of a recipe.
        where: its place in the recipe, dotted.

    Raises:
        UserError: a setting has the name or the shape of a secret.
    """
    for place in _secrets(data, where):
        raise UserError(
            f"{place} looks like a secret, and recipes are copied into run directories, logs and Git",
            remedy="put it into an environment variable, or a file named by VARIABLE_FILE, and name the "
            "variable in the setting that ends in _env; revoke what was already written down",
        )


def _secrets(node: Any, where: str, name: str = "") -> Iterator[str]:
    """The places of what looks like a secret."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _secrets(value, f"{where}.{key}" if where else str(key), str(key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _secrets(value, f"{where}.{number}", name)
    elif isinstance(node, str) and node and (NAMES.search(name) or SHAPES.search(node)):
        yield where


def _in_file(path: Path, variable: str) -> str:
    try:
        with path.open("rb") as file:
            value = file.read(MAX_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the file that {variable} names cannot be read: {error}",
            remedy="mount the secret, and let this user read it",
        ) from None
    if not value or "\n" in value:
        raise UserError(
            f"the file that {variable} names holds no single line", remedy="write the secret alone"
        )
    return value

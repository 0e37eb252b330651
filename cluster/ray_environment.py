"""Variables that Ray's native part reads once, when it is imported: they must be set before that."""

import os
import secrets
import sys


def prepare() -> None:
    """Choose the authentication of a cluster that this process will start itself.

    Ray switches token authentication by files and variables that a local start may write and a later command
    may read, so the mode is set explicitly: a token that lives in this process and its children only. Whoever
    joins a cluster (RAY_ADDRESS), has chosen a mode, or has imported Ray already, is left alone.
    """
    is_chosen = "RAY_ADDRESS" in os.environ or "RAY_AUTH_MODE" in os.environ
    if not is_chosen and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

"""Variables that Ray's native part reads once, when it is imported: they must be set before that."""

import os
import secrets
import sys

ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""At 0, as on those systems, Ray takes itself for a single machine and listens at its loopback interface.
There is no other way: it replaces a loopback address that it is given by one that others reach."""


def prepare() -> None:
    """Choose where a cluster that this process will start itself listens, and whom it answers.

    Nobody joins such a cluster, so others need not reach it; set the variable to 1 if they shall. Ray
    switches token authentication by files and variables that a local start may write and a later command may
    read, so the mode is set explicitly: a token that lives in this process and its children only. Whoever
    joins a cluster (RAY_ADDRESS), has chosen, or has imported Ray already, is left alone.
    """
    if "RAY_ADDRESS" in os.environ or "ray" in sys.modules:
        return
    os.environ.setdefault(ALONE, "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

"""Speaks to the dashboard of a cluster: with which authentication, at which address, about which nodes.

Imports Ray only after the authentication is chosen: Ray's native part reads it once, when it is imported.
"""

import logging
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from antiphon.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

MODES = ("token", "disabled")
REDIRECTING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables by which Ray replaces the address that it is given."""
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
)
"""Loggers that tell of every step of an upload; what is uploaded, we say ourselves."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def choose_auth(mode: str | None, environ: MutableMapping[str, str]) -> str:
    """Set the mode of authentication, `mode` or the one of RAY_AUTH_MODE; unset, Ray would guess by files.

    Raises:
        UserError: none is chosen, no such mode, or no token for mode `token`.
    """
    chosen = mode or environ.get("RAY_AUTH_MODE", "")
    if chosen not in MODES:
        raise UserError(
            f"the authentication of the cluster is {chosen!r}" if chosen else "no authentication is chosen",
            remedy="set RAY_AUTH_MODE (or --auth) to token, with RAY_AUTH_TOKEN, or to disabled: as the "
            "cluster was started with",
        )
    path = environ.get("RAY_AUTH_TOKEN_PATH", "")
    if chosen == "token" and not environ.get("RAY_AUTH_TOKEN") and not (path and Path(path).is_file()):
        raise UserError(
            "RAY_AUTH_MODE is token, and there is no token",
            remedy="set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token",
        )
    environ["RAY_AUTH_MODE"] = chosen
    return chosen


def warning_of(address: str, mode: str) -> str | None:
    """What a person should know about this way to the cluster.

    Raises:
        UserError: the address is none of a dashboard.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"--address {address!r} is not the address of a dashboard",
            remedy="give it as http://HOST:8265 (`ray start --head` prints it)",
        )
    if parts.scheme == "http" and mode == "token" and parts.hostname not in LOOPBACK:
        return "the token goes to this address unencrypted; use https or a tunnel (ssh -L)"
    return None


def connect(address: str) -> "JobSubmissionClient":
    """A client of the dashboard there; `choose_auth` comes before.

    Raises:
        UserError: nobody answers, or the token is refused.
    """
    with only(), translated(address):
        from ray.job_submission import JobSubmissionClient

        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        return JobSubmissionClient(address)


def nodes_of(address: str) -> list[dict[str, float]]:
    """What each node of the cluster that is up offers, by resource.

    Raises:
        UserError: nobody answers.
    """
    with only(), translated(address):
        from ray.util.state import list_nodes

        found = list_nodes(address=address, filters=[("state", "=", "ALIVE")])
        return [dict(node.resources_total) for node in found]


@contextmanager
def only(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Hides the variables by which Ray would go elsewhere."""
    hidden = {name: environ.pop(name) for name in REDIRECTING if name in environ}
    try:
        yield
    finally:
        environ.update(hidden)


@contextmanager
def translated(address: str) -> Iterator[None]:
    """What a person can mend, in words.

    Raises:
        UserError: nobody answers, or the token is refused.
    """
    from ray.exceptions import AuthenticationError
    from requests.exceptions import RequestException

    try:
        yield
    except AuthenticationError as error:
        raise UserError(
            f"the cluster at {address} refuses the token: {str(error).splitlines()[0]}",
            remedy="RAY_AUTH_MODE and RAY_AUTH_TOKEN must be what the cluster was started with",
        ) from error
    except (ConnectionError, RequestException) as error:
        raise UserError(
            f"no dashboard of Ray answers at {address}: {str(error).splitlines()[0]}",
            remedy="`ray start --head` prints its address; on Kubernetes forward port 8265 first",
        ) from error

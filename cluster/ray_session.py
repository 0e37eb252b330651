"""Joins the cluster that RAY_ADDRESS names, or starts one on this machine, and checks that the run fits.

Imports Ray, so ray_environment.prepare comes first.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from antiphon.errors import UserError
from cluster.node_fit import check_nodes
from cluster.recipe import Recipe

NUM_LOCAL_TRIES = 2

_log = logging.getLogger(__name__)


@contextmanager
def session(recipe: Recipe) -> Iterator[None]:
    """Ray is up inside the block. Shut down afterwards only if it was started here.

    Raises:
        UserError: the cluster cannot be reached, or is too small for the recipe.
    """
    with connected():
        check_nodes(recipe, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        yield


@contextmanager
def connected() -> Iterator[None]:
    """The same without looking at what the cluster has.

    Raises:
        UserError: the cluster cannot be reached.
    """
    is_joined = ray.is_initialized()
    if not is_joined:
        _start()
    try:
        yield
    finally:
        if not is_joined:
            ray.shutdown()


def start(address: str | None, *, init: Callable[..., Any] = ray.init, **options: Any) -> None:
    """Join the cluster at `address`, or start one on this machine.

    Ray gives what it starts 30 s, which a busy machine may not have; the second try finds it warm. What the
    first one left running ends with this process.

    Args:
        init: `ray.init`, which takes the options.

    Raises:
        UserError: with what Ray said.
    """
    # Without an address Ray would join whatever `ray start` left running on this machine.
    options = {
        "address": address or "local",
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        **options,
    }
    num_tries = 1 if address else NUM_LOCAL_TRIES
    for number in range(1, num_tries + 1):
        try:
            init(**options)
            return
        # Ray raises a bare Exception where its processes do not come up in time.
        except Exception as error:
            if number == num_tries:
                raise UserError(
                    f"Ray did not start at {address or 'this machine'}: {error}",
                    remedy="check RAY_ADDRESS, and that RAY_AUTH_MODE is the same here and on the cluster",
                ) from error
            _log.warning("Ray did not start and is started once more: %s", error)


def _start() -> None:
    address = os.environ.get("RAY_ADDRESS")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        # Metrics of our own endpoint are enough for a laptop; Ray's dashboard costs seconds and memory.
        start(address, include_dashboard=None if address else False)
    finally:
        # ray.init takes SIGTERM for itself and would end the run at once; it is for stop.py to answer.
        signal.signal(signal.SIGTERM, on_sigterm)


def scraped_nodes() -> list[str]:
    """host:port of the metrics endpoint of every live node."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive]

"""Joins the cluster that RAY_ADDRESS names, or starts one on this machine, and checks that the run fits.

Imports Ray, so ray_environment.prepare comes first.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from antiphon.errors import UserError
from cluster.node_fit import check_nodes
from cluster.recipe import Recipe


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


def _start() -> None:
    address = os.environ.get("RAY_ADDRESS")
    # Metrics of our own endpoint are enough for a laptop; Ray's dashboard costs seconds and memory.
    include_dashboard = None if address else False
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            # Without an address Ray would join whatever `ray start` left running on this machine.
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=include_dashboard,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"Ray did not start at {address or 'this machine'}: {error}",
            remedy="check RAY_ADDRESS, and that RAY_AUTH_MODE is the same here and on the cluster",
        ) from error
    finally:
        # ray.init takes SIGTERM for itself and would end the run at once; it is for stop.py to answer.
        signal.signal(signal.SIGTERM, on_sigterm)


def scraped_nodes() -> list[str]:
    """host:port of the metrics endpoint of every live node."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in alive]

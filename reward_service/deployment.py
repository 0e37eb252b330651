"""The rewards as a Ray Serve application, and the client that reaches it by handle.

    rollout worker --HandleClient--> Scorer replicas (the rubric)
    anybody else   --HTTP--> Door --HandleClient--> Scorer replicas

One application per run, named by the caller. The only file of this folder that knows Ray.
"""

import asyncio
import errno
import faulthandler
import logging
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, LoggingConfig

from antiphon.errors import UserError
from reward_service.client import Receive, RemoteClient, seconds_until
from reward_service.config import HttpConfig, RewardConfig
from reward_service.http import digest, door, token_of
from reward_service.rubric import build_rubric
from reward_service.types import Sample, Score

SCORER = "Scorer"
GRACE_S = 2.0
"""How long a replica may finish its request when the service is shut down."""
HEALTH_PERIOD_S = 1.0
"""How soon Serve notices that a replica ended; the default of 10 s would be several rollout batches."""
PING_DEADLINE_S = 5.0
POLL_S = 0.1
STDERR = 2
"""The file descriptor itself: Ray replaces sys.stderr."""
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


class Scorer:
    """A replica: scores one request after the other, in a thread, and is expendable.

    A request that is being scored for longer than the deadline ends the process, with the stacks of its
    threads on stderr: nobody waits for it any more, and what hangs would hang the next request too. The
    watch is faulthandler's, because a regex that does not end holds the interpreter lock for ever.
    """

    def __init__(self, config: RewardConfig) -> None:
        self._rubric = build_rubric(config)
        self._deadline_s = config.deadline_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rubric")

    async def score(self, samples: Sequence[Sample]) -> list[Score]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._score, samples)

    def _score(self, samples: Sequence[Sample]) -> list[Score]:
        faulthandler.dump_traceback_later(self._deadline_s, exit=True, file=STDERR)
        try:
            return self._rubric.score(samples)
        finally:
            faulthandler.cancel_dump_traceback_later()

    async def ping(self) -> None:
        """Answers while the replica is there, busy or not."""


class HandleClient(RemoteClient):
    """Scores through a Serve handle; may be sent to other Ray processes. Not for use in an event loop."""

    def __init__(self, handle: DeploymentHandle, config: RewardConfig) -> None:
        super().__init__(
            deadline_s=config.deadline_s,
            num_retries=config.num_retries,
            max_batch_size=config.max_batch_size,
        )
        self._handle = handle

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        response = self._handle.score.remote(list(samples))
        return lambda: _receive(response, seconds_until(deadline))

    def ping(self) -> None:
        """Raises TimeoutError or ConnectionError unless a replica is there."""
        _receive(self._handle.ping.remote(), PING_DEADLINE_S)


def _receive(response: Any, timeout_s: float) -> Any:
    """The answer of a replica; what went wrong on the way to it in the words of RemoteClient."""
    try:
        return response.result(timeout_s=timeout_s)
    except TimeoutError:
        response.cancel()
        raise
    except RayTaskError:  # Raised by our own code in the replica: a bug keeps its traceback.
        raise
    except (RayError, RayServeException) as error:
        raise ConnectionError(str(error)) from error


@serve.ingress()
class Door:
    """The HTTP door as a deployment of its own: it answers while replicas score, hang or are replaced."""

    def __init__(self, scorer: DeploymentHandle, config: RewardConfig, token_digest: bytes | None) -> None:
        self._client = HandleClient(scorer, config)
        self._token_digest = token_digest

    def __serve_build_asgi_app__(self) -> FastAPI:
        return door(self._client, self._client.ping, self._token_digest)


def deploy(config: RewardConfig, name: str) -> DeploymentHandle:
    """Starts the service of the run called `name` in the connected Ray cluster; returns when it scores.

    Raises:
        UserError: a mistake in the recipe (before anything is started), a replica that does not start, or
            an HTTP door that the running Serve instance cannot open.
    """
    build_rubric(config)
    token = token_of(config.http)
    _start_outside(config.http)
    application = _application(config, None if token is None else digest(token))
    route = "/" if config.http.enabled else None
    try:
        serve.run_many(
            [serve.RunTarget(application, name=name, route_prefix=route)], wait_for_applications_running=False
        )
    except RayServeException as error:
        raise UserError(
            f"Ray Serve refuses the reward service {name!r}: {str(error).splitlines()[-1]}",
            remedy="only one run of a cluster can open the HTTP door; the others reach it by its URL",
        ) from error
    _wait_until_running(name, config.start_deadline_s)
    return serve.get_deployment_handle(SCORER, app_name=name)


def shutdown(name: str) -> None:
    """Stops the service of a run. Serve itself stays, for the other runs of the cluster."""
    serve.delete(name)


def _start_outside(http: HttpConfig) -> None:
    """Starts Serve from here, or, where this process is inside a placement group, from a task outside of it.

    What such a process starts goes into its group (a trial of Tune is one): Serve's controller does not fit
    there, and would end with it.
    """
    if ray.util.get_current_placement_group() is None:
        _start_serve(http)
        return
    outside = ray.remote(num_cpus=0)(_start_serve).options(scheduling_strategy="DEFAULT")
    try:
        ray.get(outside.remote(http))
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None


def _start_serve(http: HttpConfig) -> None:
    """Serve, with a port only where asked for; one that runs already is left as it is."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if not http.enabled:
        serve.start(proxy_location=ProxyLocation.Disabled, logging_config=QUIET)
        return
    if not serve.status().proxies:
        _check_port(http)
    options = HTTPOptions(host=http.host, port=http.port)
    serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options, logging_config=QUIET)
    if not serve.status().proxies:
        raise UserError(
            "reward.http is enabled, but Ray Serve runs in this cluster already, without a port",
            remedy="stop it with `serve shutdown`, or start the run with the HTTP door before the others",
        )


def _check_port(http: HttpConfig) -> None:
    """Raises UserError if another program listens at the port; Serve itself would try again for ever."""
    with socket.socket(socket.AF_INET6 if ":" in http.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((http.host, http.port))
        except OSError as error:
            # An address of the head node need not be one of this machine; a port in use is one.
            if error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"reward.http.port is {http.port}, where another program listens",
                    remedy="set reward.http.port to a free port",
                ) from None


def _application(config: RewardConfig, token_digest: bytes | None) -> serve.Application:
    """The scorer, behind the door where there is one."""
    scorer = serve.deployment(
        name=SCORER,
        num_replicas=config.num_replicas,
        ray_actor_options={"num_cpus": config.num_cpus_per_replica},
        max_ongoing_requests=config.max_ongoing_requests,
        graceful_shutdown_timeout_s=GRACE_S,
        graceful_shutdown_wait_loop_s=POLL_S,
        health_check_period_s=HEALTH_PERIOD_S,
        logging_config=QUIET,
    )(Scorer).bind(config)
    if not config.http.enabled:
        return scorer
    outside = serve.deployment(name="Door", ray_actor_options={"num_cpus": 0}, logging_config=QUIET)(Door)
    return outside.bind(scorer, config, token_digest)


def _wait_until_running(name: str, deadline_s: float) -> None:
    """Returns when the application scores, and says what Serve waits for when it does not.

    Raises:
        UserError: it cannot be started, or not in time.
    """
    deadline = time.monotonic() + deadline_s
    while (found := serve.status().applications[name]).status != ApplicationStatus.RUNNING:
        if time.monotonic() > deadline or found.status == ApplicationStatus.DEPLOY_FAILED:
            replicas = [f"{n} {dict(d.replica_states)} {d.message}" for n, d in found.deployments.items()]
            serve.delete(name)
            raise UserError(
                f"the reward service does not start within {deadline_s:g} s: "
                f"{found.message} {', '.join(replicas)}",
                remedy="mend what the message names; if that is CPUs, free some or lower reward.num_replicas",
            )
        time.sleep(POLL_S)

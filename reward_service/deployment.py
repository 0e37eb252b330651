"""The rewards as a Ray Serve application, and the client that reaches it by handle.

    rollout worker --HandleClient--> Gateway --> CpuScorer replicas, and one deployment per model or judge
    anybody else   --HTTP----------> Gateway
    rollout worker --HandleClient--> Simple replicas, where all components are quick and nobody is outside

One application per run, named by the caller. What its processes do is in replicas.py.
"""

import errno
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import AutoscalingConfig, HTTPOptions, ProxyLocation, RequestRouterConfig
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, LoggingConfig

from antiphon.errors import UserError
from reward_service.client import Receive, RemoteClient, seconds_until
from reward_service.config import HttpConfig, RewardConfig
from reward_service.http.gatekeeper import digest, token_of
from reward_service.lines import BUNDLE, check_rewards, is_simple, placements
from reward_service.replicas import CpuScorer, Gateway, OwnScorer, Simple
from reward_service.routing import FewestOwed
from reward_service.types import Sample

GATEWAY, CPU = "Gateway", "CpuScorer"
GRACE_S = 2.0
"""How long a replica may finish its request when the service is shut down."""
HEALTH_PERIOD_S = 1.0
"""How soon Serve notices that a replica ended; the default of 10 s would be several rollout batches."""
PING_DEADLINE_S = 5.0
PATIENCE_S = 0.5
"""How much longer than the gateway its client waits: an answer that says "timeout" is better than none."""
POLL_S = 0.1
MAX_ONGOING = 256
"""Requests in the gateway, which only waits for others."""
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)

COMMON: dict[str, Any] = {
    "graceful_shutdown_timeout_s": GRACE_S,
    "graceful_shutdown_wait_loop_s": POLL_S,
    "health_check_period_s": HEALTH_PERIOD_S,
    "logging_config": QUIET,
}
"""Settings of every deployment."""


class HandleClient(RemoteClient):
    """Scores through a Serve handle; may be sent to other Ray processes. Not for use in an event loop."""

    def __init__(self, handle: DeploymentHandle, config: RewardConfig) -> None:
        super().__init__(
            deadline_s=config.deadline_s,
            num_retries=config.retry.num_retries,
            max_batch_size=config.max_batch_size,
        )
        self._handle = handle

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        left_s = seconds_until(deadline)
        response = self._handle.score.remote(list(samples), left_s)
        return lambda: _receive(response, seconds_until(deadline) + min(PATIENCE_S, 0.1 * self._deadline_s))

    def ping(self) -> None:
        """Raises TimeoutError or ConnectionError unless every component is there."""
        _receive(self._handle.ping.remote(), PING_DEADLINE_S)

    def stats(self) -> dict[str, dict[str, float]]:
        """What the service counted, by component."""
        answer: dict[str, dict[str, float]] = _receive(self._handle.stats.remote(), PING_DEADLINE_S)
        return answer

    def state_dict(self) -> dict[str, Any]:
        """What the service must not forget over a restart; JSON-able."""
        answer: dict[str, Any] = _receive(self._handle.state.remote(), PING_DEADLINE_S)
        return answer

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _receive(self._handle.load.remote(state), PING_DEADLINE_S)


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


def deploy(config: RewardConfig, name: str) -> DeploymentHandle:
    """Starts the service called `name` in the connected Ray cluster; returns when it scores.

    Raises:
        UserError: a mistake in the recipe (before anything is started), a replica that does not start, or
            an HTTP door that the running Serve instance cannot open.
    """
    check_rewards(config)
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
    return serve.get_deployment_handle(GATEWAY, app_name=name)


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
    """The gateway in front of its scorers, or a service so simple that it needs none."""
    if is_simple(config) and not config.http.enabled:
        return _quick(config, GATEWAY, Simple)
    placed = placements(config)
    scorers = {}
    if placed["cpu"] or placed["isolated"]:
        scorers[BUNDLE] = _quick(config, CPU, CpuScorer)
    for where, component in placed["own"]:
        service = component.service
        scorers[component.shown_as] = serve.deployment(
            name=_deployment_name(where, component.shown_as),
            ray_actor_options={"num_cpus": service.num_cpus, "num_gpus": service.num_gpus},
            max_ongoing_requests=service.max_ongoing_requests,
            **_replicas(service.num_replicas, service.max_replicas, target=4.0),
            **COMMON,
        )(OwnScorer).bind(component, where)
    gateway = serve.deployment(
        name=GATEWAY,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=MAX_ONGOING,
        max_queued_requests=config.http.max_waiting,
        **COMMON,
    )(Gateway)
    return gateway.bind(config, scorers, token_digest)


def _quick(config: RewardConfig, name: str, scorer: type) -> serve.Application:
    """The replicas for quick components."""
    deployment: Any = serve.deployment(
        name=name,
        request_router_config=RequestRouterConfig(request_router_class=FewestOwed),
        ray_actor_options={"num_cpus": config.num_cpus_per_replica},
        max_ongoing_requests=config.max_ongoing_requests,
        **_replicas(config.num_replicas, config.max_replicas, target=2.0),
        **COMMON,
    )(scorer)
    application: serve.Application = deployment.bind(config)
    return application


def _replicas(num_replicas: int, max_replicas: int | None, target: float) -> dict[str, Any]:
    """A fixed number, or one that follows the queue quickly: rollouts come in bursts of seconds, and Serve's
    own delays (30 s up, 600 s down) would miss all of them."""
    if max_replicas is None or max_replicas <= num_replicas:
        return {"num_replicas": num_replicas}
    scaling = AutoscalingConfig(
        min_replicas=num_replicas,
        max_replicas=max_replicas,
        target_ongoing_requests=target,
        upscale_delay_s=1.0,
        downscale_delay_s=60.0,
        metrics_interval_s=0.5,
        look_back_period_s=2.0,
    )
    return {"autoscaling_config": scaling}


def _deployment_name(where: str, label: str) -> str:
    """Serve wants plain names, as it shows them in paths; the place in the recipe makes it unique."""
    plain = "".join(c if c.isalnum() else "_" for c in label)
    return f"{where.rpartition('.')[2]}_{plain}"


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

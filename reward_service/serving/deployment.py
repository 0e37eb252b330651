"""The deployments of the service and how they are wired.

    rollout worker --HandleClient--> Gateway --> CpuScorer replicas, and one deployment per model or judge
    anybody else   --HTTP----------> Gateway
    rollout worker --HandleClient--> Simple replicas, where all components are quick and nobody is outside

One application per run, named by the caller.
"""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from antiphon.errors import UserError
from reward_service.config import RewardConfig
from reward_service.http.gatekeeper import digest, token_of
from reward_service.lines import BUNDLE, check_rewards, is_simple, placements
from reward_service.serving.cpu_scorer import CpuScorer
from reward_service.serving.gateway import Gateway
from reward_service.serving.instance import QUIET, start_serve_outside
from reward_service.serving.own_scorer import OwnScorer
from reward_service.serving.routing import FewestOwed
from reward_service.serving.simple import Simple

GATEWAY, CPU = "Gateway", "CpuScorer"
GRACE_S = 2.0
"""How long a replica may finish its request when the service is shut down."""
HEALTH_PERIOD_S = 1.0
"""How soon Serve notices that a replica ended; the default of 10 s would be several rollout batches."""
POLL_S = 0.1
MAX_ONGOING = 256
"""Requests in the gateway, which only waits for others."""

ROUTER = RequestRouterConfig.model_validate({"request_router_class": FewestOwed})

NOWHERE_IN_PARTICULAR: Mapping[str, float] = MappingProxyType({})
COMMON: dict[str, Any] = {
    "graceful_shutdown_timeout_s": GRACE_S,
    "graceful_shutdown_wait_loop_s": POLL_S,
    "health_check_period_s": HEALTH_PERIOD_S,
    "logging_config": QUIET,
}
"""Settings of every deployment."""


def deploy(
    config: RewardConfig, name: str, resources: Mapping[str, float] = NOWHERE_IN_PARTICULAR
) -> DeploymentHandle:
    """Starts the service called `name` in the connected Ray cluster; returns when it scores.

    `resources` are custom resources that each of its processes asks for, so that it lands on their nodes.

    Raises:
        UserError: a mistake in the recipe (before anything is started), a replica that does not start, or
            an HTTP door that the running Serve instance cannot open.
    """
    check_rewards(config)
    token = token_of(config.http)
    start_serve_outside(config.http)
    application = build_application(config, None if token is None else digest(token), resources)
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


def build_application(
    config: RewardConfig, token_digest: bytes | None, resources: Mapping[str, float]
) -> serve.Application:
    """The gateway in front of its scorers, or a service so simple that it needs none."""
    placed_on = {"resources": dict(resources)}
    if is_simple(config) and not config.http.enabled:
        return _quick(config, GATEWAY, Simple, placed_on)
    placed = placements(config)
    scorers = {}
    if placed["cpu"] or placed["isolated"]:
        scorers[BUNDLE] = _quick(config, CPU, CpuScorer, placed_on)
    for where, component in placed["own"]:
        service = component.service
        scorers[component.shown_as] = serve.deployment(
            name=_deployment_name(where, component.shown_as),
            ray_actor_options={"num_cpus": service.num_cpus, "num_gpus": service.num_gpus, **placed_on},
            max_ongoing_requests=service.max_ongoing_requests,
            **_replicas(service.num_replicas, service.max_replicas, target=4.0),
            **COMMON,
        )(OwnScorer).bind(component, where)
    gateway = serve.deployment(
        name=GATEWAY,
        ray_actor_options={"num_cpus": 0, **placed_on},
        max_ongoing_requests=MAX_ONGOING,
        max_queued_requests=config.http.max_waiting,
        **COMMON,
    )(Gateway)
    return gateway.bind(config, scorers, token_digest)


def _quick(config: RewardConfig, name: str, scorer: type, placed_on: Mapping[str, Any]) -> serve.Application:
    """The replicas for quick components."""
    deployment: Any = serve.deployment(
        name=name,
        request_router_config=ROUTER,
        ray_actor_options={"num_cpus": config.num_cpus_per_replica, **placed_on},
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

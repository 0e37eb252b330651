"""The operator and Kueue take what is shipped, and each rule refuses what breaks it."""

import copy
from typing import Any

import pytest

from tests.k8s.kuberay_rules import RULES as OF_KUBERAY
from tests.k8s.kueue_rules import queues
from tests.k8s.kustomize import K8S, Document, every_case, ray_resources, read, render

RULES = (*OF_KUBERAY, queues)
JOB, CLUSTER = "base/job/rayjob.yaml", "base/cluster/raycluster.yaml"
SERVICE = "base/service/rayservice.yaml"
GONE = object()
SPEC = "spec.rayClusterSpec"
HEAD, GROUP = f"{SPEC}.headGroupSpec", f"{SPEC}.workerGroupSpecs"
QUEUE = {"metadata.labels": {"kueue.x-k8s.io/queue-name": "q"}}
FIXED = {f"{SPEC}.enableInTreeAutoscaling": False}


def broken(document: Document) -> dict[str, list[str]]:
    """What is wrong with a custom resource, by rule; empty where nothing is."""
    found = {rule.__name__: list(rule(document)) for rule in RULES}
    return {name: problems for name, problems in found.items() if problems}


@pytest.mark.parametrize("file", [JOB, CLUSTER, SERVICE])
def test_the_operator_takes_the_base(file):
    (document,) = read(K8S / file)
    assert broken(document) == {}


@every_case
def test_the_operator_takes_every_overlay_with_its_components(case):
    resources = ray_resources(render(case))
    assert resources
    assert [broken(d) for d in resources] == [{}] * len(resources)


def changed(file: str, changes: dict[str, Any]) -> Document:
    """A shipped document with values set at dotted paths, or taken away."""
    (document,) = read(K8S / file)
    document = copy.deepcopy(document)
    for path, value in changes.items():
        *way, last = path.split(".")
        node: Any = document
        for key in way:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return document


def env(name: str, value: str = "1") -> list[dict[str, str]]:
    return [{"name": name, "value": value}]


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("names", JOB, {"metadata.name": "a" * 48}, "47"),
    ("names", CLUSTER, {"metadata.name": "a" * 54}, "53"),
    ("names", SERVICE, {"metadata.name": "1st"}, "DNS-1035"),
    ("containers", JOB, {f"{GROUP}.1.template.spec.containers": []}, "reward has no container"),
    ("resources_in_one_place", JOB, {f"{GROUP}.0.rayStartParams": {"num-cpus": "1"}}, "learner"),
    ("labels", JOB, {f"{GROUP}.0.rayStartParams": {"labels": "a=b"}}, "rayStartParams"),
    ("labels", JOB, {f"{GROUP}.0.labels": {"zone": "a b"}}, "'a b'"),
    ("replicas", JOB, {f"{GROUP}.2.minReplicas": 3}, "minReplicas 3 above maxReplicas 2"),
    ("replicas", JOB, {f"{GROUP}.2.minReplicas": -1}, "negative"),
    ("replicas", JOB, {**FIXED, f"{GROUP}.0.minReplicas": GONE}, "without the autoscaler"),
    ("idle_timeouts", JOB, {f"{SPEC}.autoscalerOptions": {"version": "v1"}}, "needs autoscaler v2"),
    ("idle_timeouts", JOB, {f"{SPEC}.autoscalerOptions.idleTimeoutSeconds": -1}, "negative"),
    ("priorities", JOB, {f"{SPEC}.rayVersion": "2.55.1"}, "Ray 2.56"),
    ("priorities", JOB, FIXED, "autoscaler v2"),
    ("restart_policies", JOB, {f"{HEAD}.template.spec.restartPolicy": "Always"}, "head has restartPolicy"),
    ("restart_policies", JOB, {f"{GROUP}.2.template.spec.restartPolicy": "OnFailure"}, "rollout-spot"),
    ("suspended_groups", JOB, {f"{GROUP}.2.suspend": True}, "suspended"),
    (
        "autoscaler_variables",
        JOB,
        {f"{HEAD}.template.spec.containers.0.env": env("RAY_enable_autoscaler_v2")},
        "both set",
    ),
    (
        "autoscaler_variables",
        JOB,
        {**FIXED, f"{HEAD}.template.spec.containers.0.env": env("RAY_enable_autoscaler_v2")},
        "without the autoscaler",
    ),
    (
        "autoscaler_variables",
        JOB,
        {f"{SPEC}.autoscalerOptions.env": env("KUBERAY_GEN_AUTOSCALER_START_CMD")},
        "operator's",
    ),
    ("authentication", JOB, {f"{SPEC}.rayVersion": GONE}, "needs rayVersion"),
    ("authentication", JOB, {f"{SPEC}.rayVersion": "nightly"}, "needs rayVersion"),
    ("authentication", JOB, {f"{SPEC}.authOptions.enableK8sTokenAuth": True}, "not supported for a RayJob"),
    ("authentication", SERVICE, {"spec.rayClusterConfig.authOptions.enableK8sTokenAuth": True}, "RayService"),
    (
        "authentication",
        CLUSTER,
        {"spec.authOptions": {"mode": "token", "enableK8sTokenAuth": True, "secretName": "s"}},
        "no secretName",
    ),
    (
        "fault_tolerance",
        JOB,
        {f"{HEAD}.template.spec.containers.0.env": env("RAY_REDIS_ADDRESS", "redis:6379")},
        "without gcsFaultToleranceOptions",
    ),
    (
        "fault_tolerance",
        JOB,
        {
            f"{SPEC}.gcsFaultToleranceOptions": {"redisAddress": "redis:6379"},
            f"{HEAD}.template.spec.containers.0.env": env("REDIS_PASSWORD"),
        },
        "REDIS_PASSWORD",
    ),
    ("fault_tolerance", JOB, {f"{HEAD}.rayStartParams.redis-username": "me"}, "redisUsername"),
    ("fault_tolerance", JOB, {f"{SPEC}.gcsFaultToleranceOptions": {"storage": {"size": "1Gi"}}}, "rocksdb"),
    ("gated", JOB, {f"{SPEC}.networkPolicy": {"mode": "DenyAll"}}, "networkPolicy"),
    ("gated", JOB, {f"{SPEC}.tlsOptions": {}}, "tlsOptions"),
    ("gated", JOB, {f"{SPEC}.gcsFaultToleranceOptions": {"backend": "rocksdb"}}, "rocksdb"),
    ("upgrades", CLUSTER, {"spec.upgradeStrategy": {"type": "NewCluster"}}, "NewCluster of a RayCluster"),
    ("upgrades", SERVICE, {"spec.upgradeStrategy": {"type": "Recreate"}}, "Recreate of a RayService"),
    ("upgrades", JOB, {f"{SPEC}.upgradeStrategy": {"type": "Recreate"}}, "by hand"),
    (
        "upgrades",
        SERVICE,
        {"spec.upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}},
        "gatewayClassName",
    ),
    ("endings", JOB, {"spec.shutdownAfterJobFinishes": False}, "ttlSecondsAfterFinished"),
    (
        "endings",
        JOB,
        {"spec.shutdownAfterJobFinishes": False, "spec.ttlSecondsAfterFinished": 0, "spec.suspend": True},
        "suspend needs",
    ),
    ("endings", JOB, {"spec.deletionStrategy": {"deletionRules": [{"policy": "DeleteSelf"}]}}, "exclude"),
    ("endings", JOB, {"spec.deletionStrategy": {"onSuccess": {"policy": "DeleteSelf"}}}, "either"),
    (
        "endings",
        JOB,
        {"spec.deletionStrategy": {"deletionRules": [{"policy": "DeleteWorkers"}]}},
        "autoscaler",
    ),
    (
        "submission",
        JOB,
        {"spec.clusterSelector": {"ray.io/cluster": "x"}},
        "neither suspend nor backoffLimit",
    ),
    ("submission", JOB, {"spec.submissionMode": "InteractiveMode"}, "backoffLimit"),
    ("submission", JOB, {"spec.submissionMode": "SidecarMode"}, "SidecarMode"),
    ("submission", JOB, {"spec.runtimeEnvYAML": "- a\n- b\n"}, "runtimeEnvYAML"),
    ("submission", JOB, {"spec.preRunningDeadlineSeconds": 0}, "positive"),
    ("submission", JOB, {"spec.backoffLimit": -1}, "negative"),
    ("services", SERVICE, {"spec.rayClusterConfig.headGroupSpec.headService.metadata.name": "x"}, "itself"),
    ("queues", JOB, QUEUE, "elastic-job"),
    ("queues", JOB, {**QUEUE, "spec.shutdownAfterJobFinishes": False}, "shut its cluster down"),
    ("queues", JOB, {**QUEUE, f"{GROUP}.1.groupName": "head"}, "no group called head"),
    ("queues", JOB, {**QUEUE, f"{GROUP}.1.replicas": GONE}, "counts replicas"),
]


@pytest.mark.parametrize(("rule", "file", "changes", "words"), REFUSED)
def test_the_operator_refuses(rule, file, changes, words):
    found = broken(changed(file, changes))
    assert rule in found
    assert any(words in problem for problem in found[rule]), found


def test_every_rule_has_something_that_it_refuses():
    assert {rule for rule, *_ in REFUSED} == {rule.__name__ for rule in RULES}

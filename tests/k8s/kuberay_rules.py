"""What KubeRay's operator (1.7) refuses although the schema takes it.

Each rule is a function from a custom resource to what is wrong with it, as the validation.go of 1.7 says.
Feature gates are those of k8s/values/kuberay-operator.yaml. What Kueue refuses is in kueue_rules.py.
"""

import re
from collections.abc import Callable, Iterator

import yaml

from tests.k8s.kustomize import Document, cluster_of

Rule = Callable[[Document], Iterator[str]]
MAX_NAME = {"RayCluster": 53, "RayJob": 47, "RayService": 47}
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
RESOURCE_PARAMS = {"num-cpus", "num-gpus", "memory", "resources"}
AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"


def names(d: Document) -> Iterator[str]:
    name = d["metadata"]["name"]
    if len(name) > MAX_NAME[d["kind"]]:
        yield f"the name has {len(name)} characters, {MAX_NAME[d['kind']]} are allowed"
    if not DNS_1035.fullmatch(name):
        yield f"{name!r} is no DNS-1035 label"


def containers(d: Document) -> Iterator[str]:
    empty = [name for name, group in _groups(d) if not group["template"]["spec"].get("containers")]
    yield from (f"{name} has no container" for name in empty)


def resources_in_one_place(d: Document) -> Iterator[str]:
    for name, group in _groups(d):
        if group.get("resources") and RESOURCE_PARAMS & set(group.get("rayStartParams", {})):
            yield f"{name} has resources in rayStartParams too"


def labels(d: Document) -> Iterator[str]:
    for name, group in _groups(d):
        if "labels" in group.get("rayStartParams", {}):
            yield f"{name} has labels in rayStartParams"
        for value in group.get("labels", {}).values():
            if len(value) > 63 or not LABEL_VALUE.fullmatch(value):
                yield f"{name} has the label value {value!r}"


def replicas(d: Document) -> Iterator[str]:
    for name, group in workers_of(d):
        low, high = group.get("minReplicas"), group.get("maxReplicas")
        if None in (low, high):
            if not is_scaled(d):
                yield f"{name} needs minReplicas and maxReplicas without the autoscaler"
            continue
        if low < 0 or high < 0:
            yield f"{name} has a negative number of replicas"
        if low > high:
            yield f"{name} has minReplicas {low} above maxReplicas {high}"


def idle_timeouts(d: Document) -> Iterator[str]:
    for name, group in workers_of(d):
        idle = group.get("idleTimeoutSeconds")
        if idle is not None and (idle < 0 or not is_scaled_by_v2(d)):
            yield f"{name} has idleTimeoutSeconds {idle}, which needs autoscaler v2"
    if cluster_of(d).get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds is negative"


def priorities(d: Document) -> Iterator[str]:
    for name, group in workers_of(d):
        if group.get("priority", 0) and not (is_scaled_by_v2(d) and _version(d) >= (2, 56)):
            yield f"{name} has a priority, which needs autoscaler v2 and Ray 2.56"


def restart_policies(d: Document) -> Iterator[str]:
    for name, group in _groups(d):
        policy = group["template"]["spec"].get("restartPolicy", "Never")
        if is_scaled_by_v2(d) and policy != "Never":
            yield f"{name} has restartPolicy {policy} with autoscaler v2"


def suspended_groups(d: Document) -> Iterator[str]:
    for name, group in workers_of(d):
        if group.get("suspend") and is_scaled(d):
            yield f"{name} is suspended with the autoscaler"


def autoscaler_variables(d: Document) -> Iterator[str]:
    cluster, variables = cluster_of(d), _head_variables(d)
    options = cluster.get("autoscalerOptions", {})
    if not is_scaled(d) and variables.get(AUTOSCALER_V2) in ("1", "true"):
        yield f"{AUTOSCALER_V2} is set without the autoscaler"
    if is_scaled(d) and "version" in options and AUTOSCALER_V2 in variables:
        yield f"{AUTOSCALER_V2} and autoscalerOptions.version are both set"
    if "KUBERAY_GEN_AUTOSCALER_START_CMD" in {e["name"] for e in options.get("env", [])}:
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD is the operator's"


def authentication(d: Document) -> Iterator[str]:
    options = cluster_of(d).get("authOptions", {})
    is_token, by_kubernetes = options.get("mode") == "token", options.get("enableK8sTokenAuth", False)
    if is_token and _version(d) < (2, 52):
        yield "authOptions.mode token needs rayVersion 2.52 or later"
    if by_kubernetes and d["kind"] != "RayCluster":
        yield f"enableK8sTokenAuth is not supported for a {d['kind']}"
    if by_kubernetes and (not is_token or options.get("secretName") or _version(d) < (2, 55)):
        yield "enableK8sTokenAuth needs mode token, no secretName, and Ray 2.55"


def fault_tolerance(d: Document) -> Iterator[str]:
    options, variables = cluster_of(d).get("gcsFaultToleranceOptions"), _head_variables(d)
    params = cluster_of(d)["headGroupSpec"].get("rayStartParams", {})
    annotations = d["metadata"].get("annotations", {})
    if options is None:
        if "RAY_REDIS_ADDRESS" in variables and "ray.io/ft-enabled" not in annotations:
            yield "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions"
    else:
        managed = {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & set(variables)
        managed |= {"redis-password"} & set(params)
        managed |= {"ray.io/ft-enabled", "ray.io/external-storage-namespace"} & set(annotations)
        if managed:
            yield f"{sorted(managed)} beside gcsFaultToleranceOptions"
        if options.get("storage") and options.get("backend", "redis") == "redis":
            yield "gcsFaultToleranceOptions.storage is for the backend rocksdb"
    if "redis-username" in params or "REDIS_USERNAME" in variables:
        yield "the name of the user belongs into gcsFaultToleranceOptions.redisUsername"


def gated(d: Document) -> Iterator[str]:
    """Alpha features, whose gates are off."""
    cluster = cluster_of(d)
    for field in ("networkPolicy", "tlsOptions", "historyServerOptions"):
        if field in cluster:
            yield f"{field} needs a feature gate that is off"
    if cluster.get("gcsFaultToleranceOptions", {}).get("backend") == "rocksdb":
        yield "the backend rocksdb needs a feature gate that is off"


def upgrades(d: Document) -> Iterator[str]:
    strategy = d["spec"].get("upgradeStrategy", {})
    kind = strategy.get("type")
    allowed = {
        "RayCluster": {None, "Recreate", "None"},
        "RayService": {None, "None", "NewCluster", "NewClusterWithIncrementalUpgrade"},
        "RayJob": {None},
    }
    if kind not in allowed[d["kind"]]:
        yield f"upgradeStrategy.type {kind} of a {d['kind']}"
    if d["kind"] != "RayCluster" and "upgradeStrategy" in cluster_of(d):
        yield "upgradeStrategy belongs to a cluster that somebody made by hand"
    if kind == "NewClusterWithIncrementalUpgrade":
        options = strategy.get("clusterUpgradeOptions", {})
        needed = {"stepSizePercent", "intervalSeconds", "gatewayClassName"}
        if not is_scaled(d) or not needed <= set(options):
            yield f"an incremental upgrade needs the autoscaler and {sorted(needed)}"


def endings(d: Document) -> Iterator[str]:
    """Of a RayJob: what is left of it, and when."""
    if d["kind"] != "RayJob":
        return
    spec = d["spec"]
    ttl, ends = spec.get("ttlSecondsAfterFinished", 0), spec.get("shutdownAfterJobFinishes", False)
    if ttl < 0 or (ttl > 0 and not ends):
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes, and no negative number"
    if spec.get("suspend") and not ends:
        yield "suspend needs shutdownAfterJobFinishes"
    strategy = spec.get("deletionStrategy")
    if strategy is None:
        return
    rules, is_old = strategy.get("deletionRules"), {"onSuccess", "onFailure"} & set(strategy)
    if rules and ends:
        yield "deletionRules and shutdownAfterJobFinishes exclude each other"
    if (rules and is_old) or not (rules or len(is_old) == 2):
        yield "deletionStrategy is either deletionRules, or onSuccess with onFailure"
    if is_scaled(d) and "DeleteWorkers" in [r.get("policy") for r in rules or []]:
        yield "DeleteWorkers is not supported with the autoscaler"


def submission(d: Document) -> Iterator[str]:
    """Of a RayJob: how it gets to its cluster."""
    if d["kind"] != "RayJob":
        return
    spec = d["spec"]
    mode, selector, limit = (
        spec.get("submissionMode"),
        spec.get("clusterSelector"),
        spec.get("backoffLimit", 0),
    )
    if "rayClusterSpec" not in spec and not selector:
        yield "neither rayClusterSpec nor clusterSelector"
    if selector and (not selector.get("ray.io/cluster") or spec.get("suspend") or limit > 0):
        yield "clusterSelector needs a name, and neither suspend nor backoffLimit"
    if mode == "InteractiveMode" and limit > 0:
        yield "InteractiveMode has no backoffLimit"
    if mode == "SidecarMode" and {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & set(spec):
        yield "SidecarMode has neither submitter nor clusterSelector"
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        yield "runtimeEnvYAML is no YAML mapping"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{field} must be positive"
    if limit < 0:
        yield "backoffLimit is negative"


def services(d: Document) -> Iterator[str]:
    if d["kind"] == "RayService" and cluster_of(d)["headGroupSpec"].get("headService", {}).get(
        "metadata", {}
    ):
        yield "a RayService names the service of its head itself"


RULES: tuple[Rule, ...] = (
    *(names, containers, resources_in_one_place, labels, replicas, idle_timeouts, priorities),
    *(restart_policies, suspended_groups, autoscaler_variables, authentication, fault_tolerance),
    *(gated, upgrades, endings, submission, services),
)


def _groups(d: Document) -> list[tuple[str, Document]]:
    return [("head", cluster_of(d)["headGroupSpec"]), *workers_of(d)]


def workers_of(d: Document) -> list[tuple[str, Document]]:
    return [(g["groupName"], g) for g in cluster_of(d).get("workerGroupSpecs", [])]


def is_scaled(d: Document) -> bool:
    return bool(cluster_of(d).get("enableInTreeAutoscaling", False))


def is_scaled_by_v2(d: Document) -> bool:
    options = cluster_of(d).get("autoscalerOptions", {})
    return is_scaled(d) and options.get("version") == "v2"


def _version(d: Document) -> tuple[int, ...]:
    """The minor version of Ray; (0,) where there is none that can be read."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", str(cluster_of(d).get("rayVersion", "")))
    return (int(found[1]), int(found[2])) if found else (0,)


def _head_variables(d: Document) -> dict[str, str]:
    spec = cluster_of(d)["headGroupSpec"]["template"]["spec"]
    container = (spec.get("containers") or [{}])[0]
    return {e["name"]: e.get("value", "") for e in container.get("env", [])}

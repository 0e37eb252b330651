"""What we ask of every manifest beyond what Kubernetes does: each policy names what breaks it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.k8s.kustomize import CLUSTER_AT, Document, cluster_of, groups_of, pick, pod_templates

CLUSTER_WIDE = {"Namespace", "PriorityClass"}
PINNED = re.compile(r"[^:@]+(:[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})")
SPOT = re.compile(r"spot|capacity", re.IGNORECASE)
SECRET_WORDS = re.compile(r"token|password|secret|key$", re.IGNORECASE)
STAYS = "cluster-autoscaler.kubernetes.io/safe-to-evict"
ROLES = {"head": "head", "learner": "learner", "reward": "reward"}
"""The role of a group by its name; all others are rollouts."""


def containers(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Every container, with the autoscaler's settings as one."""
    for name, template in pod_templates(documents):
        spec = template["spec"]
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            yield f"{name}/{container['name']}", container
    for d in documents:
        if d["kind"] in CLUSTER_AT and "autoscalerOptions" in cluster_of(d):
            yield f"{d['kind']}/autoscaler", cluster_of(d)["autoscalerOptions"]


def limits(documents: Sequence[Document]) -> Iterator[str]:
    """CPU and memory are limited, and what is limited of memory and GPUs is reserved too."""
    for name, container in containers(documents):
        asked = container["resources"].get("requests", {})
        bounds = container["resources"].get("limits", {})
        if not {"cpu", "memory"} <= set(asked) & set(bounds):
            yield f"{name} has no limit or request of cpu or memory"
        for kind in {"memory", "nvidia.com/gpu"} & set(bounds):
            if asked.get(kind) != bounds[kind]:
                yield f"{name} asks for {asked.get(kind)} of {kind}, and may use {bounds[kind]}"


def confined(documents: Sequence[Document]) -> Iterator[str]:
    """The profile `restricted` of the Pod Security Standards."""
    for name, template in pod_templates(documents):
        spec = template["spec"]
        security = spec.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            yield f"{name} may run as root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has no seccomp profile"
        if any(spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name} shares the host's namespaces"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{name} mounts a path of the host"
    for name, container in containers(documents):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield f"{name} may gain privileges"
        if security.get("capabilities", {}) != {"drop": ["ALL"]}:
            yield f"{name} keeps capabilities"


def tokens(documents: Sequence[Document]) -> Iterator[str]:
    """Only the head, beside which the autoscaler runs, has a token of the API server."""
    for name, template in pod_templates(documents):
        spec = template["spec"]
        if "serviceAccountName" not in spec:
            yield f"{name} uses the default service account"
        if spec.get("automountServiceAccountToken", True) and not name.endswith("/head"):
            yield f"{name} mounts a token of the API server"


def images(documents: Sequence[Document]) -> Iterator[str]:
    for name, container in containers(documents):
        image = container.get("image")
        if image is not None and not PINNED.fullmatch(image):
            yield f"{name} has the image {image}, which is no fixed version"


def spot(documents: Sequence[Document]) -> Iterator[str]:
    """Nodes that may be taken away are for rollouts, and for nobody else."""
    for d in documents:
        for group, spec in groups_of(d).items() if d["kind"] in CLUSTER_AT else ():
            tolerated = [t for t in spec["template"]["spec"].get("tolerations", []) if SPOT.search(t["key"])]
            if tolerated and group != "rollout-spot":
                yield f"{group} tolerates {tolerated}"
            for e in _node_expressions(spec):
                if SPOT.search(e["key"]) and e["operator"] == "In" and group != "rollout-spot":
                    yield f"{group} asks for {e}"


def selectors(documents: Sequence[Document]) -> Iterator[str]:
    """Whatever selects pods selects some of those that are here."""
    pods = {name: template["metadata"]["labels"] for name, template in pod_templates(documents)}
    for d in documents:
        for selector in _pod_selectors(d):
            if not any(is_selected(selector, labels) for labels in pods.values()):
                yield f"{d['kind']}/{d['metadata']['name']} selects nothing: {selector}"


def is_selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector of Kubernetes takes these labels."""
    wanted = selector.get("matchLabels", {})
    rules = selector.get("matchExpressions", [])
    tests = {
        "In": lambda e: labels.get(e["key"]) in e["values"],
        "NotIn": lambda e: labels.get(e["key"]) not in e["values"],
        "Exists": lambda e: e["key"] in labels,
        "DoesNotExist": lambda e: e["key"] not in labels,
    }
    return all(labels.get(k) == v for k, v in wanted.items()) and all(tests[e["operator"]](e) for e in rules)


def secrets(documents: Sequence[Document]) -> Iterator[str]:
    """What is secret is named, and never written down."""
    for d in documents:
        if d["kind"] == "Secret":
            yield f"Secret/{d['metadata']['name']} is in the tree"
    for name, container in containers(documents):
        for variable in container.get("env", []):
            if SECRET_WORDS.search(variable["name"]) and "value" in variable:
                yield f"{name} has the value of {variable['name']}"


def authenticated(documents: Sequence[Document]) -> Iterator[str]:
    for d in documents:
        if d["kind"] in CLUSTER_AT and cluster_of(d).get("authOptions", {}).get("mode") != "token":
            yield f"{d['kind']} asks for no token"


def closed(documents: Sequence[Document]) -> Iterator[str]:
    """Everything is denied first, for all pods and both directions; names can be looked up."""
    rules = pick(documents, "NetworkPolicy")
    if not any(p["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for p in rules):
        yield "no NetworkPolicy denies everything"
    opened = [(p["metadata"]["name"], rule) for p in rules for rule in p["spec"].get("ingress", [])]
    for name, rule in opened:
        if not rule.get("from") or {} in rule["from"]:
            yield f"{name} lets anybody in"
    if 53 not in [
        port["port"] for p in rules for e in p["spec"].get("egress", []) for port in e.get("ports", [])
    ]:
        yield "nobody can look up a name"


def placed(documents: Sequence[Document]) -> Iterator[str]:
    """Everything that has a namespace is in ours."""
    for d in documents:
        if d["kind"] not in CLUSTER_WIDE and d["metadata"].get("namespace") != "antiphon":
            yield f"{d['kind']}/{d['metadata']['name']} is in {d['metadata'].get('namespace')}"


def labelled(documents: Sequence[Document]) -> Iterator[str]:
    """Selectors go by the role, which is that of the group."""
    for d in documents:
        for group, spec in groups_of(d).items() if d["kind"] in CLUSTER_AT else ():
            labels = spec["template"]["metadata"]["labels"]
            role = ROLES.get(group, "rollout")
            if labels.get("antiphon/role") != role or labels.get("app.kubernetes.io/part-of") != "antiphon":
                yield f"{group} is labelled {labels}"


def lasting(documents: Sequence[Document]) -> Iterator[str]:
    """Head and learner of a run are not evicted, and have time to save; rollouts are not kept."""
    for d in documents:
        if d["kind"] not in ("RayJob", "RayCluster"):
            continue
        for group, spec in groups_of(d).items():
            annotations = spec["template"]["metadata"].get("annotations", {})
            if (annotations.get(STAYS) == "false") != (group in ("head", "learner")):
                yield f"{group} has {STAYS}: {annotations.get(STAYS)}"
        head = groups_of(d)["head"]["template"]["spec"]
        stop_s = {e["name"]: e.get("value") for e in head["containers"][0]["env"]}.get(
            "RAY_JOB_STOP_WAIT_TIME_S"
        )
        for group in ("head", "learner"):
            pod = groups_of(d)[group]["template"]["spec"]
            wait_s = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
            if not float(stop_s or 0) <= wait_s < pod["terminationGracePeriodSeconds"]:
                yield f"{group} waits {wait_s} s; a job may take {stop_s} s to stop, the pod has " + str(
                    pod["terminationGracePeriodSeconds"]
                )


def shared_memory(documents: Sequence[Document]) -> Iterator[str]:
    """The object store lies in /dev/shm, which is a part of the container's memory and has a bound."""
    for d in documents:
        for group, spec in groups_of(d).items() if d["kind"] in CLUSTER_AT else ():
            pod = spec["template"]["spec"]
            mounted = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
            volume = {v["name"]: v for v in pod["volumes"]}.get(mounted.get("/dev/shm", ""), {})
            size = volume.get("emptyDir", {}).get("sizeLimit")
            memory = num_bytes(pod["containers"][0]["resources"]["limits"]["memory"])
            if volume.get("emptyDir", {}).get("medium") != "Memory" or size is None:
                yield f"{group} has no bounded /dev/shm"
            elif num_bytes(size) > 0.8 * memory:
                yield f"{group} has {size} of /dev/shm in {memory / 2**30:.0f}Gi"
            elif int(spec["rayStartParams"].get("object-store-memory", 0)) > num_bytes(size):
                yield f"{group} has a larger object store than /dev/shm"


POLICIES = (
    *(limits, confined, tokens, images, spot, selectors, secrets, authenticated, closed, placed),
    *(labelled, lasting, shared_memory),
)


def violations(documents: Sequence[Document]) -> dict[str, list[str]]:
    """What breaks the policies, by policy."""
    found = {policy.__name__: list(policy(documents)) for policy in POLICIES}
    return {name: problems for name, problems in found.items() if problems}


def num_bytes(quantity: str) -> float:
    """A quantity of Kubernetes in bytes: 2Gi -> 2147483648."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti)?", quantity)
    assert found, quantity
    return float(found[1]) * {None: 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[found[2]]


def _node_expressions(group: Document) -> Iterator[Document]:
    affinity = group["template"]["spec"].get("affinity", {}).get("nodeAffinity", {})
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
        "nodeSelectorTerms", []
    ):
        yield from term["matchExpressions"]


def _pod_selectors(d: Document) -> Iterator[Mapping[str, Any]]:
    """Selectors of pods in this namespace; those of pods elsewhere stand beside a namespaceSelector."""
    spec = d.get("spec", {})
    if d["kind"] in ("PodDisruptionBudget", "PodMonitor", "StatefulSet"):
        yield spec["selector"]
    if d["kind"] == "Service":
        yield {"matchLabels": spec["selector"]}
    if d["kind"] == "NetworkPolicy":
        yield spec["podSelector"]
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            for peer in [*rule.get("from", []), *rule.get("to", [])]:
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield peer["podSelector"]

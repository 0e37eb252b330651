"""Every overlay keeps the policies, and each policy finds what breaks it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s.kustomize import K8S, Document, cluster_of, every_case, groups_of, pick, read, render
from tests.k8s.policies import POLICIES, is_selected, num_bytes, violations

BY_NAME = {policy.__name__: policy for policy in POLICIES}


@every_case
def test_every_overlay_keeps_the_policies(case):
    found = violations(render(case))
    missing = [p for p in found.get("selectors", []) if not is_of_another_kind(p, case.overlay)]
    assert missing == []
    assert {name: problems for name, problems in found.items() if name != "selectors"} == {}


def is_of_another_kind(problem: str, overlay: str) -> bool:
    """The doors of the common part stand in every overlay; not every kind of cluster has a submitter."""
    return overlay in ("interactive", "rewards") and "'antiphon/role': 'submitter'" in problem


def parts() -> list[Document]:
    """What the base of a run ships, without a renderer; the namespace is set by overlays."""
    paths = [*(K8S / "base/common").glob("*.yaml"), *(K8S / "base/training").glob("*.yaml")]
    paths += [K8S / "base/job/rayjob.yaml", K8S / "components/monitoring/podmonitor.yaml"]
    documents = [d for p in paths if p.name != "kustomization.yaml" for d in read(p)]
    documents = [copy.deepcopy(d) for d in documents]
    for d in documents:
        if d["kind"] not in ("Namespace", "PriorityClass"):
            d["metadata"]["namespace"] = "antiphon"
    return documents


def test_the_base_keeps_the_policies():
    assert violations(parts()) == {}


def pod(documents: list[Document], group: str) -> Document:
    return groups_of(pick(documents, "RayJob")[0])[group]["template"]["spec"]


def container(documents: list[Document], group: str) -> Document:
    return pod(documents, group)["containers"][0]


def policy(documents: list[Document], name: str) -> Document:
    return next(p for p in pick(documents, "NetworkPolicy") if p["metadata"]["name"] == name)


SPOT = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
AFFINITY = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")


def expressions(documents: list[Document], group: str) -> list[Any]:
    node: Any = pod(documents, group)
    for key in AFFINITY:
        node = node[key]
    return node[0]["matchExpressions"]


BROKEN: list[tuple[str, Callable[[list[Document]], Any], str]] = [
    ("limits", lambda d: container(d, "reward")["resources"].pop("limits"), "reward"),
    ("limits", lambda d: container(d, "learner")["resources"]["limits"].update(memory="9Gi"), "may use 9Gi"),
    ("limits", lambda d: container(d, "head")["resources"]["limits"].update({"nvidia.com/gpu": "1"}), "gpu"),
    ("confined", lambda d: pod(d, "head")["securityContext"].update(runAsNonRoot=False), "root"),
    ("confined", lambda d: pod(d, "learner")["securityContext"].update(runAsUser=0), "root"),
    ("confined", lambda d: pod(d, "learner")["securityContext"].pop("seccompProfile"), "seccomp"),
    ("confined", lambda d: pod(d, "reward").update(hostNetwork=True), "host's"),
    (
        "confined",
        lambda d: pod(d, "reward")["volumes"].append({"hostPath": {"path": "/"}}),
        "path of the host",
    ),
    ("confined", lambda d: container(d, "head")["securityContext"].update(privileged=True), "privileges"),
    ("confined", lambda d: container(d, "head").pop("securityContext"), "privileges"),
    ("confined", lambda d: container(d, "head")["securityContext"].pop("capabilities"), "capabilities"),
    (
        "confined",
        lambda d: cluster_of(pick(d, "RayJob")[0])["autoscalerOptions"].pop("securityContext"),
        "autoscaler",
    ),
    ("tokens", lambda d: pod(d, "rollout-spot").pop("automountServiceAccountToken"), "mounts a token"),
    ("tokens", lambda d: pod(d, "head").pop("serviceAccountName"), "default service account"),
    ("images", lambda d: container(d, "head").update(image="antiphon:latest"), "latest"),
    ("images", lambda d: container(d, "head").update(image="registry:5000/antiphon"), "registry"),
    ("spot", lambda d: pod(d, "learner").update(tolerations=[SPOT]), "learner tolerates"),
    ("spot", lambda d: pod(d, "rollout-ondemand").update(tolerations=[SPOT]), "rollout-ondemand"),
    (
        "spot",
        lambda d: expressions(d, "head").append({"key": SPOT["key"], "operator": "In", "values": ["true"]}),
        "head asks",
    ),
    (
        "selectors",
        lambda d: pick(d, "PodDisruptionBudget")[0]["spec"]["selector"].update(matchLabels={"role": "head"}),
        "PodDisruptionBudget",
    ),
    (
        "selectors",
        lambda d: pick(d, "PodMonitor")[0]["spec"]["selector"].update(
            matchExpressions=[{"key": "antiphon/role", "operator": "In", "values": ["heads"]}]
        ),
        "PodMonitor",
    ),
    (
        "selectors",
        lambda d: policy(d, "submitter")["spec"]["egress"][0]["to"][0]["podSelector"].update(
            matchLabels={"antiphon/role": "master"}
        ),
        "master",
    ),
    (
        "secrets",
        lambda d: d.append({"kind": "Secret", "metadata": {"name": "s", "namespace": "antiphon"}}),
        "s",
    ),
    (
        "secrets",
        lambda d: container(d, "head")["env"].append({"name": "RAY_AUTH_TOKEN", "value": "abc"}),
        "RAY_AUTH_TOKEN",
    ),
    ("authenticated", lambda d: cluster_of(pick(d, "RayJob")[0]).pop("authOptions"), "no token"),
    ("closed", lambda d: d.remove(policy(d, "default-deny")), "denies everything"),
    ("closed", lambda d: policy(d, "head-jobs")["spec"]["ingress"].append({"from": []}), "anybody"),
    ("closed", lambda d: d.remove(policy(d, "dns")), "look up"),
    ("placed", lambda d: pick(d, "RayJob")[0]["metadata"].pop("namespace"), "RayJob"),
    (
        "labelled",
        lambda d: groups_of(pick(d, "RayJob")[0])["learner"]["template"]["metadata"]["labels"].update(
            {"antiphon/role": "rollout"}
        ),
        "learner",
    ),
    ("lasting", lambda d: pod(d, "learner").update(terminationGracePeriodSeconds=30), "learner waits"),
    (
        "lasting",
        lambda d: groups_of(pick(d, "RayJob")[0])["head"]["template"]["metadata"].pop("annotations"),
        "head has",
    ),
    (
        "lasting",
        lambda d: groups_of(pick(d, "RayJob")[0])["rollout-spot"]["template"]["metadata"].update(
            annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        ),
        "rollout-spot has",
    ),
    (
        "lasting",
        lambda d: next(
            e for e in container(d, "head")["env"] if e["name"] == "RAY_JOB_STOP_WAIT_TIME_S"
        ).update(value="900"),
        "900",
    ),
    ("shared_memory", lambda d: pod(d, "learner")["volumes"][0].update(emptyDir={}), "no bounded"),
    (
        "shared_memory",
        lambda d: pod(d, "learner")["volumes"][0]["emptyDir"].update(sizeLimit="8Gi"),
        "8Gi of /dev/shm",
    ),
    (
        "shared_memory",
        lambda d: groups_of(pick(d, "RayJob")[0])["learner"]["rayStartParams"].update(
            {"object-store-memory": "9000000000"}
        ),
        "larger object store",
    ),
]


@pytest.mark.parametrize(("name", "breaks", "words"), BROKEN)
def test_what_breaks_a_policy_is_found(name, breaks, words):
    documents = parts()
    breaks(documents)
    found = list(BY_NAME[name](documents))
    assert any(words in problem for problem in found), found


def test_every_policy_has_something_that_breaks_it():
    assert {name for name, *_ in BROKEN} == set(BY_NAME)


def test_selectors_are_those_of_kubernetes():
    labels = {"a": "1"}
    assert is_selected({}, labels)
    assert is_selected({"matchLabels": {"a": "1"}}, labels)
    assert not is_selected({"matchLabels": {"a": "2"}}, labels)
    for operator, values, expected in [
        ("In", ["1"], True),
        ("In", ["2"], False),
        ("NotIn", ["1"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ]:
        rule = {"key": "a", "operator": operator, "values": values}
        assert is_selected({"matchExpressions": [rule]}, labels) is expected


def test_quantities_are_those_of_kubernetes():
    assert (num_bytes("2Gi"), num_bytes("1.5Ki"), num_bytes("7")) == (2**31, 1536, 7)

"""What the manifests become: kustomizations rendered, once each, and their documents."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.k8s.plain_kustomize import LOADER, Document, apply

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
CLUSTER_AT = {
    "RayJob": ("spec", "rayClusterSpec"),
    "RayCluster": ("spec",),
    "RayService": ("spec", "rayClusterConfig"),
}
"""Where the cluster is in a custom resource of Ray."""


@dataclass(frozen=True)
class Case:
    """An overlay with components, as somebody would put them together."""

    overlay: str
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "+".join((self.overlay, *self.components))


CASES = (
    Case("dev"),
    Case("interactive"),
    Case("rewards"),
    Case("gpu-8b"),
    Case("gpu-32b"),
    Case("gpu-70b"),
    Case("interactive", ("auth-token", "monitoring", "spot-aks", "gcs-ft-redis", "s3-checkpoints")),
    Case("rewards", ("auth-token", "monitoring", "gcs-ft-redis", "judge-egress")),
    Case("gpu-8b", ("spot-eks", "kueue-elastic", "judge-egress")),
    Case("gpu-32b", ("kueue", "spot-gke", "gcs-ft-redis")),
    Case("gpu-70b", ("auth-token", "monitoring", "spot-gke", "kueue", "s3-checkpoints")),
)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@functools.cache
def render(case: Case) -> tuple[Document, ...]:
    """The documents of a case, by kubectl, or by our own rendering where there is none. They are cached: copy
    before changing one."""
    return by_kubectl(case) if shutil.which("kubectl") else plainly(case)


@functools.cache
def by_kubectl(case: Case) -> tuple[Document, ...]:
    """Raises AssertionError with what kubectl said if it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "kustomization.yaml").write_text(yaml.safe_dump(wanted(case, path)))
        command = ["kubectl", "kustomize", folder]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return tuple(yaml.load_all(ended.stdout, LOADER))


@functools.cache
def plainly(case: Case) -> tuple[Document, ...]:
    """The same without a tool."""
    return tuple(apply(wanted(case, K8S), K8S, []))


def wanted(case: Case, folder: Path) -> Document:
    """A kustomization in `folder` that puts the case together; kustomize wants relative paths."""
    base = os.path.relpath(K8S, os.path.realpath(folder))
    return {
        "namespace": "antiphon",
        "resources": [f"{base}/overlays/{case.overlay}"],
        "components": [f"{base}/components/{c}" for c in case.components],
    }


def read(path: Path) -> list[Document]:
    """The documents of a file."""
    return [d for d in yaml.load_all(path.read_text(), LOADER) if d is not None]


def pick(documents: Sequence[Document], kind: str) -> list[Document]:
    return [d for d in documents if d["kind"] == kind]


def ray_resources(documents: Sequence[Document]) -> list[Document]:
    return [d for d in documents if d["kind"] in CLUSTER_AT]


def cluster_of(document: Document) -> Document:
    """The cluster in a custom resource of Ray."""
    node = document
    for key in CLUSTER_AT[document["kind"]]:
        node = node[key]
    return node


def groups_of(document: Document) -> dict[str, Document]:
    """The worker groups by name, and the head as `head`."""
    cluster = cluster_of(document)
    return {"head": cluster["headGroupSpec"], **{g["groupName"]: g for g in cluster["workerGroupSpecs"]}}


def pod_templates(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod template with a name to tell it by."""
    for d in documents:
        name = f"{d['kind']}/{d['metadata']['name']}"
        if d["kind"] in CLUSTER_AT:
            for group, spec in groups_of(d).items():
                yield f"{name}/{group}", spec["template"]
            if "submitterPodTemplate" in d["spec"]:
                yield f"{name}/submitter", d["spec"]["submitterPodTemplate"]
        elif d["kind"] == "CronJob":
            yield name, d["spec"]["jobTemplate"]["spec"]["template"]
        elif d["kind"] in ("StatefulSet", "Deployment", "Job"):
            yield name, d["spec"]["template"]

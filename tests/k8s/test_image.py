"""One image, whose Ray is that of the manifests and of the constraints; one operator, with its gates."""

import re
import tomllib

import pytest
import yaml

from tests.k8s.kustomize import K8S, ROOT, cluster_of, every_case, ray_resources, render
from tests.k8s.policies import containers

DOCKERFILE = (K8S / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GATES_OFF = {"RayClusterMTLS", "RayClusterNetworkPolicy", "RayClusterHistoryServer", "RayCronJob"}
OPERATOR = "1.7.0"


def pinned(package: str) -> str:
    (line,) = re.findall(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return line


@every_case
def test_the_ray_of_the_manifests_is_the_one_of_the_constraints(case):
    assert {cluster_of(d)["rayVersion"] for d in ray_resources(render(case))} == {pinned("ray")}


def test_the_ray_of_the_image_is_the_one_of_the_constraints():
    assert re.findall(r"^ARG RAY_VERSION=(.+)$", DOCKERFILE, re.MULTILINE) == [pinned("ray")]
    assert 'grep --quiet --line-regexp "ray==${RAY_VERSION}" constraints.txt' in DOCKERFILE


@every_case
def test_every_image_of_ours_is_the_one_of_this_version(case):
    ours = {c["image"] for _, c in containers(render(case)) if c.get("image", "").startswith("antiphon")}
    version = PROJECT["project"]["version"]
    kind = "cuda" if case.overlay.startswith("gpu") else "cpu"
    assert ours == {f"antiphon:{version}-{kind}"}


def test_the_image_has_both_targets_and_ends_without_root():
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert [name for _, name in stages] == ["base", "cpu", "cuda"]
    assert re.search(r":\d+\.\d+\.\d+", stages[0][0])
    for stage in DOCKERFILE.split("\nFROM ")[1:]:
        users = re.findall(r"^USER (.+)$", stage, re.MULTILINE)
        assert not users or users[-1] == "1000:1000"


def test_the_python_of_the_image_is_one_that_the_project_takes():
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)", DOCKERFILE, re.MULTILINE)
    assert PROJECT["project"]["requires-python"] == f">={version}"


def test_the_image_holds_every_package_and_nothing_that_is_not_there():
    copied = [w for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for w in line.split()]
    assert [path for path in copied if not (ROOT / path).exists()] == []
    packages = [p.rstrip("*") for p in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
    assert set(packages) <= set(copied)
    ignored = (K8S / "Dockerfile.dockerignore").read_text().split()
    assert {f"!{path}" for path in copied} <= set(ignored)


@pytest.mark.parametrize("extra", ["data", "gguf", "rewards"])
def test_the_image_has_what_recipes_may_ask_for(extra):
    assert extra in PROJECT["project"]["optional-dependencies"]
    assert "'.[data,gguf,rewards]'" in DOCKERFILE


def test_the_operator_is_pinned_and_alpha_features_are_off():
    text = (K8S / "values/kuberay-operator.yaml").read_text()
    values = yaml.safe_load(text)
    assert values["image"]["tag"] == f"v{OPERATOR}"
    assert f"--version {OPERATOR}" in text
    gates = {gate["name"]: gate["enabled"] for gate in values["featureGates"]}
    assert {name for name, is_on in gates.items() if not is_on} == GATES_OFF

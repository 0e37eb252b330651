"""Every document is what its kind allows: core kinds, custom resources by their definitions and by ours."""

import copy
import functools
import json
from typing import Any

import pytest
import yaml

from tests.k8s.fields import describes, faults
from tests.k8s.kustomize import (
    CLUSTER_AT,
    K8S,
    LOADER,
    ROOT,
    Document,
    every_case,
    groups_of,
    pod_templates,
    read,
    render,
)

KUBERNETES = "1.33"
CORE = {"v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "scheduling.k8s.io/v1"}
DEFINITIONS = ROOT.parent / "shared" / "crds"
WITHOUT_SPEC = {"ResourceFlavor", "WorkloadPriorityClass"}
KEPT = (
    *("type", "enum", "required", "pattern", "minimum", "maximum", "minItems", "maxItems"),
    *("minLength", "maxLength"),
)
"""Keywords that mean the same in a definition and in JSON Schema."""


def all_of_a_kueue_admin() -> list[Document]:
    return read(K8S / "kueue-admin/queues.yaml")


def check_core(document: Document) -> None:
    """Raises for a document of a core kind that the API server would refuse, or with an unknown field."""
    _check_core(json.dumps(document))


@functools.cache
def _check_core(text: str) -> None:
    """Most documents are the same in every case, and are checked once."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    validate.validate(json.loads(text), KUBERNETES, strict=True)


def as_pod(template: Document) -> Document:
    """A pod template as a pod, which has a schema of its own."""
    return {"apiVersion": "v1", "kind": "Pod", **template}


@every_case
def test_core_kinds_are_what_kubernetes_takes(case):
    core = [d for d in render(case) if d["apiVersion"] in CORE]
    assert len(core) > 10
    for document in core:
        check_core(document)


@every_case
def test_pods_of_custom_resources_are_what_kubernetes_takes(case):
    custom = [d for d in render(case) if d["kind"] in CLUSTER_AT]
    for name, template in pod_templates(custom):
        assert name
        check_core(as_pod(template))


@every_case
def test_custom_resources_use_no_field_that_we_do_not_know(case):
    custom = [d for d in render(case) if d["apiVersion"] not in CORE]
    assert custom
    for document in custom:
        assert describes(document), document["kind"]
        assert faults(document) == []


def test_what_an_administrator_applies_uses_no_field_that_we_do_not_know():
    for document in all_of_a_kueue_admin():
        assert document["kind"] in WITHOUT_SPEC or faults(document) == []


@every_case
def test_custom_resources_are_what_their_definitions_take(case):
    for document in render(case):
        if document["apiVersion"] not in CORE:
            assert refusals(document) == []


def test_what_an_administrator_applies_is_what_the_definitions_take():
    for document in all_of_a_kueue_admin():
        assert refusals(document) == []


def refusals(document: Document) -> list[str]:
    """What the definition of its kind has against a custom resource. Skips without the definitions."""
    errors = validator(document["apiVersion"], document["kind"]).iter_errors(document)
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in errors]


@functools.cache
def validator(api_version: str, kind: str) -> Any:
    if not DEFINITIONS.is_dir():
        pytest.skip(f"no custom resource definitions at {DEFINITIONS.name}/ beside the repository")
    jsonschema = pytest.importorskip("jsonschema")
    group, _, version = api_version.partition("/")
    (path,) = DEFINITIONS.glob(f"{group}_{kind.lower().removesuffix('s')}*s.yaml")
    versions = yaml.load(path.read_text(), LOADER)["spec"]["versions"]
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == version]
    strict = strictly(schema)
    strict["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(strict)


def strictly(schema: Any) -> Any:
    """A definition as JSON Schema in which a field that is not described is an error."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made: dict[str, Any] = {key: schema[key] for key in KEPT if key in schema}
    if "properties" in schema:
        made["properties"] = {name: strictly(inner) for name, inner in schema["properties"].items()}
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    for key in ("items", "additionalProperties"):
        if key in schema:
            made[key] = strictly(schema[key])
    return made


def job() -> Document:
    (document,) = read(K8S / "base/job/rayjob.yaml")
    return copy.deepcopy(document)


def test_a_field_with_a_wrong_name_is_found_by_ours():
    document = job()
    document["spec"]["rayClusterSpec"]["workerGroupSpecs"][2]["idleTimeoutSecs"] = 1
    assert "workerGroupSpecs.2.idleTimeoutSecs is no field" in faults(document)[0]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("minReplicas", "ten", "no integer"),
        ("maxReplicas", True, "no integer"),
        ("resources", {"rollout": 1}, "from text to text"),
        ("groupName", 1, "no string"),
    ],
)
def test_a_value_of_the_wrong_type_is_found_by_ours(key, value, words):
    document = job()
    document["spec"]["rayClusterSpec"]["workerGroupSpecs"][2][key] = value
    assert words in faults(document)[0]


@pytest.mark.parametrize(
    ("key", "value"), [("idleTimeoutSecs", 1), ("minReplicas", "ten"), ("resources", {"rollout": 1})]
)
def test_the_definitions_find_the_same(key, value):
    document = job()
    document["spec"]["rayClusterSpec"]["workerGroupSpecs"][2][key] = value
    assert len(refusals(document)) == 1


def test_ours_is_no_wider_than_the_definitions():
    """Every field of fields.yaml is one of the definition; an invented one is refused there."""
    document = job()
    document["spec"]["rayClusterSpec"]["invented"] = 1
    assert refusals(document)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [("spec", "terminationGracePeriodSecs", 1), ("spec", "tolerations", "none"), ("metadata", "label", {})],
)
def test_a_wrong_field_of_a_pod_is_found(place, key, value):
    template = copy.deepcopy(groups_of(job())["learner"]["template"])
    check_core(as_pod(template))
    template[place][key] = value
    with pytest.raises(Exception, match=key if place == "metadata" else None):
        check_core(as_pod(template))


def test_a_wrong_field_of_a_core_kind_is_found():
    (budget,) = read(K8S / "base/training/pdb.yaml")
    budget["spec"]["maxUnavailible"] = 0
    with pytest.raises(Exception, match="maxUnavailible"):
        check_core(budget)

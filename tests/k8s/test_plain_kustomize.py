"""Our rendering is kubectl's, where there is a kubectl to compare with, and refuses what it does not know."""

import shutil

import pytest

from tests.k8s.kustomize import K8S, Document, by_kubectl, every_case, plainly
from tests.k8s.plain_kustomize import build, change, read_one, walk

COMPONENTS = sorted(p.name for p in (K8S / "components").iterdir())


def by_name(documents: tuple[Document, ...]) -> dict[tuple[str, str], Document]:
    found = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    assert len(found) == len(documents)
    return found


@every_case
def test_it_makes_what_kubectl_makes(case):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, with which to compare")
    ours, theirs = by_name(plainly(case)), by_name(by_kubectl(case))
    assert set(ours) == set(theirs)
    for name, document in theirs.items():
        assert ours[name] == document, name


def test_every_component_is_a_part_of_some_case():
    cases = {c for mark in every_case.args[1] for c in mark.components}
    nested = {
        p
        for c in COMPONENTS
        for p in read_one(K8S / f"components/{c}/kustomization.yaml").get("components", [])
    }
    assert cases | {p.removeprefix("../") for p in nested} == set(COMPONENTS)


def test_what_an_administrator_applies_is_rendered_too():
    assert {d["kind"] for d in build(K8S / "kueue-admin")} >= {"ClusterQueue", "ResourceFlavor"}


def test_what_it_does_not_know_is_refused(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("namePrefix: a-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        build(tmp_path)


def document() -> Document:
    return {"kind": "A", "metadata": {"name": "a"}, "list": [{"name": "x", "n": 1}, {"name": "y", "n": 2}]}


@pytest.mark.parametrize(
    ("operation", "path", "value", "expected"),
    [
        ("add", "/list/-", 3, [1, 2, 3]),
        ("add", "/list/0", 3, [3, 1, 2]),
        ("replace", "/list/1", 3, [1, 3]),
        ("remove", "/list/0", None, [2]),
        ("test", "/list/0", 1, [1, 2]),
    ],
)
def test_operations_of_a_patch_change_lists(operation, path, value, expected):
    d = {"kind": "A", "metadata": {"name": "a"}, "list": [1, 2]}
    change(d, {"op": operation, "path": path, "value": value})
    assert d["list"] == expected


@pytest.mark.parametrize(
    ("operation", "path"), [("test", "/list/0/n"), ("replace", "/metadata/nam"), ("move", "/kind")]
)
def test_a_patch_that_does_not_fit_is_refused(operation, path):
    with pytest.raises(ValueError, match="does not fit"):
        change(document(), {"op": operation, "path": path, "value": 9})


def test_a_path_of_a_patch_may_hold_a_slash():
    d = document()
    change(d, {"op": "add", "path": "/metadata/a~1b", "value": 1})
    assert d["metadata"]["a/b"] == 1


def test_a_replacement_finds_its_item_by_name():
    node, key = walk(document(), "list.[name=y].n")
    assert (node[key], key) == (2, "n")

"""Without any tool: files are YAML, are used, and name files that exist. Made files are as they are made."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from k8s import make_copies, make_monitoring, sizes
from tests.k8s.kustomize import K8S, ROOT, read

FILES = sorted(K8S.rglob("*.yaml"))
KUSTOMIZATIONS = sorted(K8S.rglob("kustomization.yaml"))
NO_MANIFESTS = {"recipe.yaml"}
"""Recipes, which go into ConfigMaps as they are."""


def name(path: Path) -> str:
    return str(path.relative_to(K8S))


def references(kustomization: Path) -> list[Path]:
    """Every file and folder that a kustomization names."""
    (data,) = read(kustomization)
    named = [*data.get("resources", []), *data.get("components", [])]
    named += [p["path"] for p in data.get("patches", [])]
    for generator in data.get("configMapGenerator", []):
        named += [file.rpartition("=")[2] for file in generator["files"]]
    return [(kustomization.parent / path).resolve() for path in named]


def test_there_is_something_to_look_at():
    assert len(KUSTOMIZATIONS) > 15
    assert {p.name for p in (K8S / "overlays").iterdir()} >= {"dev", "gpu-8b", "gpu-32b", "gpu-70b"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_is_yaml_without_a_key_twice(path):
    class Strict(yaml.SafeLoader):
        """PyYAML lets the last of two equal keys win."""

    def no_key_twice(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice in line {node.start_mark.line + 1}: {keys}"
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", no_key_twice)
    assert [d for d in yaml.load_all(path.read_text(), Strict) if d]


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=name)
def test_what_a_kustomization_names_exists(path):
    missing = [p for p in references(path) if not p.exists()]
    assert missing == []
    folders = [p for p in references(path) if p.is_dir()]
    assert [p for p in folders if not (p / "kustomization.yaml").exists()] == []


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=name)
def test_components_are_components_and_the_rest_is_not(path):
    (data,) = read(path)
    expected = (
        ("v1alpha1", "Component") if path.parent.parent.name == "components" else ("v1beta1", "Kustomization")
    )
    assert (data["apiVersion"].rpartition("/")[2], data["kind"]) == expected


def test_no_file_is_forgotten():
    used = {p for k in KUSTOMIZATIONS for p in references(k)}
    used |= {p for p in FILES if p.name == "kustomization.yaml" or p.parent.name == "values"}
    assert [name(p) for p in FILES if p.resolve() not in used] == []


def test_every_manifest_says_what_it_is():
    patched = {
        (k.parent / p["path"]).resolve() for k in KUSTOMIZATIONS for p in read(k)[0].get("patches", [])
    }
    for path in FILES:
        if path.resolve() in patched or path.name in NO_MANIFESTS or path.parent.name == "values":
            continue
        for document in read(path):
            assert {"apiVersion", "kind"} <= set(document), path


def test_json_patches_only_touch_a_group_that_they_have_named():
    """Groups are a list: a patch counts places, and must say first whom it expects there."""
    for path in [p for p in FILES if p.name in ("rayjob.yaml", "sizes.yaml", "raycluster.yaml")]:
        (operations,) = read(path)
        if not isinstance(operations, list):
            continue
        expected = set()
        for operation in operations:
            found = re.search(r"workerGroupSpecs/(\d+)/(.*)", operation["path"])
            if found and operation["op"] == "test" and found[2] == "groupName":
                expected.add(found[1])
            elif found:
                assert found[1] in expected, (name(path), operation)


def test_copies_are_what_the_hand_written_files_make():
    assert make_copies.copies()
    for path, text in make_copies.copies().items():
        assert path.read_text() == text, f"run `python -m k8s.make_copies`: {path}"


def test_alerts_and_dashboard_are_what_the_code_makes():
    assert make_monitoring.made()
    for path, text in make_monitoring.made().items():
        assert path.read_text() == text, f"run `python -m k8s.make_monitoring`: {path}"


def test_the_page_shows_the_sizes_that_the_code_derives():
    assert sizes.table() in (K8S / "README.md").read_text(), "put the table of `python -m k8s.sizes` there"


def test_the_dev_recipe_is_the_quickstart_and_where_it_runs():
    def load(path):
        return yaml.safe_load(path.read_text())

    dev, quickstart = load(K8S / "overlays/dev/recipe.yaml"), load(ROOT / "recipes/quickstart.yaml")
    assert set(dev) - set(quickstart) == {"cluster", "metrics"}
    assert {key: dev[key] for key in quickstart} == quickstart


@pytest.mark.parametrize("part", ["overlays", "components"])
def test_the_page_tells_of_every_overlay_and_component(part):
    text = (K8S / "README.md").read_text()
    assert [p.name for p in (K8S / part).iterdir() if f"`{p.name}`" not in text] == []


def test_the_script_for_a_real_cluster_is_one_of_bash():
    script = K8S / "e2e-kind.sh"
    ended = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    named = set(re.findall(r"k8s/[\w./-]+", script.read_text()))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_file_is_hidden_from_git():
    """A folder that .gitignore names would be here, and nowhere else."""
    files = [str(path.relative_to(ROOT)) for path in [*K8S.rglob("*"), *Path(__file__).parent.rglob("*")]]
    files = [path for path in files if "__pycache__" not in path]
    ended = subprocess.run(
        ["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    if ended.returncode > 1:
        pytest.skip(f"git does not know this folder: {ended.stderr.strip()}")
    assert ended.stdout == ""

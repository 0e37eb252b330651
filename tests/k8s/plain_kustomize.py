"""The part of kustomize that k8s/ uses, so that what it renders can be tested where there is no kubectl.

Known are resources, components, patches (JSON 6902), configMapGenerator, images, namespace and replacements;
anything else is refused. test_plain_kustomize.py compares it with kubectl where there is one.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Document = dict[str, Any]
CLUSTER_WIDE = {"Namespace", "PriorityClass"}
KNOWN = {
    *("apiVersion", "kind", "resources", "components", "patches", "replacements"),
    *("configMapGenerator", "generatorOptions", "images", "namespace"),
}


def build(folder: Path) -> list[Document]:
    """The documents of a kustomization.

    Raises:
        ValueError: it uses what this does not know, or a patch does not fit.
    """
    return apply(read_one(folder / "kustomization.yaml"), folder, [])


def apply(data: Mapping[str, Any], folder: Path, documents: list[Document]) -> list[Document]:
    """A kustomization or component on top of the documents that are there, in kustomize's order."""
    if unknown := set(data) - KNOWN:
        raise ValueError(f"{folder} uses {sorted(unknown)}, which is not known here")
    for resource in data.get("resources", []):
        path = folder / resource
        documents = [*documents, *(build(path) if path.is_dir() else read_all(path))]
    for component in data.get("components", []):
        path = folder / component
        documents = apply(read_one(path / "kustomization.yaml"), path, documents)
    options = data.get("generatorOptions", {})
    documents = documents + [config_map(g, options, folder) for g in data.get("configMapGenerator", [])]
    for patch in data.get("patches", []):
        for document in chosen(documents, patch["target"]):
            for operation in read_one(folder / patch["path"]):
                change(document, operation)
    for document in documents if "namespace" in data else ():
        place(document, data["namespace"])
    for image in data.get("images", []):
        for document in documents:
            retag(document, image)
    for replacement in data.get("replacements", []):
        replace(documents, replacement)
    return documents


def chosen(documents: Sequence[Document], target: Mapping[str, str]) -> list[Document]:
    """Those that a patch's target names, by kind and perhaps by name."""
    if unknown := set(target) - {"kind", "name"}:
        raise ValueError(f"targets are not chosen by {sorted(unknown)} here")
    name = target.get("name")
    return [d for d in documents if d["kind"] == target["kind"] and name in (None, d["metadata"]["name"])]


def change(document: Document, operation: Mapping[str, Any]) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    *way, last = [key.replace("~1", "/").replace("~0", "~") for key in operation["path"].split("/")[1:]]
    node: Any = document
    for key in way:
        node = node[int(key)] if isinstance(node, list) else node[key]
    place_of: Any = last if not isinstance(node, list) else len(node) if last == "-" else int(last)
    kind, is_list = operation["op"], isinstance(node, list)
    is_there = place_of < len(node) if is_list else place_of in node
    if kind == "add" and is_list:
        node.insert(place_of, operation["value"])
    elif kind == "add" or (kind == "replace" and is_there):
        node[place_of] = operation["value"]
    elif kind == "remove" and is_there:
        del node[place_of]
    elif kind != "test" or not is_there or node[place_of] != operation["value"]:
        raise ValueError(f"{operation} does not fit {document['kind']}/{document['metadata']['name']}")


def config_map(generator: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> Document:
    if not options.get("disableNameSuffixHash"):
        raise ValueError("names with a hash are not known here")
    files = {file.partition("=")[0]: file.rpartition("=")[2] for file in generator["files"]}
    metadata: Document = {"name": generator["name"]}
    if "labels" in options:
        metadata["labels"] = dict(options["labels"])
    data = {key: (folder / path).read_text() for key, path in files.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def place(document: Document, namespace: str) -> None:
    if document["kind"] == "Namespace":
        document["metadata"]["name"] = namespace
    elif document["kind"] not in CLUSTER_WIDE:
        document["metadata"]["namespace"] = namespace


def retag(node: Any, image: Mapping[str, str]) -> None:
    """Give an image its tag in every container below a node."""
    for key, inner in node.items() if isinstance(node, dict) else ():
        for container in inner if key in ("containers", "initContainers") else ():
            name = container.get("image", "").partition(":")[0]
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image['newTag']}"
        retag(inner, image)
    for inner in node if isinstance(node, list) else ():
        retag(inner, image)


def replace(documents: Sequence[Document], replacement: Mapping[str, Any]) -> None:
    """Copy a value from one place to others; where there is no source, kustomize fails, and so does this."""
    (source,) = chosen(documents, {"kind": replacement["source"]["kind"]})
    node, key = walk(source, replacement["source"]["fieldPath"])
    for target in replacement["targets"]:
        for document in chosen(documents, target["select"]):
            for path in target["fieldPaths"]:
                there, last = walk(document, path)
                there[last] = node[key]


def walk(document: Document, path: str) -> tuple[Any, str]:
    """The node that holds what a path like spec.groups.[name=a].size leads to, and the last key."""
    *way, last = re.findall(r"\[[^\]]+\]|[^.]+", path)
    node: Any = document
    for key in way:
        if key.startswith("["):
            name, _, value = key[1:-1].partition("=")
            (node,) = [item for item in node if item[name] == value]
        else:
            node = node[key]
    return node, last


def read_one(path: Path) -> Any:
    (document,) = read_all(path)
    return document


def read_all(path: Path) -> list[Any]:
    return [d for d in yaml.load_all(path.read_text(), LOADER) if d is not None]

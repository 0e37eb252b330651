"""Checks custom resources against fields.yaml: every field is one that is known, and of its type."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.kustomize import Document

DESCRIPTION = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text())
SCALARS: dict[str, type] = {"string": str, "integer": int, "boolean": bool}


def describes(d: Document) -> bool:
    """Whether the kind is one of fields.yaml."""
    return kind_of(d) in DESCRIPTION["kinds"]


def kind_of(d: Document) -> str:
    return f"{d['apiVersion']}/{d['kind']}"


def faults(d: Document) -> list[str]:
    """What is wrong with the `spec` of a document, with the place of each fault."""
    return list(_faults(d["spec"], DESCRIPTION["kinds"][kind_of(d)], "spec"))


def _faults(node: Any, expected: Any, where: str) -> Iterator[str]:
    if isinstance(expected, list):
        if not isinstance(node, list):
            yield f"{where} is no list"
            return
        for i, item in enumerate(node):
            yield from _faults(item, expected[0], f"{where}.{i}")
    elif isinstance(expected, Mapping):
        yield from _faults_of_mapping(node, expected, where)
    elif expected in SCALARS:
        # A boolean is an integer in Python, and not in Kubernetes.
        if not isinstance(node, SCALARS[expected]) or (expected == "integer" and isinstance(node, bool)):
            yield f"{where} is {node!r}, no {expected}"
    elif expected == "strings":
        if not isinstance(node, Mapping) or not all(isinstance(v, str) for v in node.values()):
            yield f"{where} is {node!r}, no mapping from text to text"
    elif expected in DESCRIPTION["types"]:
        yield from _faults(node, DESCRIPTION["types"][expected], where)
    elif expected != "pod" and not expected.startswith("core."):
        raise ValueError(f"fields.yaml knows no type {expected!r}, at {where}")


def _faults_of_mapping(node: Any, expected: Mapping[str, Any], where: str) -> Iterator[str]:
    if not isinstance(node, Mapping):
        yield f"{where} is no mapping"
        return
    for key, value in node.items():
        if key not in expected:
            yield f"{where}.{key} is no field of those that are known: {sorted(expected)}"
        else:
            yield from _faults(value, expected[key], f"{where}.{key}")

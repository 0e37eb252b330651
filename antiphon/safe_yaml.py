"""Reads YAML from anybody: plain data and nothing else, within bounds, each key once.

Recipes come from colleagues, issues and run directories of others. No tag makes an object, no few lines grow
into gigabytes, and no second `reward:` further down replaces the one that was read. Called by the recipes of
all commands and by the run directory; it knows no setting.
"""

import re
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 4 * 2**20
"""Of a file; the recipes of this repository have some thousand."""
MAX_DEPTH = 64
"""Sections within sections."""
MAX_NODES = 200_000
"""Values after every alias is written out."""


class UnsafeYaml(ValueError):
    """The text is no YAML, or more than a recipe can be; the message says which line or bound."""


class Loader(yaml.SafeLoader):
    """Reads 1e-5 as a number, as YAML 1.2 does; PyYAML by itself makes a text of it and wants 1.0e-5."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_file(path: Path) -> Any:
    """The plain data in a file.

    Raises:
        OSError: the file cannot be read.
        UnsafeYaml: it is too large, no UTF-8, no YAML, or unfit (see `read`).
    """
    if path.stat().st_size > MAX_BYTES:
        raise UnsafeYaml(f"it has more than {MAX_BYTES} bytes")
    try:
        return read(path.read_bytes().decode())
    except UnicodeDecodeError as error:
        raise UnsafeYaml(f"it is no UTF-8: {error.reason} at byte {error.start}") from None


def read(text: str) -> Any:
    """The plain data in a text: dicts, lists, texts, numbers, booleans, dates, None.

    Raises:
        UnsafeYaml: no YAML, a tag that makes objects, a key twice, or one of the bounds is passed.
    """
    loader = Loader(text)
    try:
        _check_depth(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_node(node, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UnsafeYaml(" ".join(str(error).split())) from None
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Before anything is built: what builds and reads nested data calls itself once for each level."""
    depth = 0
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise UnsafeYaml(f"line {line} is more than {MAX_DEPTH} levels deep")


def _check_node(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values in and below a node, aliases written out; `sizes` remembers nodes that were counted before."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise UnsafeYaml(f"line {node.start_mark.line + 1} contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
    size = 1 + sum(_check_node(part, sizes) for part in _parts(node))
    if size > MAX_NODES:
        raise UnsafeYaml(f"line {node.start_mark.line + 1} grows into more than {MAX_NODES} values")
    sizes[id(node)] = size
    return size


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """What stands directly in a node, keys included."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise UnsafeYaml(f"line {key.start_mark.line + 1} sets {key.value!r} a second time")
            seen.add(key.value)

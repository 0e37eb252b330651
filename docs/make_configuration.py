"""Writes docs/configuration.md, the reference of every key of a recipe, out of the config models themselves.

    python -m docs.make_configuration

tests/docs/test_configuration.py compares the committed page with what this makes.
"""

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from antiphon.plugins import built_in
from cluster.recipe import Recipe
from learner.algorithms.base import Algorithm
from learner.algorithms.policy_gradient import PolicyGradient
from learner.replay import Replay
from learner.replays.memory import Memory
from reward_service.reward import Reward
from rollout.engines.base import Engine
from rollout.environments.base import Environment
from rollout.prompts import PromptSource
from rollout.sources.table import TableConfig

PAGE = Path(__file__).with_name("configuration.md")
INTRODUCTION = """\
# Configuration

<!-- Written by `python -m docs.make_configuration` out of the code: change the docstrings there. -->

A recipe is a YAML file; [recipes/quickstart.yaml](../recipes/quickstart.yaml) is one. These are all keys.

- A key that does not exist is refused, with the nearest that does. Nothing is converted silently: `"3"` is
  no number.
- `--set KEY=VALUE` changes one setting on the command line and may be repeated. The key is a path with dots
  (`--set learner.optimizer.lr=3e-5`), a number reaches into a list
  (`--set reward.components.0.weight=2`), the value is read as YAML.
- The resolved recipe, every default written out, is `recipe.yaml` in the run directory.
- `antiphon check RECIPE` prints the numbers that follow from a recipe, with their units, and tries one small
  step.
- Names end in their unit: `_s` seconds, `_bytes` bytes; `num_` is a count. Sizes of batches are those of the
  whole run, never per process.
- Where the meaning says None, write `null`.
- `data`, `rollout.environment`, `rollout.engine`, `algorithm`, `replay` and each of `reward.components` name
  a plug-in by `name:`; their other keys are its options, listed [below](#plug-ins).
"""
PLUG_INS = """\
## Plug-ins

One file adds one; a name with a colon, `my_package.module:Class`, leads to code outside of this repository.
See [extending.md](extending.md).
"""
KINDS: tuple[tuple[str, str, type, str, type[BaseModel] | None, str], ...] = (
    (
        "Prompt sources",
        "data",
        PromptSource,
        "rollout.sources",
        TableConfig,
        "Sources that read rows (`hub`, `jsonl`, `parquet`)",
    ),
    ("Environments", "rollout.environment", Environment, "rollout.environments", None, ""),
    ("Engines", "rollout.engine", Engine, "rollout.engines", None, ""),
    (
        "Algorithms",
        "algorithm",
        Algorithm,
        "learner.algorithms",
        PolicyGradient.Config,
        "All policy-gradient algorithms",
    ),
    (
        "Replays",
        "replay",
        Replay,
        "learner.replays",
        Memory.Config,
        "Replays that keep groups (`uniform`, `prioritized`)",
    ),
    ("Reward components", "reward.components.N", Reward, "reward_service.components", None, ""),
)
"""Title, section, base class, folder, options that several share, and who shares them."""


def page() -> str:
    """The whole page."""
    sections = [section(name, field) for name, field in Recipe.model_fields.items()]
    parts = [INTRODUCTION, *sections, PLUG_INS, *(kind(*k) for k in KINDS)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def section(name: str, field: FieldInfo) -> str:
    """One top-level section of a recipe."""
    model = model_of(field.annotation)
    if model is None:
        return f"## {name}\n\n{table(row(name, field, field.default))}"
    about = [text for text in (field.description, model.__doc__) if text]
    return "\n\n".join([f"## {name}", *map(prose, about), table(*rows(model, name))])


def kind(title: str, where: str, base: type, folder: str, shared: type[BaseModel] | None, who: str) -> str:
    """All plug-ins of one kind."""
    parts = [f"### {title}", f"Options of `{where}`, by name."]
    if shared is not None:
        parts += [f"**{who}:**", table(*rows(shared, ""))]
    for name, plugin in sorted(built_in(base, folder).items()):
        parts.append(f"**`{name}`**: {prose((plugin.__doc__ or '').strip())}")
        config: type[BaseModel] = plugin.Config  # type: ignore[attr-defined]
        own = list(rows(config, "", known=shared if shared and issubclass(config, shared) else None))
        parts.append(table(*own) if own else "No options of its own.")
    return "\n\n".join(parts)


def rows(
    model: type[BaseModel], where: str, known: type[BaseModel] | None = None, made: Any = None
) -> Iterator[str]:
    """A row for every setting of the model, nested ones by their path.

    Args:
        known: settings that are the same in this model are left out.
        made: an instance that says the defaults instead of the model.
    """
    for name, field in model.model_fields.items():
        path = f"{where}.{name}" if where else name
        default = field.get_default(call_default_factory=True) if made is None else getattr(made, name)
        if known is not None and is_same(field, known.model_fields.get(name)):
            continue
        inner = model_of(field.annotation)
        is_instance = isinstance(default, BaseModel)
        if inner is None or not is_instance:
            yield row(path, field, default)
        if inner is not None:
            step = ".N" if get_origin(field.annotation) is tuple else ""
            yield from rows(inner, path + step, made=default if is_instance else None)


def is_same(field: FieldInfo, other: FieldInfo | None) -> bool:
    """Whether a setting is inherited as it was."""
    if other is None:
        return False
    return (field.default, field.annotation, field.description) == (
        other.default,
        other.annotation,
        other.description,
    )


def row(path: str, field: FieldInfo, default: Any) -> str:
    """One line of a table."""
    shown = "**required**" if default is PydanticUndefined else f"`{as_yaml(default)}`"
    kind, *or_null = kind_of(field.annotation).rsplit(" or null", 1)
    allowed = " ".join([kind, *bounds(field)]) + " or null" * bool(or_null)
    return (
        f"| `{path}` | {allowed} | {shown} | {prose(field.description or '').replace('|', chr(92) + '|')} |"
    )


def table(*lines: str) -> str:
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *lines])


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The config model inside an annotation: X of `X`, `X | None` and `tuple[X, ...]`."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def kind_of(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(a) for a in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {kind_of(arguments[0])}"
    if origin is tuple:
        return "list of " + ", ".join(kind_of(a) for a in arguments)
    if origin is dict:
        return "mapping"
    if model_of(annotation):
        return "section"
    words = {int: "integer", float: "number", bool: "true, false", str: "text", Path: "path"}
    return "null" if annotation is type(None) else words.get(annotation, "any")


def bounds(field: FieldInfo) -> Iterator[str]:
    """What the value must satisfy."""
    signs = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "(at least {})"}
    for rule in field.metadata:
        yield from (
            f.format(getattr(rule, k)) for k, f in signs.items() if getattr(rule, k, None) is not None
        )


def as_yaml(value: Any) -> str:
    """A default as one would write it into a recipe."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and value:
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def prose(text: str) -> str:
    """A docstring's first paragraph on one line, as Markdown: angle brackets outside of code are no tags."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    pieces = line.split("`")
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)


if __name__ == "__main__":
    PAGE.write_text(page())

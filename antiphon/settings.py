"""The base of all config models, and how a mistake in one becomes a sentence that a person can act on."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from antiphon.errors import UserError, suggestion

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Frozen, refuses unknown keys, refuses silent conversions such as "3" -> 3 or 1 -> True.

    Each field is followed by a docstring that says what it is and why one would change it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def parse(model: type[Model], section: Mapping[str, Any], where: str = "") -> Model:
    """`section`, as read from YAML, as settings of type `model`; `where` is its place in the recipe.

    Validation goes through JSON, where a list may stand for a tuple and a string for an enum or a path.

    Raises:
        UserError: names every wrong key with its rule, value and remedy.
    """
    try:
        return model.model_validate_json(json.dumps(section, default=str))
    except ValidationError as error:
        problems = [_problem(model, e, where) for e in error.errors(include_url=False)]
        raise UserError("; ".join(p for p, _ in problems), remedy="; ".join(r for _, r in problems)) from None


def _problem(model: type[BaseModel], error: Any, where: str) -> tuple[str, str]:
    """One mistake as (what is wrong, what to do)."""
    # Of a setting that has several forms, the form that was recognised is in the path too.
    path = [str(part) for part in error["loc"] if not str(part).startswith("<")]
    key = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return f"{key} is not a setting", suggestion(path[-1], known) if known else f"remove {key}"
    if error["type"] == "missing":
        return f"{key} is missing", f"set {key}"
    rule = error["msg"].removeprefix("Value error, ")
    return f"{key} is {error['input']!r}: {rule}", f"correct {key} in the recipe or with --set {key}=…"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """The names of the fields of the model that `path` leads to; none where a path leaves the models."""
    for part in path:
        field = model.model_fields.get(part)
        inner = [a for a in (getattr(field, "annotation", None), *_arguments(field)) if _is_model(a)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _arguments(field: Any) -> tuple[Any, ...]:
    """The type arguments of a field's annotation: X and None of `X | None`."""
    return getattr(getattr(field, "annotation", None), "__args__", ())


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

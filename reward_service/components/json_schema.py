"""Is the completion JSON of the wanted form?"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.optional import existing_file, imported
from reward_service.reward import InvalidInput, Reward
from reward_service.types import Sample

FENCE = re.compile(r"^```(?:json)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE | re.IGNORECASE)


class JsonSchema(Reward):
    """1 where the completion is JSON that a JSON Schema allows (json-schema.org), else 0.

    Strict JSON: no NaN, no comments, nothing before or after. The draft is the one that `$schema` names,
    else 2020-12. References may point into the schema itself, never to the network.
    """

    name = "json_schema"
    # Schemas contain patterns, and a pattern may take for ever on some text.
    placement = "isolated"

    class Config(Settings):
        rules: dict[str, Any] | None = None
        """The schema, written out in the recipe."""
        path: Path | None = None
        """A JSON file with the schema."""
        metadata_key: str | None = None
        """Each sample brings its own schema, under this key of its metadata."""
        place: Literal["all", "fence"] = "all"
        """"all": the whole completion is the JSON; "fence": the last block between ``` lines is."""
        syntax_credit: float = Field(0.0, ge=0.0, le=1.0)
        """What JSON that breaks the schema scores: a step on the way for models that cannot yet write any."""

        @model_validator(mode="after")
        def _one_schema(self) -> Self:
            if [self.rules, self.path, self.metadata_key].count(None) != 2:
                raise ValueError("set exactly one of rules, path and metadata_key")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        rules = config.rules if config.path is None else _read(config.path)
        try:
            self._validator = None if rules is None else _validator(rules)
        except ValueError as error:
            raise UserError(
                f"the rules of the component json_schema are no JSON Schema: {error}",
                remedy="correct them; json-schema.org/learn explains the keywords",
            ) from None

    def score_one(self, sample: Sample) -> float:
        validator = self._validator or self._validator_of(sample)
        text = self._text(sample.completion)
        try:
            document = json.loads(text or "", parse_constant=_refuse)
        except (ValueError, RecursionError):
            return 0.0
        return 1.0 if validator.is_valid(document) else self.config.syntax_credit

    def _text(self, completion: str) -> str | None:
        if self.config.place == "all":
            return completion
        return next(reversed(FENCE.findall(completion)), None)

    def _validator_of(self, sample: Sample) -> Any:
        rules = sample.metadata.get(self.config.metadata_key or "")
        if not isinstance(rules, Mapping):
            raise InvalidInput(f"metadata has no schema under {self.config.metadata_key!r}")
        try:
            return _validator(dict(rules))
        except ValueError as error:
            raise InvalidInput(f"no JSON Schema: {error}") from None


def _read(path: Path) -> Any:
    path = existing_file(path, "path of the component json_schema")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}", remedy="correct the file") from None


def _validator(rules: Any) -> Any:
    """Raises ValueError where the rules are no schema."""
    jsonschema, referencing = imported("jsonschema", "json_schema"), imported("referencing", "json_schema")
    kind = jsonschema.validators.validator_for(rules, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(rules)
    except jsonschema.SchemaError as error:
        raise ValueError(f"{error.json_path}: {error.message}") from None
    # Without a registry of its own the library fetches references from the network.
    return kind(rules, registry=referencing.Registry())


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not in the JSON standard")

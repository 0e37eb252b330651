"""The base of all config models. Each lives beside the code that reads it."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, refuses unknown keys, refuses silent conversions such as "3" -> 3 or 1 -> True.

    Each field is followed by a docstring that says what it is and why one would change it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

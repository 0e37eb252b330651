"""The options that all components with a network have. Free of torch: read where a recipe is only checked."""

from typing import Literal

from pydantic import Field

from antiphon.settings import Settings


class NetworkConfig(Settings):
    """Which network, and how it is held in memory."""

    model: str = Field(min_length=1)
    """A folder in the Hugging Face format, the id of a model on the hub (owner/name), or a stored model's
    short name."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 halves the memory and is much faster on GPUs; scores then differ in the third digit."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where the process has one; cuda refuses to start without."""
    max_tokens_per_batch: int = Field(8192, ge=1)
    """Texts go through together as long as they have no more tokens than this, padding included. Lower it
    where memory is short."""

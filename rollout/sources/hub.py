"""Prompts from a data set of the Hugging Face hub, or from a folder laid out as one."""

import importlib
import importlib.util
from typing import Any, ClassVar

from antiphon.errors import UserError
from rollout.sources.table import Table, TableConfig, TableSource


class Hub(TableSource):
    """Reads through the library `datasets`, which keeps what it downloads in the user's cache."""

    name: ClassVar[str] = "hub"

    class Config(TableConfig):
        dataset: str
        """The id on the hub, such as openai/gsm8k, or a folder."""
        subset: str | None = None
        """The data set's configuration, such as main, where it has several."""
        split: str = "train"
        """The rows to train on; `datasets` takes slices too: train[:5000]."""
        held_out_split: str | None = None
        """The rows to measure on; null sets `num_held_out` rows of `split` apart."""
        revision: str | None = None
        """A commit of the data set, so that a run can be repeated; null takes the newest."""

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def train_table(self) -> Table:
        return self._load(self.config.split)

    def held_out_table(self) -> Table | None:
        split = self.config.held_out_split
        return None if split is None else self._load(split)

    def _load(self, split: str) -> Table:
        config = self.config
        datasets = _library()
        try:
            rows = datasets.load_dataset(config.dataset, config.subset, split=split, revision=config.revision)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise UserError(
                f"split {split!r} of the data set {config.dataset!r} cannot be loaded: {error}",
                remedy="check dataset, subset, split and the network, or use the source jsonl or parquet",
            ) from error
        return Table(name=f"{config.dataset}/{split}", rows=list(rows))


def _library() -> Any:
    # An extra of the package: recipes that do not ask for it must load without.
    if importlib.util.find_spec("datasets") is None:
        raise UserError(
            "the source hub needs the package datasets, which is not installed",
            remedy="pip install 'antiphon[data]', or use the source jsonl or parquet",
        )
    return importlib.import_module("datasets")

"""Prompts with an address, a recipe that masks it or not, and a look at all that a run stores."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.system.fakes_runs import HERE, small_recipe

ADDRESS = "anna@example.org"


def mail_recipe(model: Path, folder: Path, mask: list[str]) -> dict[str, Any]:
    """Every second prompt holds an address, as the metadata of all do."""
    path = folder / "mail.jsonl"
    rows = [{"prompt": f"{ADDRESS if n % 2 else 'Ann'} {n}:", "from": [ADDRESS]} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return small_recipe(model) | {
        "data": {
            "name": "jsonl",
            "path": str(path),
            "reference": None,
            "metadata": ["from"],
            "num_held_out": 4,
        },
        # The constant component raises an alarm, with examples, and fails once, with a message.
        "reward": {"components": [{"name": f"{HERE}:by_text"}, {"name": f"{HERE}:repeats", "weight": 0.0}]},
        "watch": {"window": 2, "constant_updates": 1, "duplicates_in_batch": None},
        "privacy": {"mask": mask},
    }


def texts(folder: Path) -> dict[str, str]:
    """All that is stored, as text; by file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): repr(pq.ParquetFile(path).read().to_pylist())
        if path.suffix == ".parquet"
        else path.read_bytes().decode("latin-1")
        for path in files
    }

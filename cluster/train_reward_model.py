"""`antiphon train-reward-model`: preference pairs in, a folder that the component `reward_model` reads out.

<run dir>/  recipe.yaml  metrics.jsonl  model/ (weights, tokenizer, report.json, calibration.svg)

`model/` appears whole at the end, or not at all. One process, no Ray.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from antiphon.errors import UserError
from antiphon.settings import Settings, parse
from cluster.recipe import apply_override, read_recipe
from cluster.run_dir import write_atomically
from learner.reward_model.data import PreferenceConfig, load_pairs
from learner.reward_model.encoded import EncodedPair, encode_split
from learner.reward_model.model import load_reward_model
from learner.reward_model.plot import calibration_svg
from learner.reward_model.report import measure, values_of
from learner.reward_model.trainer import TrainingConfig, train
from reward_service.components.reward_model import REPORT
from reward_service.networks.encoding import TextConfig, TextEncoder
from reward_service.networks.network import Network
from rollout.models import ModelConfig

MODEL = "model"
"""The folder inside of the run directory that a reward component names."""
Say = Callable[[str], None]


class RewardRunConfig(Settings):
    """What the run is called."""

    name: str = Field("reward_model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run directory is runs/<name> unless --run-dir says otherwise."""
    seed: int = Field(0, ge=0)
    """Draws the order of the pairs."""


class RewardModelRecipe(Settings):
    """The training of a reward model."""

    run: RewardRunConfig = RewardRunConfig()
    model: ModelConfig = ModelConfig()
    """What training starts from: a language model, which gets a new head, or an earlier reward model."""
    data: PreferenceConfig
    input: TextConfig = TextConfig()
    """How a prompt and an answer become one text; written into the report, and obeyed by the component. Pairs
    that are too long and may not be cut are left out and counted."""
    training: TrainingConfig = TrainingConfig()


def load_reward_model_recipe(path: Path, overrides: Sequence[str] = ()) -> RewardModelRecipe:
    """The recipe in a file, changed by `key.path=value` overrides.

    Raises:
        UserError: no such file, no YAML, or a wrong setting.
    """
    data = read_recipe(path)
    for override in overrides:
        data = apply_override(data, override)
    return parse(RewardModelRecipe, data)


def train_reward_model(recipe: RewardModelRecipe, run_dir: Path, say: Say) -> dict[str, Any]:
    """Train, measure and save; returns the report, as it stands in model/report.json.

    Args:
        run_dir: a folder that is new or empty.
        say: prints a line for a person.

    Raises:
        UserError: no such model or data, no pair that is short enough, or a folder that is not empty.
    """
    start_s = time.monotonic()
    training = recipe.training
    _make_folder(run_dir, recipe)
    if training.num_threads is not None:
        torch.set_num_threads(training.num_threads)
    model, tokenizer = load_reward_model(recipe.model, training.num_trained_layers, recipe.run.seed)
    _move(model, training.device)
    network = Network(model=model, tokenizer=tokenizer, max_tokens=training.max_tokens_per_micro_batch)
    encoder = TextEncoder(tokenizer, recipe.input, network.limit)
    pairs = encode_split(load_pairs(recipe.data), encoder)
    split = pairs.split
    say(
        f"{len(split.train)} pairs to train on, {len(split.held_out)} held out; "
        f"left out: {', '.join(f'{count} {reason}' for reason, count in split.left_out.items())}"
    )
    log = StepLog(run_dir / "metrics.jsonl", say)
    num_steps = train(model, pairs.train, training, seed=recipe.run.seed, on_step=log)
    chosen, rejected = _values(network, pairs.held_out)
    report = {
        "model": recipe.model.name,
        "num_steps": num_steps,
        "num_train_pairs": len(split.train),
        "num_train_prompts": len({pair.prompt for pair in split.train}),
        "left_out": dict(split.left_out),
        "held_out": measure(split.held_out, chosen, rejected, split.train),
        "values": values_of(chosen, rejected),
        "input": {
            "form": encoder.form,
            "max_length": encoder.max_length,
            "too_long": recipe.input.too_long,
        },
        "wall_s": round(time.monotonic() - start_s, 1),
    }
    publish(run_dir / MODEL, model, tokenizer, report)
    for line in (*summary(report), f"the reward model is in {run_dir / MODEL}"):
        say(line)
    return report


def summary(report: Mapping[str, Any]) -> list[str]:
    """The main numbers of a report, as lines for a person."""
    held_out = report["held_out"]
    by_length = [
        f"where the {word} one is better: {held_out[key]:.3f}"
        for word, key in (
            ("shorter", "accuracy_where_shorter_chosen"),
            ("longer", "accuracy_where_longer_chosen"),
        )
        if held_out[key] is not None
    ]
    return [
        f"held-out accuracy {held_out['accuracy']:.3f} ± {held_out['accuracy_standard_error']:.3f} over "
        f"{held_out['num_pairs']} pairs of {held_out['num_prompts']} prompts; "
        f"length alone: {held_out['accuracy_of_length_alone']:.3f}",
        f"{'; '.join(by_length)}; expected calibration error {held_out['expected_calibration_error']:.3f}",
    ]


class StepLog:
    """Every step is a line of a file; a few of them are told."""

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say

    def __call__(self, step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        if step % max(1, num_steps // 20) == 0 or step == num_steps:
            self._say(f"step {step}/{num_steps}: " + " ".join(f"{k} {v:.4g}" for k, v in metrics.items()))


def _values(network: Network, pairs: Sequence[EncodedPair]) -> tuple[Tensor, Tensor]:
    """What the model gives to the chosen and the rejected answers, [N] each."""
    rows = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
    value = network.read(rows, lambda output, mask: output.logits[:, 0])
    return torch.stack([value[p.chosen] for p in pairs]), torch.stack([value[p.rejected] for p in pairs])


def _make_folder(run_dir: Path, recipe: RewardModelRecipe) -> None:
    if run_dir.exists() and any(run_dir.iterdir()):
        raise UserError(f"{run_dir} is not empty", remedy="give another --run-dir: nothing is overwritten")
    run_dir.mkdir(parents=True, exist_ok=True)
    plain = recipe.model_dump(mode="json")
    write_atomically(run_dir / "recipe.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def publish(folder: Path, model: PreTrainedModel, tokenizer: Any, report: Mapping[str, Any]) -> None:
    """The folder appears whole: written under another name, then renamed."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    held_out = report["held_out"]
    plot = calibration_svg(held_out["calibration"], held_out["expected_calibration_error"])
    write_atomically(temporary / "calibration.svg", plot)
    write_atomically(temporary / REPORT, json.dumps(report, indent=2) + "\n")
    temporary.rename(folder)


def _move(model: nn.Module, device: str) -> None:
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise UserError("training.device is cuda, and there is no GPU", remedy="set it to auto")
    model.to("cuda" if has_gpu and device != "cpu" else "cpu")

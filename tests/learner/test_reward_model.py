"""Training a reward model: its data, its model, its steps, and what is told of it."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification, LlamaForCausalLM

from antiphon.errors import UserError
from learner.optimizer import OptimizerConfig
from learner.reward_model.data import PreferenceConfig, PreferencePair, distinct, load_pairs, split_by_prompt
from learner.reward_model.encoded import EncodedPair, encode_split
from learner.reward_model.model import load_reward_model
from learner.reward_model.plot import calibration_svg
from learner.reward_model.report import length_accuracy, measure, values_of
from learner.reward_model.trainer import TrainingConfig, draws, margins, train
from reward_service.networks.encoding import TextConfig, TextEncoder
from rollout.models import ModelConfig
from tests.reward_service.fakes_networks import bert, byte_tokenizer, llama, save


def pair(prompt: str = "p", chosen: str = "good", rejected: str = "bad", **fields: Any) -> PreferencePair:
    return PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, **fields)


def write(path: Path, *rows: Any) -> PreferenceConfig:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return PreferenceConfig(path=path)


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {"prompt": f"prompt {number}", "chosen": f"good {number}", "rejected": "bad", **fields}


def test_no_prompt_is_on_both_sides() -> None:
    pairs = [pair(f"p{i % 10}", f"good {i}") for i in range(60)]
    train_side, held_out = split_by_prompt(pairs, 0.3, seed=0)
    assert not {p.prompt for p in train_side} & {p.prompt for p in held_out}
    # 3 of 10 prompts, 6 pairs each.
    assert (len(train_side), len(held_out)) == (42, 18)


def test_prompts_that_differ_in_case_or_white_space_stay_together() -> None:
    for seed in range(10):
        sides = split_by_prompt([pair("Who?"), pair(" who? \n"), pair("What?")], 0.5, seed)
        assert {tuple(p.prompt for p in side) for side in sides} == {("Who?", " who? \n"), ("What?",)}


def test_the_split_does_not_depend_on_the_order_of_the_file() -> None:
    pairs = [pair(f"p{i}") for i in range(20)]
    assert set(split_by_prompt(pairs, 0.5, 3)[1]) == set(split_by_prompt(pairs[::-1], 0.5, 3)[1])
    assert set(split_by_prompt(pairs, 0.5, 3)[1]) != set(split_by_prompt(pairs, 0.5, 4)[1])


def test_repetitions_and_equal_answers_teach_nothing() -> None:
    kept, left_out = distinct([pair(), pair(), pair(rejected="good"), pair(rejected="worse")])
    assert kept == [pair(), pair(rejected="worse")]
    assert left_out == {"repeated": 1, "same_answers": 1}


def test_a_file_of_pairs(tmp_path: Path) -> None:
    config = write(tmp_path / "p.jsonl", *(row(i) for i in range(9)), "", row(9, extra=1))
    split = load_pairs(config)
    # A fifth of ten prompts.
    assert (len(split.train), len(split.held_out), split.left_out) == (8, 2, {})
    assert {p.target for p in split.train} == {1.0}


def test_strength_becomes_a_target_between_a_tie_and_surety(tmp_path: Path) -> None:
    config = write(tmp_path / "p.jsonl", row(0, how=0.0), row(1, how=0.5), row(2, how=1))
    split = load_pairs(config.model_copy(update={"strength": "how", "held_out_share": 0.4}))
    targets = {p.prompt: p.target for p in (*split.train, *split.held_out)}
    assert targets == {"prompt 0": 0.5, "prompt 1": 0.75, "prompt 2": 1.0}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not an object"),
        ({"prompt": "p", "chosen": "a"}, "line 2 has no text under 'rejected'"),
        ({"prompt": "p", "chosen": " ", "rejected": "b"}, "line 2 has no text under 'chosen'"),
        (row(1, how=2), "'how' is 2, not within"),
        (row(1, how=True), "'how' is True, not within"),
        (row(1), "'how' is None, not within"),
    ],
)
def test_a_line_that_is_no_pair_is_told_with_its_number(tmp_path: Path, bad: Any, message: str) -> None:
    config = write(tmp_path / "p.jsonl", row(0, how=1.0), bad).model_copy(update={"strength": "how"})
    with pytest.raises(UserError, match=message):
        load_pairs(config)


def test_no_file_and_too_few_prompts_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_pairs(PreferenceConfig(path=tmp_path / "nothing"))
    with pytest.raises(UserError, match="has 1 prompts: too few"):
        load_pairs(write(tmp_path / "p.jsonl", row(0)))


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    split = load_pairs(write(tmp_path / "p.jsonl", *(row(i) for i in range(9)), row(9, rejected="b" * 99)))
    encoder = TextEncoder(byte_tokenizer(), TextConfig(form="chat", max_length=60), None)
    pairs = encode_split(split, encoder)
    assert pairs.split.left_out == {"too_long": 1}
    assert len(pairs.train) + len(pairs.held_out) == 9
    for texts, ids in ((pairs.split.train, pairs.train), (pairs.split.held_out, pairs.held_out)):
        assert [encoder.encode(p.prompt, p.chosen) for p in texts] == [p.chosen for p in ids]
        assert [encoder.encode(p.prompt, p.rejected) for p in texts] == [p.rejected for p in ids]
    with pytest.raises(UserError, match="reads 8 tokens"):
        encode_split(split, TextEncoder(byte_tokenizer(), TextConfig(form="chat", max_length=8), None))


@pytest.fixture
def language_model(tmp_path: Path) -> str:
    """A folder with a causal language model."""
    return save(tmp_path / "lm", LlamaForCausalLM, llama())


def test_before_training_all_answers_are_equally_good(language_model: str) -> None:
    model, _ = load_reward_model(ModelConfig(name=language_model), None, seed=0)
    assert margins(model, encoded(4)).tolist() == [0.0] * 4


def test_an_encoder_becomes_a_reward_model_too(tmp_path: Path) -> None:
    folder = save(tmp_path, BertForSequenceClassification, bert(num_labels=1), is_segmented=True)
    model, tokenizer = load_reward_model(ModelConfig(name=folder), None, seed=0)
    # Its head was loaded, and keeps its opinions.
    assert tokenizer.pad_token == "<pad>"
    assert all(abs(m) > 1e-3 for m in margins(model, encoded(3)).tolist())


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model"):
        load_reward_model(ModelConfig(name=str(tmp_path / "none")), None, seed=0)


def test_the_pad_token_does_not_end_texts(tmp_path: Path) -> None:
    folder = save(tmp_path, LlamaForCausalLM, llama(pad_token_id=2))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "<eos>"}))
    model, tokenizer = load_reward_model(ModelConfig(name=folder), None, seed=0)
    assert (tokenizer.pad_token, model.config.pad_token_id) == ("<pad>", 0)


def test_only_the_upper_layers_are_trained_where_that_is_asked(language_model: str) -> None:
    model, _ = load_reward_model(ModelConfig(name=language_model), 1, seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, encoded(8), TrainingConfig(num_epochs=4, pairs_per_step=4), seed=0)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[2] for name in moved if name.startswith("model.layers")} == {"1"}
    assert moved - {n for n in moved if n.startswith("model.layers.1.")} == {"score.weight"}
    with pytest.raises(UserError, match="has 2 layers"):
        load_reward_model(ModelConfig(name=language_model), 3, seed=0)


def encoded(num_pairs: int) -> list[EncodedPair]:
    """Chosen answers hold the token 7, rejected ones 8, at odd lengths."""
    return [
        EncodedPair(
            chosen=(3 + i % 5,) * (1 + i % 4) + (7, 2),
            rejected=(3 + i % 5,) * (1 + i % 7) + (8, 2),
            target=1.0,
        )
        for i in range(num_pairs)
    ]


def test_a_difference_that_can_be_read_is_learned(language_model: str) -> None:
    model, _ = load_reward_model(ModelConfig(name=language_model), None, seed=0)
    told: list[tuple[int, int, dict[str, float]]] = []
    config = TrainingConfig(num_epochs=5, pairs_per_step=8, optimizer=OptimizerConfig(lr=3e-3, head_lr=1e-2))
    num_steps = train(
        model, encoded(40), config, seed=0, on_step=lambda step, of, m: told.append((step, of, m))
    )
    # 5 · 40 / 8
    assert num_steps == 25
    assert [step for step, _, _ in told] == list(range(1, 26))
    assert told[0][2]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert told[0][2]["accuracy"] == 0.5
    assert told[-1][2]["loss"] < 0.1
    # Lengths that were never trained on.
    unseen = EncodedPair(chosen=(5,) * 11 + (7, 2), rejected=(5,) * 9 + (8, 2), target=1.0)
    assert margins(model, [unseen]).item() > 1.0


def test_the_gradient_does_not_depend_on_micro_batches(language_model: str) -> None:
    """S7."""
    weights = []
    for max_tokens in (10_000, 40, 1):
        model, _ = load_reward_model(ModelConfig(name=language_model), None, seed=0)
        config = TrainingConfig(
            num_epochs=3,
            pairs_per_step=10,
            max_tokens_per_micro_batch=max_tokens,
            optimizer=OptimizerConfig(lr=1e-3, head_lr=1e-2, epsilon=1e-4),
        )
        train(model, encoded(10), config, seed=0)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (weights[0] - weights[1]).abs().max() < 1e-5
    assert (weights[0] - weights[2]).abs().max() < 1e-5


def test_a_doubtful_pair_is_pulled_less(language_model: str) -> None:
    def learned(target: float) -> float:
        model, _ = load_reward_model(ModelConfig(name=language_model), None, seed=0)
        pairs = [EncodedPair(chosen=(5, 7, 2), rejected=(5, 8, 2), target=target)]
        settings = OptimizerConfig(lr=1e-3, head_lr=1e-2, betas=(0.5, 0.9))
        train(model, pairs, TrainingConfig(num_epochs=60, pairs_per_step=1, optimizer=settings), seed=0)
        return float(margins(model, pairs).detach().sigmoid())

    assert learned(0.5) == pytest.approx(0.5)
    assert learned(0.75) == pytest.approx(0.75, abs=0.05)
    assert learned(1.0) > 0.9


def test_every_pair_is_drawn_once_an_epoch_in_an_order_of_its_own() -> None:
    # 6 pairs in steps of 4: steps 0-2 hold two epochs.
    drawn = [number for step in draws(6, 4, 3, seed=0) for number in step]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))
    assert drawn[:6] != drawn[6:]
    assert list(draws(6, 4, 3, seed=0)) != list(draws(6, 4, 3, seed=1))


def test_nothing_to_train_on_is_a_mistake_of_the_caller(language_model: str) -> None:
    model, _ = load_reward_model(ModelConfig(name=language_model), None, seed=0)
    with pytest.raises(ValueError, match="no pairs"):
        train(model, [], TrainingConfig(), seed=0)


def test_the_report_by_hand() -> None:
    longer = [pair(f"t{i}", "long answer", "short") for i in range(3)]
    held_out = [
        pair("a", "longer", "short"),
        pair("a", "longest", "short"),
        pair("b", "brief", "long-winded"),
        pair("c", "even", "odd!"),
    ]
    chosen, rejected = torch.tensor([2.0, 1.0, 0.0, 1.0]), torch.tensor([1.0, 2.0, -1.0, 1.0])
    report = measure(held_out, chosen, rejected, longer)
    # Margins 1, −1, 1, 0: right, wrong, right, a tie.
    assert report["accuracy"] == pytest.approx(2.5 / 4)
    # Deviations .375 − .625 (prompt a), .375, −.125: √(.0625 + .140625 + .015625) / 4
    assert report["accuracy_standard_error"] == pytest.approx(0.116927, abs=1e-6)
    # Longer, longer, shorter, a tie.
    assert report["accuracy_of_length_alone"] == pytest.approx(2.5 / 4)
    assert (report["num_pairs"], report["num_prompts"], report["num_shorter_chosen"]) == (4, 3, 1)
    assert report["accuracy_where_shorter_chosen"] == 1.0
    assert report["accuracy_where_longer_chosen"] == 0.5
    # (log σ(1) twice, log σ(−1), log ½)
    assert report["loss"] == pytest.approx((2 * 0.313262 + 1.313262 + 0.693147) / 4, abs=1e-5)


def test_the_length_rule_is_the_one_that_holds_in_training() -> None:
    shorter = [pair(chosen="a", rejected="bb")]
    assert (
        length_accuracy(shorter, [pair(chosen="a", rejected="bb"), pair(chosen="aaa", rejected="b")]) == 0.5
    )
    assert length_accuracy(shorter, shorter) == 1.0
    assert length_accuracy([pair(chosen="aaa", rejected="b")], shorter) == 0.0


def test_a_side_of_the_lengths_that_has_no_pair_has_no_accuracy() -> None:
    report = measure([pair()], torch.tensor([1.0]), torch.tensor([0.0]), [pair()])
    assert report["accuracy_where_shorter_chosen"] is None


def test_values_are_normalized_over_both_answers() -> None:
    # 1, 3, 1, −1: mean 1, variance (0 + 4 + 0 + 4) / 4
    values = values_of(torch.tensor([1.0, 3.0]), torch.tensor([1.0, -1.0]))
    assert values == pytest.approx({"mean": 1.0, "std": 2.0**0.5})
    assert values_of(torch.tensor([3.0]), torch.tensor([3.0])) == {"mean": 3.0, "std": 1.0}


def test_the_plot_shows_each_bin_where_it_belongs() -> None:
    bins = [
        {"count": 1, "confidence": 0.5, "accuracy": 0.0},
        {"count": 3, "confidence": 0.75, "accuracy": 0.5},
    ]
    picture = ElementTree.fromstring(calibration_svg(bins, 0.25))
    discs = picture.findall("{http://www.w3.org/2000/svg}circle")
    places = [(float(d.attrib["cx"]), float(d.attrib["cy"])) for d in discs]
    # The plane begins at 56 and is 360 wide: lower left corner, and the centre.
    assert places == [(56.0, 416.0), (236.0, 236.0)]
    assert float(discs[1].attrib["r"]) > float(discs[0].attrib["r"])
    assert "4 held-out pairs, expected calibration error 0.250" in "".join(picture.itertext())

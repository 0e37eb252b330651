"""The components that hold a network: classifier, reward model, embedding."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from antiphon.errors import UserError
from reward_service.building import build_reward
from reward_service.components.embedding import mean_pooled
from reward_service.networks.reward import NetworkReward
from reward_service.types import Sample, Status
from tests.reward_service.fakes_networks import (
    byte_tokenizer,
    save_classifier,
    save_encoder,
    save_reward_model,
)
from tests.reward_service.fakes_rewards import sample

TEXTS = ["a", "good", "a rather long answer, longer than the rest", "", "two words", "<pad><eos>", "x" * 70]


def build(name: str, folder: str, **options: Any) -> NetworkReward:
    """The component, started."""
    reward = build_reward(name, {"model": folder, "device": "cpu", **options}, "reward.components.0")
    assert isinstance(reward, NetworkReward)
    reward.start()
    return reward


def check(name: str, folder: str, **options: Any) -> None:
    """As where a recipe is checked."""
    build_reward(name, {"model": folder, **options}, "reward.components.0")


def samples(reference: str | None = "good") -> list[Sample]:
    return [sample(t, id=str(i), prompt="ask", reference=reference) for i, t in enumerate(TEXTS)]


def value(reward: NetworkReward, completion: str, **fields: Any) -> float:
    (score,) = reward.score([sample(completion, **fields)])
    assert score.value is not None, score.message
    return score.value


# S10: each text alone is worth what it is worth in a batch, whatever its neighbours and its padding.


@pytest.mark.parametrize("is_gpt2", [False, True])
@pytest.mark.parametrize("pad_token_id", [0, 2, 99])
def test_a_reward_model_gives_a_text_alone_what_it_gives_in_a_batch(
    tmp_path: Path, is_gpt2: bool, pad_token_id: int
) -> None:
    """2 ends every chat, 99 is a letter that occurs in the texts."""
    folder = save_reward_model(tmp_path, is_gpt2=is_gpt2, pad_token_id=pad_token_id)
    reward = build("reward_model", folder)
    together = [score.value for score in reward.score(samples())]
    alone = [reward.score([s])[0].value for s in samples()]
    assert len(set(together)) == len(TEXTS)
    assert together == pytest.approx(alone, abs=1e-5)
    in_pairs = build("reward_model", folder, max_tokens_per_batch=100)
    assert [score.value for score in in_pairs.score(samples())] == pytest.approx(alone, abs=1e-5)


def test_an_encoder_gives_a_text_alone_what_it_gives_in_a_batch(tmp_path: Path) -> None:
    for name, folder, options in (
        ("classifier", save_classifier(tmp_path / "c"), {"target": "toxic"}),
        ("embedding", save_encoder(tmp_path / "e"), {}),
    ):
        reward = build(name, folder, **options)
        together = [score.value for score in reward.score(samples())]
        assert len(set(together)) == len(TEXTS)
        assert together == pytest.approx([reward.score([s])[0].value for s in samples()], abs=1e-5)


def test_a_reward_model_is_what_transformers_computes(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    chat = "<bos>user\nask<eos>\n<bos>assistant\ngood<eos>\n"
    ids = byte_tokenizer()(chat, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        expected = float(model(ids).logits[0, 0])
    assert value(build("reward_model", folder), "good", prompt="ask") == pytest.approx(expected, abs=1e-5)


def test_a_classifier_is_what_transformers_computes(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = byte_tokenizer(is_segmented=True)("good", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits[0].double()
    labels = {"friendly": 0, "Toxic": 1, "2": 2}
    softmax = {label: value(build("classifier", folder, target=label), "good") for label in labels}
    assert softmax == pytest.approx({k: float(logits.softmax(0)[i]) for k, i in labels.items()}, abs=1e-6)
    assert sum(softmax.values()) == pytest.approx(1.0, abs=1e-6)
    sigmoid = value(build("classifier", folder, target="toxic", activation="sigmoid"), "good")
    assert sigmoid == pytest.approx(1 / (1 + math.exp(-float(logits[1]))), abs=1e-6)


def test_a_model_of_several_labels_at_once_says_so_itself(tmp_path: Path) -> None:
    several = build(
        "classifier",
        save_classifier(tmp_path / "several", problem_type="multi_label_classification"),
        target="rude",
    )
    by_option = build("classifier", save_classifier(tmp_path / "one"), target="rude", activation="sigmoid")
    assert value(several, "good") == pytest.approx(value(by_option, "good"), abs=1e-6)


def test_the_embedding_is_the_cosine_of_means(tmp_path: Path) -> None:
    reward = build("embedding", save_encoder(tmp_path))
    ids = reward.network.tokenizer(["good", "bad"], return_tensors=None).input_ids
    with torch.no_grad():
        means = [
            reward.network.model(torch.tensor([i])).last_hidden_state[0].mean(dim=0).double() for i in ids
        ]
    expected = float(means[0] @ means[1] / (means[0].norm() * means[1].norm()))
    assert value(reward, "good", reference="bad") == pytest.approx(expected, abs=1e-6)
    assert value(reward, "good", reference="good") == pytest.approx(1.0, abs=1e-9)
    assert value(reward, " \n", reference="good") == 0.0


def test_a_mean_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    # (1 + 3) / 2 and (0 + 4) / 2; the third place is padding.
    assert mean_pooled(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 2.0]]
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        mean_pooled(hidden, torch.tensor([[1, 1]]))
    with pytest.raises(ValueError, match="without tokens"):
        mean_pooled(hidden, torch.tensor([[0, 0, 0]]))


def test_an_embedding_needs_something_to_be_near_to(tmp_path: Path) -> None:
    reward = build("embedding", save_encoder(tmp_path))
    for reference, message in ((None, "needs a reference"), (" ", "the reference is empty")):
        (score,) = reward.score([sample("good", reference=reference)])
        assert (score.status, score.value) == (Status.INVALID_INPUT, None)
        assert message in score.message


def test_a_prefix_is_put_before_both_texts(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    with_prefix = value(build("embedding", folder, prefix="query: "), "good", reference="bad")
    spelled_out = value(build("embedding", folder), "query: good", reference="query: bad")
    assert with_prefix == pytest.approx(spelled_out, abs=1e-9)
    assert with_prefix != pytest.approx(value(build("embedding", folder), "good", reference="bad"), abs=1e-6)


def test_a_text_that_is_too_long_costs_no_other(tmp_path: Path) -> None:
    reward = build("classifier", save_classifier(tmp_path), target="toxic", max_length=50)
    scores = reward.score(samples())
    assert [s.status for s in scores] == [Status.OK] * 6 + [Status.INVALID_INPUT]
    assert "has 72 tokens, the network reads 50" in scores[6].message
    cut = build("classifier", str(tmp_path), target="toxic", max_length=50, too_long="cut_completion")
    assert value(cut, "x" * 70) == pytest.approx(value(reward, "x" * 48), abs=1e-6)


def test_a_prompt_may_be_read_from_the_metadata(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    plain, by_key = build("reward_model", folder), build("reward_model", folder, prompt_key="question")
    seen = sample("good", prompt="user\nask\nassistant\n", metadata={"question": "ask"})
    assert by_key.score([seen])[0].value == pytest.approx(value(plain, "good", prompt="ask"), abs=1e-6)
    (score,) = by_key.score([sample("good")])
    assert score.status is Status.INVALID_INPUT
    assert "no text 'question'" in score.message


def test_the_report_of_the_folder_says_how_texts_are_read_and_values_normalized(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    raw = value(build("reward_model", folder, form="pair"), "good", prompt="ask")
    report = {"input": {"form": "pair", "max_length": 10}, "values": {"mean": 0.5, "std": 0.25}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert value(build("reward_model", folder), "good", prompt="ask") == pytest.approx(raw, abs=1e-6)
    normalized = build("reward_model", folder, is_normalized=True)
    # (raw - 0.5) / 0.25
    assert value(normalized, "good", prompt="ask") == pytest.approx(4 * raw - 2, abs=1e-5)
    assert normalized.score([sample("more than that", prompt="ask")])[0].status is Status.INVALID_INPUT
    # The recipe's own word goes before the folder's.
    assert (
        build("reward_model", folder, max_length=20).score([sample("more than that", prompt="ask")])[0].is_ok
    )


def test_values_cannot_be_normalized_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no report\.json with values"):
        check("reward_model", save_reward_model(tmp_path), is_normalized=True)


def test_a_report_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    (tmp_path / "report.json").write_text('{"values": {"mean": 0.0, "std": 0.0}}')
    with pytest.raises(UserError, match=r"values\.std is 0\.0"):
        check("reward_model", folder, is_normalized=True)


def test_mistakes_are_told_where_the_recipe_is_checked(tmp_path: Path) -> None:
    several = save_classifier(tmp_path / "several")
    with pytest.raises(UserError, match="has 3 outputs, a reward model has one"):
        check("reward_model", several)
    with pytest.raises(UserError, match="no label 'toxik'") as caught:
        check("classifier", several, target="toxik")
    assert "did you mean 'Toxic'?" in caught.value.remedy
    with pytest.raises(UserError, match="there is no model"):
        check("embedding", str(tmp_path / "nowhere"))


def test_a_network_is_not_loaded_where_a_recipe_is_checked(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    reward = build_reward("reward_model", {"model": folder}, "reward.components.0")
    (score,) = reward.score([sample("good")])
    assert score.status is Status.ERROR
    with pytest.raises(UserError, match="cannot be loaded"):
        reward.start()


def test_where_a_recipe_is_checked_torch_is_not_imported(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path)
    code = f"""
import sys
from reward_service.building import build_reward
build_reward("reward_model", {{"model": {folder!r}}}, "reward.components.0")
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_value_that_is_no_number_is_an_error_of_its_sample_alone(tmp_path: Path) -> None:
    reward = build("reward_model", save_reward_model(tmp_path), form="completion")
    with torch.no_grad():
        # The letter z alone leads to NaN.
        reward.network.model.get_input_embeddings().weight[reward.network.tokenizer("z").input_ids[0]] = (
            math.nan
        )
    scores = reward.score([sample("good", id="0"), sample("zoo", id="1"), sample("bad", id="2")])
    assert [s.status for s in scores] == [Status.OK, Status.ERROR, Status.OK]
    assert "must be finite" in scores[1].message


class OneAtATime(torch.nn.Module):
    """Breaks on a batch of more than one text, as where memory is short."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner, self.config, self.device = model, model.config, model.device

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        if len(input_ids) > 1:
            raise RuntimeError("out of memory")
        return self.inner(input_ids=input_ids, attention_mask=attention_mask)


def test_a_batch_that_breaks_is_read_text_by_text(tmp_path: Path) -> None:
    reward = build("reward_model", save_reward_model(tmp_path))
    whole = [score.value for score in reward.score(samples())]
    object.__setattr__(reward.network, "model", OneAtATime(reward.network.model))
    assert [score.value for score in reward.score(samples())] == pytest.approx(whole, abs=1e-5)

"""Texts as vectors: what is read, what is kept, and an encoder that is trained along."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertModel, LlamaForCausalLM

from antiphon.errors import UserError
from learner.choice.chooser import ChooserConfig, load_chooser, save_chooser
from learner.choice.encoder import Encoder, EncoderConfig, load_encoder
from learner.choice.model import ChoiceModel
from learner.choice.network import QNetwork, QNetworkConfig
from learner.choice.sources import FrozenVectors, TrainedEncoder, read_all
from learner.choice.table import Texts, TransitionTable
from learner.choice.trainer import ChoiceTrainer
from learner.choice.vectors import vectors_of
from learner.optimizer import OptimizerConfig
from learner.state import load_state, save_state
from tests.learner.fakes_choice import q_of, step, trainer_of
from tests.reward_service.fakes_networks import bert, llama, save

NETWORK = QNetworkConfig(rank=8, hidden_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model of two layers that reads bytes."""
    return save(tmp_path_factory.mktemp("lm"), LlamaForCausalLM, llama())


def config(folder: str, **changes: Any) -> EncoderConfig:
    return EncoderConfig(**{"model": folder, "device": "cpu", **changes})


def vector(folder: str, text: str, **changes: Any) -> Tensor:
    encoder = load_encoder(config(folder, **changes), seed=0)
    with torch.no_grad():
        return encoder([encoder.ids(text)])[0]


def plain_states(folder: str, text: str) -> Any:
    """All hidden states of a text, by transformers alone; with the model."""
    model = AutoModel.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model, model(input_ids=ids, output_hidden_states=True).hidden_states


def test_a_text_is_the_mean_of_its_hidden_states(folder: str) -> None:
    _, states = plain_states(folder, "hello")
    assert torch.allclose(vector(folder, "hello"), states[-1][0].mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("num_layers", [0, 1])
def test_only_the_lowest_layers_may_be_run(num_layers: int, folder: str) -> None:
    model, states = plain_states(folder, "hello")
    with torch.no_grad():
        expected = model.norm(states[num_layers])[0].mean(dim=0)
    assert torch.allclose(vector(folder, "hello", num_layers=num_layers), expected, atol=1e-5)


def test_a_text_is_alone_what_it_is_in_a_batch(folder: str) -> None:
    encoder = load_encoder(config(folder), seed=0)
    rows = [encoder.ids(text) for text in ("a", "hello there", "good day")]
    with torch.no_grad():
        together = encoder(rows)
        alone = torch.cat([encoder([row]) for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)


def test_long_texts_are_refused_or_cut_where_it_is_said(folder: str) -> None:
    text = "abcdefghijkl"
    with pytest.raises(UserError, match="12 tokens, the encoder reads 8") as caught:
        load_encoder(config(folder, max_length=8), seed=0).ids(text)
    assert "too_long" in caught.value.remedy
    whole = load_encoder(config(folder), seed=0).ids(text)
    for too_long, kept in (("cut_end", whole[:8]), ("cut_start", whole[-8:])):
        encoder = load_encoder(config(folder, max_length=8, too_long=too_long), seed=0)
        assert encoder.ids(text) == kept
        assert encoder.ids("short") == load_encoder(config(folder), seed=0).ids("short")


def test_a_cut_text_keeps_what_the_tokenizer_adds(tmp_path: Path) -> None:
    place = save(tmp_path / "bert", BertModel, bert(), is_segmented=True)
    whole = load_encoder(config(place), seed=0).ids("abcdefghijkl")
    cut = load_encoder(config(place, max_length=8, too_long="cut_start"), seed=0).ids("abcdefghijkl")
    assert cut == (whole[0], *whole[-7:])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_layers": 3}, "num_layers is 3, LlamaModel has 2 layers"),
        ({"max_length": 4096}, "max_length is 4096, the network has 2048 positions"),
        ({"model": "tiny-llama"}, "random weights"),
        ({"model": "no/such/model"}, "no model"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(changes: dict[str, Any], problem: str, folder: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_encoder(config(folder, **changes), seed=0)


def test_a_text_without_tokens_is_refused(folder: str) -> None:
    with pytest.raises(UserError, match="has no token"):
        load_encoder(config(folder), seed=0).ids("")


class Counting(Encoder):
    """Counts the texts that are read."""

    num_read = 0

    def forward(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        self.num_read += len(rows)
        return super().forward(rows)


def counting(folder: str, **changes: Any) -> Counting:
    encoder = load_encoder(config(folder, **changes), seed=0)
    encoder.__class__ = Counting
    assert isinstance(encoder, Counting)
    return encoder


def test_each_text_is_read_once_and_kept(folder: str, tmp_path: Path) -> None:
    encoder = counting(folder)
    rows = [encoder.ids(text) for text in ("one", "three", "one", "two")]
    first = vectors_of(encoder, rows, 64, tmp_path)
    assert encoder.num_read == 3
    assert torch.equal(first[0], first[2])
    with torch.no_grad():
        assert torch.allclose(first[1], encoder([rows[1]])[0], atol=1e-5)
    again = counting(folder)
    more = vectors_of(again, [*rows, again.ids("four")], 64, tmp_path)
    assert again.num_read == 1
    assert torch.equal(more[:4], first)


def test_vectors_of_another_encoder_are_not_taken(folder: str, tmp_path: Path) -> None:
    encoder = counting(folder)
    rows = [encoder.ids("one")]
    first = vectors_of(encoder, rows, 64, tmp_path)
    other = counting(folder, num_layers=1)
    assert not torch.allclose(vectors_of(other, rows, 64, tmp_path), first)
    changed = counting(folder)
    with torch.no_grad():
        next(changed.parameters()).add_(0.5)
    assert not torch.allclose(vectors_of(changed, rows, 64, tmp_path), first)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_a_broken_file_of_vectors_is_made_again(folder: str, tmp_path: Path) -> None:
    encoder = counting(folder)
    first = vectors_of(encoder, [encoder.ids("one")], 64, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    assert torch.equal(vectors_of(encoder, [encoder.ids("one")], 64, tmp_path), first)
    assert encoder.num_read == 2


def test_nothing_is_no_vector() -> None:
    found = read_all(FrozenVectors(torch.tensor([[1.0], [2.0]])), torch.tensor([[1, -1], [-1, -1]]))
    assert found.tolist() == [[[2.0], [0.0]], [[0.0], [0.0]]]


def made(folder: str, *, is_trained: bool) -> tuple[ChoiceTrainer, Texts, Encoder]:
    """Learns to give what is asked for; the next state of "wait" is read by the target network, too."""
    texts = Texts()
    wanted = [("want a", "give a", "give b"), ("want b", "give b", "give a")]
    transitions = [
        step(state, act, float(act == right)) for state, right, wrong in wanted for act in (right, wrong)
    ]
    transitions.append(step("want a", "wait", 0.0, "want a", "give a", "give b"))
    for t in transitions:
        texts.state(t.state)
        texts.action(t.actions[0])
    encoder = load_encoder(config(folder, is_trained=is_trained), seed=0)
    rows = [encoder.ids(text) for text in texts.as_read()]
    with torch.no_grad():
        source = TrainedEncoder(encoder, rows) if is_trained else FrozenVectors(encoder(rows).clone())
    model = ChoiceModel(source, QNetwork(NETWORK, source.size, seed=1))
    table = TransitionTable.of(transitions, texts)
    model.fit_scales(table.state, table.actions)
    optimizer = OptimizerConfig(lr=1e-3, head_lr=0.01)
    trainer = trainer_of(
        transitions,
        texts,
        model,
        training={"batch_size": 8, "rows_per_micro_batch": 5, "optimizer": optimizer},
        gamma=0.5,
    )
    return trainer, texts, encoder


@pytest.mark.parametrize("is_trained", [False, True])
def test_both_kinds_learn_and_only_one_changes_the_encoder(is_trained: bool, folder: str) -> None:
    trainer, texts, encoder = made(folder, is_trained=is_trained)
    before = encoder.fingerprint()
    for _ in range(80):
        trainer.update()
    for state, action, value in (
        ("want a", "give a", 1.0),
        ("want a", "give b", 0.0),
        ("want a", "wait", 0.5),
    ):
        assert q_of(trainer.model, texts, state, action) == pytest.approx(value, abs=0.2)
    assert (encoder.fingerprint() != before) == is_trained


def test_a_trained_encoder_goes_on_exactly(folder: str, tmp_path: Path) -> None:
    whole, first, second = (made(folder, is_trained=True)[0] for _ in range(3))
    expected = [whole.update() for _ in range(6)]
    begun = [first.update() for _ in range(4)]
    save_state(first.state_dict(), tmp_path, "choice")
    second.load_state_dict(load_state(tmp_path, "choice"))
    assert begun + [second.update() for _ in range(2)] == expected


def test_the_target_network_of_a_trained_encoder_has_its_own(folder: str) -> None:
    trainer, _, _ = made(folder, is_trained=True)
    for _ in range(4):
        trainer.update()
    state = trainer.state_dict()
    name = next(name for name in state["online"] if name.startswith("source.encoder.trunk.layers"))
    assert not torch.equal(state["online"][name], state["target"][name])


@pytest.mark.parametrize("is_trained", [False, True])
def test_a_chooser_values_as_the_model_that_was_trained(
    is_trained: bool, folder: str, tmp_path: Path
) -> None:
    place = str(tmp_path / "lm")
    shutil.copytree(folder, place)
    trainer, texts, encoder = made(place, is_trained=is_trained)
    for _ in range(60):
        trainer.update()
    saved = ChooserConfig(encoder=config(place, is_trained=is_trained), network=NETWORK)
    save_chooser(tmp_path / "model", encoder, trainer.model.network, saved)
    if is_trained:
        # What was trained is in the folder: the model that it came from may go.
        shutil.rmtree(place)
    chooser = load_chooser(tmp_path / "model")
    for state in ("want a", "want b"):
        expected = [q_of(trainer.model, texts, state, action) for action in ("give a", "give b")]
        assert chooser.values(state, ["give a", "give b"]) == pytest.approx(expected, abs=1e-4)
    assert chooser.choose("want a", ["give b", "give a"]) == 1
    assert chooser.choose("want b", ["give b", "give a"]) == 0
    draws = {
        chooser.choose(
            "want b", ["give b", "give a"], epsilon=1.0, generator=torch.Generator().manual_seed(s)
        )
        for s in range(20)
    }
    assert draws == {0, 1}


def test_a_chooser_says_what_it_lacks(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UserError, match="holds no choice model"):
        load_chooser(tmp_path)
    encoder = load_encoder(config(folder), seed=0)
    saved = ChooserConfig(encoder=config(folder), network=NETWORK)
    save_chooser(tmp_path / "model", encoder, QNetwork(NETWORK, encoder.size, seed=0), saved)
    with pytest.raises(UserError, match="no action"):
        load_chooser(tmp_path / "model").choose("s", [])

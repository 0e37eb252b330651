import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from antiphon.errors import UserError
from antiphon.settings import parse
from rollout import model_store, tiny
from rollout.models import (
    ModelConfig,
    empty_model,
    eos_token_ids,
    load_config,
    load_model,
    load_tokenizer,
    max_context,
)

TINY = ModelConfig()


def at(folder: Path) -> ModelConfig:
    return ModelConfig(name=str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with tokenizer, as save_pretrained leaves it."""
    tokenizer = tiny.build_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=8, n_layer=1, n_head=2, eos_token_id=[2, 7]
    )
    model = GPT2LMHeadModel(config)
    # Generation settings that lie in the folder must change nothing.
    model.generation_config.repetition_penalty = 1.3
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_built_in_model_is_small_and_made_by_its_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = load_model(TINY, 1), load_model(TINY, 1), load_model(TINY, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert sum(p.numel() for p in one.parameters()) == 3_230_720
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_the_built_in_tokenizer_has_a_token_per_byte_and_loses_nothing() -> None:
    tokenizer = load_tokenizer(TINY)
    for text in ("sort 5821=", " a  b\n\tc", "é漢🙂", "don 't , .", "123", "<eo s>"):
        token_ids = tokenizer(text).input_ids
        assert len(token_ids) == len(text.encode())
        assert tokenizer.decode(token_ids) == text
    assert tokenizer("<bos>1<eos>").input_ids == [1, 19, 2]
    assert max(tokenizer.get_vocab().values()) < load_config(TINY).vocab_size


def test_the_built_in_model_survives_save_and_load(tmp_path: Path) -> None:
    model, tokenizer = load_model(TINY), load_tokenizer(TINY)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = load_model(at(tmp_path))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    stored = load_tokenizer(at(tmp_path))
    text = "<bos>é 12  <eos>"
    assert stored(text).input_ids == tokenizer(text).input_ids
    assert stored.chat_template == tokenizer.chat_template
    assert stored.decode([19, 223, 14]) == tokenizer.decode([19, 223, 14]) == "1 ,"


def test_a_folder_is_loaded_in_the_asked_type_and_without_dropout(folder: Path) -> None:
    assert load_model(at(folder)).dtype == torch.float32
    assert not load_model(at(folder)).training
    half = parse(ModelConfig, {"name": str(folder), "dtype": "bfloat16", "attn_implementation": "eager"})
    assert load_model(half).dtype == torch.bfloat16
    assert load_model(half).config._attn_implementation == "eager"


def test_end_tokens_are_the_tokenizers_and_the_models_without_repetition(folder: Path) -> None:
    """S3: the token that ends a completion need not be the tokenizer's own."""
    assert eos_token_ids(load_tokenizer(at(folder)), load_model(at(folder))) == (2, 7)
    assert eos_token_ids(load_tokenizer(TINY), load_model(TINY)) == (2,)


def test_the_context_is_known_without_loading_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    assert max_context(load_config(at(folder))) == 64
    assert max_context(load_config(TINY)) == 2048


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer*", "has no tokenizer"),
        ("*.safetensors", "no weights"),
    ],
)
def test_a_folder_that_lacks_something_is_told(folder: Path, pattern: str, message: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(at(folder))
    assert "save_pretrained" in caught.value.remedy


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_that_are_a_pickle_are_refused_and_not_opened(folder: Path, tmp_path: Path) -> None:
    """Mutation: "pytorch_model*.bin" among WEIGHT_FILES, and no use_safetensors, opens it."""
    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save({"lm_head.weight": Bomb(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="no weights"):
        load_model(at(folder))
    assert not (tmp_path / "ran").exists()


def test_the_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    """Mutation: trust_remote_code=True runs it."""
    (folder / "theirs.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    path = folder / "config.json"
    fields = {**json.loads(path.read_text()), "model_type": "theirs"}
    names = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    path.write_text(json.dumps({**fields, "auto_map": names}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(at(folder))
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_without_end_token_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    fields = json.loads(path.read_text())
    del fields["eos_token"]
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="no eos token"):
        load_tokenizer(at(folder))


def test_weights_that_are_missing_are_not_drawn_at_random(folder: Path) -> None:
    config = GPT2Config.from_pretrained(folder, n_layer=2)
    config.save_pretrained(folder)
    with pytest.raises(UserError, match="lacks 12 weights"):
        load_model(at(folder))


def test_a_config_that_is_no_language_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(at(folder))


def test_unknown_names_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model 'smolm2-135m'") as caught:
        load_model(ModelConfig(name="smolm2-135m"))
    assert "smollm2-135m" in caught.value.remedy
    with pytest.raises(UserError, match="no such folder"):
        load_tokenizer(at(tmp_path / "absent"))


def test_an_alias_that_was_not_fetched_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path))
    for load in (load_config, load_model, load_tokenizer):
        with pytest.raises(UserError) as caught:
            load(ModelConfig(name="smollm2-135m"))
        assert caught.value.remedy == "run: antiphon model get smollm2-135m"


def test_an_alias_that_was_fetched_is_loaded_from_the_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIPHON_CACHE", str(folder.parent))
    place = model_store.folder_of("smollm2-135m")
    place.parent.mkdir(parents=True)
    folder.rename(place)
    assert model_store.get("smollm2-135m") == place
    assert load_model(ModelConfig(name="smollm2-135m")).config.model_type == "gpt2"


@pytest.mark.parametrize("name", [TINY.name, "gpt2-walks", "folder"])
def test_an_empty_model_has_the_parameters_of_the_loaded_one_and_holds_none(name: str, folder: Path) -> None:
    """Names, shapes, and what is tied. Mutation: `.to("meta")` of a loaded one, which unties."""
    config = at(folder) if name == "folder" else ModelConfig(name=name)
    empty, loaded = empty_model(config), load_model(config)
    assert shapes(empty) == shapes(loaded)
    assert all(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
    assert not empty.training


def shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Of parameters, a tied one once, and of all buffers."""
    return {n: tuple(x.shape) for n, x in (*model.named_parameters(), *model.named_buffers())}

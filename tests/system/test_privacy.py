"""A run over prompts with addresses leaves none of them in its folder, and learns the same."""

import pytest
from transformers import AutoTokenizer

from rollout.trajectories import read_parquet
from tests.system.fakes_privacy import ADDRESS, mail_recipe, texts
from tests.system.fakes_runs import events, run_cli, summary, updates, write_recipe


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    """The run directories with and without masking."""
    folder = tmp_path_factory.mktemp("privacy")
    return {name: one_run(model, folder, name, mask) for name, mask in (("on", ["email"]), ("off", []))}


def one_run(model, folder, name, mask):
    recipe = write_recipe(folder / f"{name}.yaml", mail_recipe(model, folder, mask))
    assert run_cli("train", recipe, "--run-dir", folder / name) == 0
    return folder / name


def test_no_file_of_the_run_holds_an_address(runs):
    """Mutation: a worker without masker, an event hook without masker, each leaves some."""
    assert [name for name, text in texts(runs["on"]).items() if ADDRESS in text] == []
    found = [name for name, text in texts(runs["off"]).items() if ADDRESS in text]
    # The test can see them where they are not masked.
    assert "events.jsonl" in found
    assert any(name.startswith("trajectories/") for name in found)


def test_alarms_and_failures_are_told_with_masked_texts(runs):
    """Prompt and completion of an example; the words of the reward that failed."""
    examples = [example for alarm in events(runs["on"], "alarm") for example in alarm["examples"]]
    assert any("[email]" in example["prompt"] for example in examples)
    (left_out,) = events(runs["on"], "left_out")
    assert "cannot judge [email]" in left_out["samples"][0]["message"]


def test_no_tokens_in_the_store_spell_an_address(runs, model):
    """What is left can be learned from; what was masked can be read, and has no tokens."""
    decode = AutoTokenizer.from_pretrained(model).decode
    kept = [t for g in read_parquet(runs["on"] / "trajectories") for t in g.trajectories]
    masked = [t for g in read_parquet(runs["on"] / "trajectories" / "masked") for t in g.trajectories]
    whole = [t for g in read_parquet(runs["off"] / "trajectories") for t in g.trajectories]
    assert any(ADDRESS in decode(t.token_ids) for t in whole)
    assert not any(ADDRESS in decode(t.token_ids) for t in kept)
    assert not any(t.token_ids or t.logprobs for t in masked)
    assert min(len(kept), len(masked)) > 0
    assert len(kept) + len(masked) == len(whole)


def test_what_is_learned_does_not_depend_on_masking(runs):
    assert updates(runs["on"]) == updates(runs["off"])
    assert summary(runs["on"])["weights_digest"] == summary(runs["off"])["weights_digest"]

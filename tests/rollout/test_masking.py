from dataclasses import replace

import pytest

from antiphon.privacy import NOTHING_MASKED, PrivacyConfig, build_masker
from reward_service.types import Score, Status
from rollout import masking
from rollout.trajectories import read_parquet
from rollout.types import Turn
from tests.rollout import fakes_groups as fakes

EMAIL = build_masker(PrivacyConfig(mask=("email",)))
TEXTS = {8: "a fine answer", 9: "ask me@there.org", 10: ".com is half an address", 2: "x"}


def said(token_ids):
    return TEXTS[token_ids[0]]


def group(prompt_text="sort 21=", **fields):
    prompt = fakes.prompt(text=prompt_text, **fields)
    drawn = [fakes.completion((first, 2)) for first in (8, 9, 8)]
    return fakes.group(Turn(epoch=0, index=4, prompt=prompt), drawn, said)


def test_every_text_is_masked_and_nothing_else_is_touched():
    before = group(
        "to a@b.org:",
        id="a@b.org",
        reference="c@d.org",
        metadata={"from": ["e@f.org", 1]},
        prefill="g@h.org: ",
    )
    after = masking.mask_group(before, EMAIL)
    prompt = after.prompt
    assert (prompt.id, prompt.text, prompt.reference, prompt.metadata, prompt.prefill) == (
        "[email]",
        "to [email]:",
        "[email]",
        {"from": ["[email]", 1]},
        "[email]: ",
    )
    # What was prefilled counts as said: it stands in front of each completion.
    assert after.trajectories[1].completion_text == "[email]: ask [email]"
    assert "@" not in repr(after)
    restored = replace(
        after,
        prompt=before.prompt,
        trajectories=tuple(
            replace(t, completion_text=b.completion_text)
            for t, b in zip(after.trajectories, before.trajectories, strict=True)
        ),
    )
    assert restored == before


def test_half_an_address_in_the_prompt_does_not_save_the_other_half():
    """Mutation: `text` instead of `tail` for completions leaves ".com is half an address"."""
    prompt = fakes.prompt(text="write to a@b")
    before = fakes.group(Turn(epoch=0, index=0, prompt=prompt), [fakes.completion((10, 2))], said)
    (trajectory,) = masking.mask_group(before, EMAIL).trajectories
    assert trajectory.completion_text == "[email] is half an address"


def test_without_kinds_the_same_objects_come_back():
    before = group()
    score = Score(id="a", status=Status.ERROR, message="a@b.org")
    assert masking.mask_group(before, NOTHING_MASKED) is before
    assert masking.mask_score(score, NOTHING_MASKED) is score
    assert masking.mask_score(score, EMAIL).message == "[email]"


def test_a_marked_trajectory_keeps_its_words_and_loses_its_tokens():
    """Sample 1 of 3 holds an address. Mutation: splitting by group instead of by trajectory loses 0 and 2."""
    whole, masked = masking.split([masking.mask_group(group(), EMAIL)], EMAIL)
    assert [s.id for g in whole for s in g.scores] == ["0/4/0", "0/4/2"]
    assert [t.token_ids for g in whole for t in g.trajectories] == [(5, 6, 7, 8, 2)] * 2
    ((kept,),) = [g.trajectories for g in masked]
    assert (kept.completion_text, kept.token_ids, kept.action_mask, kept.logprobs) == (
        "ask [email]",
        (),
        (),
        (),
    )
    assert (masked[0].prompt.token_ids, masked[0].scores[0].id) == ((), "0/4/1")


def test_an_address_in_the_prompt_counts_for_all_its_trajectories():
    whole, masked = masking.split([masking.mask_group(group("to a@b.org:"), EMAIL)], EMAIL)
    assert whole == []
    assert [len(g.trajectories) for g in masked] == [3]


@pytest.mark.parametrize("masker", [EMAIL, NOTHING_MASKED], ids=["email", "nothing"])
def test_the_store_holds_what_can_be_learned_from_and_the_rest_beside_it(masker, tmp_path):
    masking.store([masking.mask_group(group(), masker)], tmp_path, 3, "t", masker)
    learned = [t for g in read_parquet(tmp_path) for t in g.trajectories]
    assert all(t.token_ids for t in learned)
    if masker.is_on:
        shown = [t for g in read_parquet(tmp_path / "masked") for t in g.trajectories]
        assert (len(learned), [t.completion_text for t in shown]) == (2, ["ask [email]"])
    else:
        assert len(learned) == 3
        assert not (tmp_path / "masked").exists()


def test_a_store_of_which_all_is_masked_can_be_read(tmp_path):
    masking.store([masking.mask_group(group("to a@b.org:"), EMAIL)], tmp_path, 0, "t", EMAIL)
    assert list(read_parquet(tmp_path)) == []
    assert len(list(read_parquet(tmp_path / "masked"))) == 1

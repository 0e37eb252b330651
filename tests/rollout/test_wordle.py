"""Environment, prompts, model and logged games of the Wordle benchmark."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.errors import UserError
from recipes.make_wordle import MODEL, describe, draw_words, games, store
from recipes.wordle_player import SKILLS, Chances, Lexicon, ScriptedPlayer
from reward_service.wordle_game import marks
from rollout.environments.base import Step
from rollout.environments.wordle import Game, Wordle
from rollout.models import load_config, load_model, load_tokenizer
from rollout.prompts import Split, read_source
from rollout.trajectories import read_parquet
from rollout.types import Group, Prompt

WORDS = (
    *("about", "apple", "beach", "bread", "chair", "clean", "crane", "drink", "earth", "floor"),
    *("geese", "house", "llama", "money", "robot", "slate", "speed", "stale", "table", "water"),
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wordle") / "words.txt"
    path.write_text("\n".join(WORDS))
    return path


@pytest.fixture(scope="module")
def groups(words: Path) -> list[Group]:
    return list(games(words, num_games=120, seed=0))


def prompt(answer: str | None) -> Prompt:
    return Prompt(id="wordle/x", token_ids=(32,), text=">", reference=answer)


def play(words: Path, answer: str, *guesses: str) -> list[Step]:
    environment = Wordle(Wordle.Config(words=words))
    state, steps = environment.start(prompt(answer), seed=0), []
    for guess in guesses:
        steps.append(environment.step(state, guess, is_cut=True))
        state = steps[-1].state
    return steps


def test_a_game_ends_with_the_answer(words: Path) -> None:
    steps = play(words, "apple", "crane", " Table\n", "apple")
    # table: a at its second place is another place in apple; l stands right, and so does e.
    assert [s.observation for s in steps] == ["\nBBYBG\n", "\nBYBGG\n", None]
    assert [s.is_done for s in steps] == [False, False, True]
    assert steps[-1].state == Game(answer="apple", num_guesses=3)


def test_a_game_ends_with_the_sixth_guess(words: Path) -> None:
    steps = play(words, "apple", *["crane"] * 6)
    assert [s.observation for s in steps] == ["\nBBYBG\n"] * 5 + [None]
    assert [s.is_done for s in steps] == [False] * 5 + [True]
    assert play(words, "apple", *["crane"] * 5, "apple")[-1].is_done


@pytest.mark.parametrize("guess", ["zzzzz", "", "appl", "apples", "GGGGG", "BBYBG", "app le"])
def test_what_is_no_word_of_the_list_costs_a_guess(words: Path, guess: str) -> None:
    steps = play(words, "apple", *[guess] * 6)
    assert [s.observation for s in steps] == ["\nXXXXX\n"] * 5 + [None]


def test_a_game_needs_an_answer_of_the_list(words: Path) -> None:
    environment = Wordle(Wordle.Config(words=words))
    for answer in (None, "crate"):
        with pytest.raises(UserError, match="is not in"):
            environment.start(prompt(answer), seed=0)


def read(words: Path, **options: object) -> Split:
    return read_source({"name": "wordle", "words": str(words), **options}, "data")


def test_every_word_is_an_answer_and_every_prompt_the_same(words: Path) -> None:
    split = read(words)
    assert tuple(e.reference for e in split.train) == tuple(e.reference for e in split.held_out) == WORDS
    assert {e.content for e in split.train} == {">"}
    assert len({e.id for e in split.train}) == 20


def test_words_can_be_held_out(words: Path) -> None:
    split = read(words, num_held_out=5)
    train, held_out = ({e.reference for e in part} for part in (split.train, split.held_out))
    assert (len(train), len(held_out), train | held_out) == (15, 5, set(WORDS))
    assert read(words, num_held_out=5) == split
    assert {e.reference for e in read(words, num_held_out=5, seed=1).held_out} != held_out
    with pytest.raises(UserError, match="has 20 words, and num_held_out is 20"):
        read(words, num_held_out=20)


def test_the_tokenizer_has_a_token_per_letter_and_per_colour() -> None:
    tokenizer = load_tokenizer(MODEL)
    assert tokenizer(">az\nBYGX\n").input_ids == [32, 2, 27, 28, 29, 30, 31]
    assert tokenizer.decode([32, 2, 1, 27, 28], skip_special_tokens=True) == ">azB"
    assert len(tokenizer) == load_config(MODEL).vocab_size == 33


def test_the_model_is_made_by_its_seed_alone() -> None:
    one, same, other = load_model(MODEL, 1), load_model(MODEL, 1), load_model(MODEL, 2)
    d = 128
    # Words in and out; 2 layers of 4 d² for attention, 3 x d x 2 d behind it and two norms; a norm.
    assert sum(p.numel() for p in one.parameters()) == 2 * 33 * d + 2 * (4 * d * d + 6 * d * d + 2 * d) + d
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.get_input_embeddings().weight, other.get_input_embeddings().weight)


def allowed(chances: Chances) -> dict[str, float]:
    return {WORDS[i]: float(chances[i]) for i in np.flatnonzero(chances)}


def test_characters_guess_as_they_are_said_to() -> None:
    lexicon = Lexicon(WORDS)
    crane, table = WORDS.index("crane"), WORDS.index("table")
    history = [(crane, marks("crane", "slate")), (table, marks("table", "slate"))]
    assert [said for _, said in history] == ["BBGBG", "YYBYG"]
    # No c, r and n, an a in the middle, an e at the end. Then no l where table has it, which leaves slate.
    assert allowed(lexicon.careful(history[:1])) == {"slate": 0.5, "stale": 0.5}
    assert allowed(lexicon.careful(history)) == {"slate": 1.0}
    # An a in the middle and an e at the end is all that greedy looks at.
    assert allowed(lexicon.greedy(history)) == pytest.approx(
        dict.fromkeys(["crane", "slate", "stale"], 1 / 3)
    )
    stubborn = lexicon.stubborn(history)
    assert stubborn[[crane, table]] == pytest.approx([0.25 + 0.025] * 2)
    assert stubborn.sum() == pytest.approx(1.0)
    for skill in SKILLS:
        assert getattr(lexicon, skill)([]) == pytest.approx(np.full(20, 0.05))


def test_the_chances_of_letters_multiply_to_that_of_the_word() -> None:
    lexicon = Lexicon(WORDS)
    even = np.full(20, 0.05)
    # s begins 3 of 20 words: slate, speed, stale; t is the second letter of one of them.
    assert lexicon.letter_chances(WORDS.index("stale"), even) == pytest.approx([3 / 20, 1 / 3, 1, 1, 1])
    uneven = np.arange(1.0, 21.0) / 210
    for word in range(20):
        assert math.prod(lexicon.letter_chances(word, uneven)) == pytest.approx(uneven[word])


def test_an_onlooker_learns_the_character_from_the_guesses() -> None:
    """The bets on the second guess, by hand: repeating the first is explained by stubbornness alone."""
    lexicon = Lexicon(WORDS)
    player = ScriptedPlayer(lexicon, np.random.default_rng(0))
    crane, said = WORDS.index("crane"), marks("crane", "slate")
    player.hear(crane, said)
    _, chances = player.guess()
    shares = dict(SKILLS)
    expected = sum(shares[s] * getattr(lexicon, s)([(crane, said)]) for s in shares)
    assert chances == pytest.approx(expected)
    # All explain the first guess alike; greedy and stubborn might say it again, careful would not.
    player.hear(crane, said)
    again = {s: shares[s] * getattr(lexicon, s)([(crane, said)])[crane] for s in shares}
    total = sum(again.values())
    assert again["careful"] == 0.0
    _, chances = player.guess()
    history = [(crane, said)] * 2
    assert chances == pytest.approx(sum(again[s] / total * getattr(lexicon, s)(history) for s in shares))


def test_logged_games_are_groups_as_if_the_player_had_been_a_policy(
    groups: list[Group], words: Path, tmp_path: Path
) -> None:
    environment = Wordle(Wordle.Config(words=words))
    tokenizer = load_tokenizer(MODEL)
    for group in groups:
        (played,) = group.trajectories
        answer = group.prompt.reference or ""
        state, guesses = environment.start(group.prompt, seed=0), []
        text = tokenizer.decode(played.token_ids[1:])
        for turn in range(0, len(text), 10):
            guesses.append(text[turn : turn + 5])
            step = environment.step(state, guesses[-1], is_cut=True)
            state = step.state
            assert text[turn + 5 : turn + 10] == (step.observation or "").strip()
        assert set(guesses) <= set(WORDS)
        assert played.finish_reason == "stop"
        assert played.action_mask == (False, *((True,) * 5 + (False,) * 5) * (len(guesses) - 1), *(True,) * 5)
        assert all(p <= 0.0 for p in played.logprobs)
        value = 1 - len(guesses) if guesses[-1] == answer else -6
        assert (group.scores[0].value, dict(group.scores[0].parts)) == (value, {"wordle": value})
        # The first guess of every character is any word.
        first = [p for p, m in zip(played.logprobs, played.action_mask, strict=True) if m][:5]
        assert sum(first) == pytest.approx(math.log(1 / 20))
    store(groups, tmp_path)
    assert list(read_parquet(tmp_path / "trajectories")) == groups


def test_the_logprobs_of_a_game_are_the_bets_of_somebody_who_watches_it(groups: list[Group]) -> None:
    lexicon = Lexicon(WORDS)
    for group in groups:
        (played,) = group.trajectories
        onlooker = ScriptedPlayer(lexicon, np.random.default_rng(99))
        text = played.completion_text
        for turn in range(0, len(text), 10):
            guess = WORDS.index(text[turn : turn + 5])
            _, chances = onlooker.guess()
            # One token before the first letter, the sign >.
            assert sum(played.logprobs[turn + 1 : turn + 6]) == pytest.approx(math.log(chances[guess]))
            if turn + 5 < len(text):
                onlooker.hear(guess, text[turn + 5 : turn + 10])


def test_the_games_are_of_mixed_skill_and_the_same_every_time(groups: list[Group], words: Path) -> None:
    scores = [group.scores[0].value for group in groups]
    assert {-6.0, -1.0, -2.0, -3.0} <= set(scores)
    assert len({group.prompt.reference for group in groups}) > 10
    assert list(games(words, num_games=3, seed=0)) == groups[:3]
    assert list(games(words, num_games=3, seed=1)) != groups[:3]
    won = sum(score > -6 for score in scores if score is not None) / len(scores)
    assert describe(groups).startswith(f"{won:.1%} won")


def test_no_game_is_about_a_word_that_is_held_out(words: Path) -> None:
    held_out = {e.reference for e in read(words, num_held_out=8).held_out}
    played = list(games(words, num_games=40, seed=0, num_held_out=8))
    assert not held_out & {group.prompt.reference for group in played}
    # But they are guessed.
    assert any(word in group.trajectories[0].completion_text for group in played for word in held_out)


def test_words_are_drawn_out_of_a_dictionary_by_seed(tmp_path: Path) -> None:
    dictionary = tmp_path / "dictionary"
    dictionary.write_text("\n".join([*WORDS, "Paris", "cats", "don't", "crème", "longer"]))
    drawn = draw_words(dictionary, 8, seed=0)
    assert (len(set(drawn)), sorted(drawn)) == (8, drawn)
    assert set(drawn) <= set(WORDS)
    assert draw_words(dictionary, 8, seed=0) == drawn != draw_words(dictionary, 8, seed=1)
    with pytest.raises(UserError, match="has 20 words of five small letters, 21 were asked for"):
        draw_words(dictionary, 21, seed=0)
    with pytest.raises(UserError, match="cannot be read") as caught:
        draw_words(tmp_path / "absent", 1, seed=0)
    assert "wamerican-small" in caught.value.remedy

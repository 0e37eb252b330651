"""Makes the words and the logged games of recipes/wordle_*.yaml: a list, and a store of trajectories.

    apt-get install wamerican-small        # or unpack it somewhere: dpkg -x wamerican-small_*.deb .
    python -m recipes.make_wordle --dictionary /usr/share/dict/american-english-small

The words are drawn from the dictionary's, by seed. The games are those of a scripted player of mixed skill
(wordle_player.py), with the exact probability of every letter, and scored by the component `wordle`. The
store has the form that every run leaves behind.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from antiphon.errors import UserError
from antiphon.seeds import derive
from recipes.wordle_player import Lexicon, ScriptedPlayer
from reward_service.components import wordle as component
from reward_service.types import Score, Status
from reward_service.wordle_game import NUM_GUESSES, WORD, read_words
from rollout import environment as stages
from rollout.encoding import Encoder, EncodingConfig
from rollout.environments.wordle import Wordle
from rollout.fingerprint import fingerprint
from rollout.models import ModelConfig, load_config, load_tokenizer, max_context
from rollout.sources import wordle as source
from rollout.trajectories import write_parquet
from rollout.types import Completion, Group, Trajectory, Turn

MODEL = ModelConfig(name="llama-wordle")
WORDS = "words.txt"
NUM_WORDS, NUM_GAMES = 25, 10_000
REWARD = component.Wordle(component.Wordle.Config())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dictionary", type=Path, default=Path("/usr/share/dict/words"))
    parser.add_argument("--num-words", type=int, default=NUM_WORDS)
    parser.add_argument("--num-games", type=int, default=NUM_GAMES)
    parser.add_argument("--num-held-out", type=int, default=0, help="answers, as data.num_held_out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("data/wordle"), help="the folder to write")
    options = parser.parse_args()
    try:
        words = draw_words(options.dictionary, options.num_words, options.seed)
        path = write_words(words, options.out)
        groups = list(games(path, options.num_games, options.seed, options.num_held_out))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    store(groups, options.out)
    print(f"{len(words)} words, {len(groups)} games in {options.out}: {describe(groups)}")
    return 0


def draw_words(dictionary: Path, num_words: int, seed: int) -> list[str]:
    """Words of five small letters out of a dictionary, in the order of the alphabet.

    Raises:
        UserError: it cannot be read, or has too few.
    """
    try:
        lines = dictionary.read_text(errors="replace").split()
    except OSError as error:
        raise UserError(
            f"the dictionary {dictionary} cannot be read: {error.strerror}",
            remedy="install one (apt-get install wamerican-small), or name another with --dictionary",
        ) from None
    fitting = sorted({line for line in lines if WORD.fullmatch(line)})
    if len(fitting) < num_words:
        raise UserError(
            f"{dictionary} has {len(fitting)} words of five small letters, {num_words} were asked for",
            remedy="set --num-words lower",
        )
    return sorted(random.Random(derive(seed, "words")).sample(fitting, num_words))


def write_words(words: Sequence[str], folder: Path) -> Path:
    """The list as the environment reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WORDS
    path.write_text("".join(f"{word}\n" for word in words))
    return path


def store(groups: Sequence[Group], folder: Path) -> Path:
    """Write the games as a run would that had played them; returns the file."""
    return write_parquet(groups, folder / "trajectories", 0, fingerprint(load_tokenizer(MODEL)))


def describe(groups: Sequence[Group]) -> str:
    """How good the games are."""
    scores = [group.scores[0].value or 0.0 for group in groups]
    won_share = statistics.fmean(score > -NUM_GUESSES for score in scores)
    return f"{won_share:.1%} won, mean score {statistics.fmean(scores):.3f}"


def games(path: Path, num_games: int, seed: int, num_held_out: int = 0) -> Iterator[Group]:
    """Games of a scripted player, each as a group that was played and scored; the answers are training words.

    Raises:
        UserError: no such list of words.
    """
    split = source.Wordle(source.Wordle.Config(words=path, num_held_out=num_held_out)).examples()
    world, lexicon = Wordle(Wordle.Config(words=path)), Lexicon(read_words(path))
    encoder = Encoder(
        EncodingConfig(),
        load_tokenizer(MODEL),
        context_length=max_context(load_config(MODEL)),
        max_new_tokens=world.max_tokens(0),
    )
    for number in range(num_games):
        draw = np.random.default_rng(derive(seed, "game", number))
        prompt = encoder.encode(split.train[draw.integers(len(split.train))])
        turn = Turn(epoch=0, index=number, prompt=prompt)
        played = play(turn, world, ScriptedPlayer(lexicon, draw), lexicon, encoder)
        (sample,) = stages.samples(turn, [played])
        value = REWARD.score_one(sample)
        score = Score(id=sample.id, status=Status.OK, value=value, parts={REWARD.name: value})
        yield stages.group(turn, [played], [score], policy_version=0)


def play(turn: Turn, world: Wordle, player: ScriptedPlayer, lexicon: Lexicon, encoder: Encoder) -> Trajectory:
    """One game."""
    state = world.start(turn.prompt, seed=0)
    completions: list[Completion] = []
    observations: list[tuple[int, ...]] = []
    while True:
        guess, chances = player.guess()
        word = lexicon.words[guess]
        completions.append(_completion(word, lexicon.letter_chances(guess, chances), encoder))
        step = world.step(state, word, is_cut=True)
        state = step.state
        if step.observation is None:
            return stages.dialogue(turn.prompt, completions, observations, "stop", encoder.decode)
        observations.append(encoder.observation_ids(step.observation, completions[-1].token_ids[-1]))
        player.hear(guess, step.observation.strip())


def _completion(word: str, chances: Sequence[float], encoder: Encoder) -> Completion:
    """A guess, letter by letter."""
    return Completion(
        token_ids=encoder.target_ids(word)[:-1],
        logprobs=tuple(math.log(chance) for chance in chances),
        finish_reason="length",
        policy_version_min=0,
        policy_version_max=0,
    )


if __name__ == "__main__":
    sys.exit(main())

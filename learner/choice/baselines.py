"""How well rules that learn nothing would choose. A model that is no better has learned nothing, either.

Called once, at the end of a run. All of them share evenly between candidates that they cannot tell apart.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

import torch

from learner.choice.measure import accuracy
from learner.choice.table import ChoiceTable, Texts
from learner.choice.transitions import Choice, Transition
from learner.functional.choice import policy

Rule = Callable[[str, str], float]
"""(state, action) -> how much the rule likes it."""


def baselines(choices: Sequence[Choice], transitions: Sequence[Transition]) -> dict[str, float]:
    """The accuracy of each rule.

    chance            any candidate
    longest, shortest by characters
    shared_words      cosine of the words of state and candidate, each counted by its rarity (tf-idf)
    state_blind       the candidate that brought most reward in training, whatever the state

    Args:
        choices: what the model is measured on.
        transitions: what it was trained on.
    """
    rules: dict[str, Rule] = {
        "chance": lambda state, action: 0.0,
        "longest": lambda state, action: len(action),
        "shortest": lambda state, action: -len(action),
        "shared_words": word_cosine([t for c in choices for t in (c.state, *c.actions)]),
        "state_blind": mean_reward(transitions),
    }
    return {name: accuracy_of(rule, choices) for name, rule in rules.items()}


def accuracy_of(rule: Rule, choices: Sequence[Choice]) -> float:
    """How often the candidate that the rule likes best is one of the highest worth."""
    table = ChoiceTable.of(choices, Texts())
    liking = torch.zeros(table.values.shape, dtype=torch.float64)
    liking[table.is_there] = torch.tensor(
        [rule(c.state, a) for c in choices for a in c.actions], dtype=torch.float64
    )
    return accuracy(policy(liking, table.is_there, 0.0, 0.0), table)


def word_cosine(texts: Sequence[str]) -> Rule:
    """cos of the vectors tf(w) · ln(N / n_w): tf of a text's words; n_w of the N texts have the word."""
    different = set(texts)
    num_texts_with = Counter(word for text in different for word in set(_words(text)))
    vectors = {
        text: {w: n * math.log(len(different) / num_texts_with[w]) for w, n in Counter(_words(text)).items()}
        for text in different
    }

    def cosine(state: str, action: str) -> float:
        s, a = vectors[state], vectors[action]
        size = math.hypot(*s.values()) * math.hypot(*a.values())
        # Rounded: equal texts must tie, in whatever order their words are added.
        return round(sum(s[w] * a[w] for w in s.keys() & a.keys()) / size, 12) if size > 0.0 else 0.0

    return cosine


def mean_reward(transitions: Sequence[Transition]) -> Rule:
    """The mean reward of the action in training; of one that never occurred, that of all actions."""
    of_action: defaultdict[str, list[float]] = defaultdict(list)
    for t in transitions:
        of_action[t.actions[t.taken]].append(t.reward)
    of_all = fmean(t.reward for t in transitions)
    means = {action: fmean(rewards) for action, rewards in of_action.items()}
    return lambda state, action: means.get(action, of_all)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())

"""Finds in a text what it claims: the places where a template of a relation fits.

    "Paris is the capital of France."   template "{tail} is the capital of {head}"
     -> the claim (France, capital, Paris)

For the component knowledge_graph. Nothing is parsed and nothing learned: a claim is found if and only if the
words of a template stand in the text one after the other, each slot filled by the longest name there. What
is said otherwise is not seen, negations among it ("is not the capital of" is another wording).
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import product
from typing import NamedTuple

from reward_service.knowledge.graph import Graph, Triple
from reward_service.knowledge.words import Names, words_of

HEAD, TAIL = "{head}", "{tail}"
ARTICLES = frozenset({"the", "a", "an"})

Mention = tuple[Collection[str], int]
"""What a name may stand for, and the place after it."""


class Template(NamedTuple):
    """Words and the two slots, each slot once."""

    relation: str
    items: tuple[str, ...]


class Reader:
    """Reads texts by the names and templates of one graph."""

    def __init__(self, graph: Graph, ignored: Collection[str] = ARTICLES) -> None:
        """`ignored`: words that do not count in names, templates and texts.

        Raises:
            ValueError: a template without exactly one {head} and one {tail}, or without a word.
        """
        self._ignored = frozenset(words_of(" ".join(ignored)))
        self._names = Names()
        for entity, names in graph.entity_names.items():
            for name in names:
                # "The The" is nothing but ignored words; such a name is kept as it is.
                self._names.add(words_of(name, self._ignored) or words_of(name) or [name], entity)
        self._by_first: dict[str, list[Template]] = defaultdict(list)
        for relation, wordings in graph.templates.items():
            for wording in wordings:
                items = template_items(wording, self._ignored)
                self._by_first[items[0]].append(Template(relation, items))

    def entities(self, text: str) -> list[Collection[str]]:
        """What the names in a text may stand for, from left to right, without overlaps."""
        words, found, place = words_of(text, self._ignored), [], 0
        while place < len(words):
            mention = self._names.longest(words, place)
            if mention is not None:
                found.append(mention[0])
            place = place + 1 if mention is None else mention[1]
        return found

    def claims(self, text: str) -> set[frozenset[Triple]]:
        """The claims of a text, each as all that it may mean; one that is repeated counts once.

        Templates that fit the same two names are wordings of one claim: all of them are readings of it.
        """
        words = words_of(text, self._ignored)
        mentions = [self._names.longest(words, place) for place in range(len(words))]
        readings: dict[tuple[int, int], set[Triple]] = defaultdict(set)
        for place, mention in enumerate(mentions):
            begins_with = [words[place]] + ([HEAD, TAIL] if mention else [])
            for template in (t for first in begins_with for t in self._by_first.get(first, ())):
                slots = _fit(template.items, words, mentions, place)
                if slots is not None:
                    head, tail = slots[HEAD], slots[TAIL]
                    meanings = product(mentions[head][0], [template.relation], mentions[tail][0])  # type: ignore[index]
                    readings[head, tail].update(Triple(*m) for m in meanings)
        return {frozenset(meanings) for meanings in readings.values()}


def _fit(
    items: Sequence[str], words: Sequence[str], mentions: Sequence[Mention | None], place: int
) -> dict[str, int] | None:
    """Where the slots of a template lie if it fits at `place`; None if it does not."""
    slots: dict[str, int] = {}
    for item in items:
        if place >= len(words):
            return None
        if item in (HEAD, TAIL):
            mention = mentions[place]
            if mention is None:
                return None
            slots[item], place = place, mention[1]
        elif words[place] == item:
            place += 1
        else:
            return None
    return slots


def template_items(wording: str, ignored: Collection[str] = frozenset()) -> tuple[str, ...]:
    """The words and slots of "{tail} is the capital of {head}".

    Raises:
        ValueError: not exactly one {head} and one {tail}, or no word that says what is claimed.
    """
    if wording.count(HEAD) != 1 or wording.count(TAIL) != 1:
        raise ValueError(f"the template {wording!r} needs {HEAD} and {TAIL}, each once")
    first, second = sorted((HEAD, TAIL), key=wording.index)
    before, rest = wording.split(first)
    between, after = rest.split(second)
    ignored = frozenset(ignored)
    parts = [words_of(part, ignored) for part in (before, between, after)]
    if not any(parts):
        raise ValueError(f"the template {wording!r} has no word that counts")
    return (*parts[0], first, *parts[1], second, *parts[2])

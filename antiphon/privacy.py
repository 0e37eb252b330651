"""The `privacy:` section of a recipe, and the masker that it makes: personal data in texts becomes words like
[email].

Called where a text is about to be kept or shown: trajectories, events, alarms, postmortems, ratings, logs. It
knows texts only; what becomes of the token ids of a masked text is said in rollout/masking.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from antiphon.errors import UserError, suggestion
from antiphon.personal_data import FINDERS, Finder, Span, phones
from antiphon.plugins import by_import_path
from antiphon.settings import Settings


class PrivacyConfig(Settings):
    """What must not be kept in words. It is about texts for people, and changes nothing that is learned."""

    mask: tuple[str, ...] = ()
    """Kinds of personal data: email, phone (needs antiphon[privacy]), card, iban, ip, key (of services); or
    `package.module:function`, which is given a text and returns the (start, end) of what to mask. Empty:
    texts stay as they are."""
    regions: tuple[str, ...] = Field(("US",), min_length=1)
    """Countries whose phone numbers are known without the +, as two letters (ISO 3166). Each costs time, and
    finds numbers that are no phone's."""


class Masker:
    """Puts a word in place of each span that one of its finders finds.

    Example:
        >>> Masker({"email": emails}).text("ask a@b.org")
        'ask [email]'
    """

    def __init__(self, finders: Mapping[str, Finder]) -> None:
        """By the word that stands for what they find."""
        self._finders = dict(finders)
        self._marks = tuple(f"[{name}]" for name in self._finders)

    @property
    def is_on(self) -> bool:
        return bool(self._finders)

    def text(self, text: str) -> str:
        """The text without personal data. Masking it again changes nothing."""
        return self.tail("", text)

    def tail(self, head: str, text: str) -> str:
        """The text as it stands behind `head`: what begins there and ends here is masked here too."""
        start = len(head)
        parts, done = [], 0
        for begin, end, name in _joined(self._spans(head + text)):
            if end > start:
                parts += [text[done : max(begin - start, 0)], f"[{name}]"]
                done = end - start
        return "".join([*parts, text[done:]])

    def tree(self, value: Any) -> Any:
        """Nested dicts and lists with all texts masked, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.tree(key): self.tree(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self.tree, value)) if type(value) in (list, tuple) else value
        return value

    def has_marked(self, text: str) -> bool:
        """Whether something in the text was masked, or reads as if it were."""
        return any(mark in text for mark in self._marks)

    def _spans(self, text: str) -> Iterable[tuple[int, int, str]]:
        for name, find in self._finders.items():
            for begin, end in find(text):
                yield begin, end, name


NOTHING_MASKED = Masker({})


def build_masker(config: PrivacyConfig) -> Masker:
    """
    Raises:
        UserError: an unknown kind, a function that cannot be imported, or a missing package.
    """
    return Masker(dict(_finder(kind, config) for kind in config.mask))


def _finder(kind: str, config: PrivacyConfig) -> tuple[str, Finder]:
    """The word of a kind, and what finds it."""
    if ":" in kind:
        return kind.rpartition(":")[2], _outside(by_import_path(kind), kind)
    if kind == "phone":
        return kind, phones(config.regions)
    if kind not in FINDERS:
        known = [*FINDERS, "phone"]
        raise UserError(f"privacy.mask {kind!r} is no kind of data", remedy=suggestion(kind, known))
    return kind, FINDERS[kind]


def _outside(found: Callable[[str], Sequence[Span]], path: str) -> Finder:
    """Somebody's function, which must not leave a span out of the text unnoticed."""
    if not callable(found):
        raise UserError(f"privacy.mask {path!r} is no function", remedy="give a function of one text")

    def find(text: str) -> Iterable[Span]:
        for begin, end in found(text):
            if not 0 <= begin <= end <= len(text):
                raise ValueError(f"{path} found {(begin, end)} in a text of {len(text)} characters")
            yield begin, end

    return find


def _joined(spans: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """In order; those that overlap are one, named like the first of them, or of two the longer."""
    joined: list[tuple[int, int, str]] = []
    for begin, end, name in sorted(spans, key=lambda s: (s[0], -s[1])):
        if joined and begin < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]), joined[-1][2])
        elif end > begin:
            joined.append((begin, end, name))
    return joined

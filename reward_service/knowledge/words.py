"""Texts as words, and the longest known name at a place among them.

For claims.py. Knows no graph.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence, Set
from typing import Any

BREAK = "\n"
"""A word of its own between sentences, which no name or template contains."""
# Chinese and Japanese have no spaces: each of their characters is a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+|[.!?;:](?=\s)|[\n。！？]")


def words_of(text: str, ignored: Set[str] = frozenset()) -> list[str]:
    """The words of a text: compatibility forms and case folded, punctuation left out, sentences apart.

    A sentence ends at a line end, and at one of .!?;: before white space. Ignored words are left out.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = (BREAK if not w[0].isalnum() else w for w in WORD.findall(folded))
    return [w for w in words if w not in ignored]


class Names:
    """A set of names, each of one or more words, with what they stand for."""

    def __init__(self) -> None:
        self._root: dict[Any, Any] = {}

    def add(self, name: Sequence[str], meaning: str) -> None:
        """Raises ValueError for a name without words."""
        if not name:
            raise ValueError("a name needs at least one word")
        node = self._root
        for word in name:
            node = node.setdefault(word, {})
        node.setdefault(BREAK, set()).add(meaning)

    def longest(self, words: Sequence[str], start: int) -> tuple[Collection[str], int] | None:
        """What the longest name that begins at `start` may stand for, and where it ends; None: no name."""
        found, node = None, self._root
        for end in range(start, len(words) + 1):
            if BREAK in node:
                found = frozenset(node[BREAK]), end
            if end == len(words) or words[end] == BREAK or words[end] not in node:
                break
            node = node[words[end]]
        return found

"""A knowledge graph, and its verdict on a claim.

Read by files.py, asked by the component knowledge_graph. Knows no file formats and no texts.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Set
from enum import Enum
from typing import NamedTuple


class Triple(NamedTuple):
    """That the head stands in the relation to the tail: (France, capital, Paris)."""

    head: str
    relation: str
    tail: str


class Verdict(Enum):
    """What the graph says about a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNKNOWN = "unknown"


class Graph:
    """Triples, the names of their entities, and the templates of their relations.

    A relation is functional if a head has it to at most one tail, as a country has one capital: then the
    graph, which is never complete, can contradict as well as support.
    """

    def __init__(
        self,
        triples: Collection[Triple],
        *,
        entity_names: Mapping[str, Collection[str]],
        templates: Mapping[str, Collection[str]],
        functional: Collection[str] = (),
    ) -> None:
        """Args:
        entity_names: how texts may call each entity.
        templates: how texts may state each relation, as in "{tail} is the capital of {head}".
        """
        self.triples = frozenset(triples)
        self.entity_names = entity_names
        self.templates = templates
        self.functional = frozenset(functional)
        self._known = {(t.head, t.relation) for t in self.triples}
        self._neighbours: dict[str, set[str]] = defaultdict(set)
        for triple in self.triples:
            self._neighbours[triple.head].add(triple.tail)
            self._neighbours[triple.tail].add(triple.head)

    def verdict(self, readings: Collection[Triple]) -> Verdict:
        """On a claim, given all that its words may mean: names can stand for several entities.

        One supported reading supports it. It is contradicted only if every reading is: the relation is
        functional, and the graph has it from that head to another tail. Else the graph does not know.
        """
        if any(r in self.triples for r in readings):
            return Verdict.SUPPORTED
        is_wrong = readings and all(
            r.relation in self.functional and (r.head, r.relation) in self._known for r in readings
        )
        return Verdict.CONTRADICTED if is_wrong else Verdict.UNKNOWN

    def are_linked(self, entities: Set[str], others: Set[str]) -> bool:
        """Whether a triple connects one of the entities with one of the others, in either direction."""
        return any(not others.isdisjoint(self._neighbours.get(e, ())) for e in entities)

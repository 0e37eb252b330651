"""Does the completion agree with a knowledge graph?"""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from antiphon.settings import Settings
from reward_service.knowledge.claims import ARTICLES, Reader
from reward_service.knowledge.files import FORMATS, read_graph
from reward_service.knowledge.graph import Graph, Triple, Verdict
from reward_service.knowledge.rdf import RDF_FORMATS
from reward_service.optional import existing_file, require
from reward_service.reward import Reward
from reward_service.types import Sample


class KnowledgeGraph(Reward):
    """Rewards claims that the graph supports, punishes those that it contradicts, ignores all others.

        score = min(1, (S + w E) / wanted) - penalty * C, never below -1

    S and C are the numbers of different supported and contradicted claims of the completion, E that of
    entities it adds to the prompt's and the graph connects with them. docs/knowledge_graphs.md says what
    a claim is, to the word.
    """

    name = "knowledge_graph"
    range = (-1.0, 1.0)

    class Config(Settings):
        path: Path
        """The graph: .tsv or .csv with the columns head, relation, tail; or RDF, .ttl, .nt, .rdf or .xml."""
        aliases: Path | None = None
        """Further names, TSV: an entity or relation, and another name of it; for a relation also a template
        such as "{tail} is the capital of {head}"."""
        functional: tuple[str, ...] = ()
        """Relations of which a head has at most one, such as capital: only they can contradict."""
        wanted: int = Field(1, ge=1)
        """How many supported claims earn the full 1; more earn no more."""
        penalty: float = Field(1.0, ge=0.0, allow_inf_nan=False)
        """What each contradicted claim costs."""
        entity_weight: float = Field(0.0, ge=0.0, allow_inf_nan=False)
        """What naming a connected entity counts, in supported claims; for prompts that are answered by a
        name alone."""
        is_about_prompt: bool = False
        """Only claims with an entity that the prompt names earn anything, so that reciting the graph does
        not pay. Contradictions always cost."""
        ignored_words: tuple[str, ...] = tuple(sorted(ARTICLES))
        """Words that do not count in names, templates and texts."""

        @field_validator("path")
        @classmethod
        def _format_is_known(cls, path: Path) -> Path:
            if path.suffix not in FORMATS:
                raise ValueError(f"the file must end in one of {', '.join(FORMATS)}")
            return path

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._path = existing_file(config.path, "path of the component knowledge_graph")
        self._aliases = config.aliases and existing_file(
            config.aliases, "aliases of the component knowledge_graph"
        )
        if config.path.suffix in RDF_FORMATS:
            require("rdflib", self.name)
        self._graph: Graph
        self._reader: Reader

    def start(self) -> None:
        ignored = self.config.ignored_words
        self._graph = read_graph(self._path, self._aliases, self.config.functional, ignored)
        self._reader = Reader(self._graph, ignored)

    def score_one(self, sample: Sample) -> float:
        verdicts = [(c, self._graph.verdict(c)) for c in self._reader.claims(sample.completion)]
        num_wrong = sum(verdict is Verdict.CONTRADICTED for _, verdict in verdicts)
        asked = {e for meanings in self._reader.entities(sample.prompt) for e in meanings}
        supported = {min(c & self._graph.triples) for c, verdict in verdicts if verdict is Verdict.SUPPORTED}
        earned = [t for t in supported if not self.config.is_about_prompt or _names_one_of(t, asked)]
        credit = len(earned) + self.config.entity_weight * self._num_linked(sample.completion, asked)
        return max(-1.0, min(1.0, credit / self.config.wanted) - self.config.penalty * num_wrong)

    def _num_linked(self, completion: str, asked: set[str]) -> int:
        """How many different entities the completion adds that the graph connects with the prompt's."""
        named = {frozenset(meanings) for meanings in self._reader.entities(completion)}
        return sum(
            meanings.isdisjoint(asked) and self._graph.are_linked(meanings, asked) for meanings in named
        )


def _names_one_of(triple: Triple, entities: Any) -> bool:
    return triple.head in entities or triple.tail in entities

"""Graphs from files: tables of triples (TSV, CSV) and RDF (Turtle, N-Triples, RDF/XML), and aliases.

Called by the component knowledge_graph when it starts. rdflib is needed for RDF only.
"""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from antiphon.errors import UserError, suggestion
from reward_service.knowledge.claims import HEAD, TAIL, template_items
from reward_service.knowledge.graph import Graph, Triple
from reward_service.knowledge.rdf import RDF_FORMATS, read_rdf
from reward_service.knowledge.words import words_of

TABLES = {".tsv": "\t", ".csv": ","}
HEADER = ["head", "relation", "tail"]
FORMATS = tuple(sorted([*TABLES, *RDF_FORMATS]))


def read_graph(
    path: Path, aliases: Path | None, functional: Collection[str], ignored: Collection[str] = ()
) -> Graph:
    """The graph of a file, with further names from a second one.

    Args:
        aliases: TSV of two columns: an entity or relation as the graph calls it, and another name or, for a
            relation, a template.
        functional: relations of which a head has at most one, besides those that an RDF file declares.
        ignored: words that do not count; a relation's name must have others to be looked for.

    Raises:
        UserError: a file that cannot be read, or an alias or functional relation that the graph lacks.
    """
    triples, names, declared = _read_table(path) if path.suffix in TABLES else read_rdf(path)
    if not triples:
        raise UserError(f"{path} contains no triple", remedy="give a file with one")
    entities = {name for t in triples for name in (t.head, t.tail)}
    relations = {t.relation for t in triples}
    wordings = {known: set(names.get(known) or [known]) for known in entities | relations}
    for known, alias in _read_aliases(aliases, wordings, relations, ignored):
        wordings[known].add(alias)
    for relation in functional:
        if relation not in relations:
            raise UserError(f"{path} has no relation {relation!r}", remedy=suggestion(relation, relations))
    return Graph(
        triples,
        entity_names={e: [n for n in sorted(wordings[e]) if words_of(n)] for e in entities},
        templates={r: [t for n in sorted(wordings[r]) if (t := _template(n, ignored))] for r in relations},
        functional={*functional, *(declared & relations)},
    )


def _template(name: str, ignored: Collection[str]) -> str | None:
    """How a text states a relation of that name; None for a name without words that count."""
    if HEAD in name or TAIL in name:
        return name
    return f"{HEAD} {name} {TAIL}" if words_of(name, frozenset(ignored)) else None


def _rows(path: Path, delimiter: str, num_columns: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with their line numbers; empty lines and those that begin with # left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}", remedy="convert the file") from None
    for number, line in enumerate(lines, start=1):
        row = next(csv.reader([line]), []) if delimiter == "," else line.split(delimiter)
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) != num_columns or not all(cells):
            raise UserError(
                f"{path}, line {number}: {num_columns} columns are wanted, none of them empty, got {cells}",
                remedy=f"separate the columns by {'commas' if delimiter == ',' else 'tabs'}",
            )
        yield number, cells


def _read_table(path: Path) -> tuple[set[Triple], dict[str, set[str]], frozenset[str]]:
    """As of `read_rdf`; a table has no further names and declares nothing."""
    rows = _rows(path, TABLES[path.suffix], num_columns=3)
    triples = {Triple(*cells) for _, cells in rows if [c.lower() for c in cells] != HEADER}
    return triples, {}, frozenset()


def _read_aliases(
    path: Path | None,
    wordings: Mapping[str, Collection[str]],
    relations: Collection[str],
    ignored: Collection[str],
) -> Iterator[tuple[str, str]]:
    """Pairs of what the graph calls it, and how else it may be called."""
    if path is None:
        return
    by_name = defaultdict(set)
    for known, names in wordings.items():
        for name in (known, *names):
            by_name[name].add(known)
    for line, (name, alias) in _rows(path, "\t", num_columns=2):
        if name not in by_name:
            raise UserError(
                f"{path}, line {line}: the graph has no {name!r}", remedy=suggestion(name, by_name)
            )
        for known in sorted(by_name[name]):
            if HEAD in alias or TAIL in alias:
                _check_template(alias, ignored, f"{path}, line {line}", is_relation=known in relations)
            yield known, alias


def _check_template(alias: str, ignored: Collection[str], where: str, is_relation: bool) -> None:
    try:
        template_items(alias, ignored)
    except ValueError as error:
        raise UserError(f"{where}: {error}", remedy="correct the template") from None
    if not is_relation:
        raise UserError(f"{where}: an entity has a template", remedy="only relations can have one")

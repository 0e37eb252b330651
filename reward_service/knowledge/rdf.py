"""Triples, names and functional relations of an RDF file, by rdflib.

For files.py. Labels (rdfs:label, skos:prefLabel, skos:altLabel) are names; statements about the vocabulary
itself are left out.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from antiphon.errors import UserError
from reward_service.knowledge.graph import Triple
from reward_service.optional import imported

RDF_FORMATS = {".ttl": "turtle", ".nt": "nt", ".rdf": "xml", ".xml": "xml"}
CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def read_rdf(path: Path) -> tuple[set[Triple], dict[str, set[str]], frozenset[str]]:
    """The triples of a file, the names of their terms, and the relations that OWL calls functional.

    Raises:
        UserError: rdflib is not installed, or cannot read the file.
    """
    rdflib = imported("rdflib", "knowledge_graph")
    statements = rdflib.Graph()
    try:
        statements.parse(path, format=RDF_FORMATS[path.suffix])
    except Exception as error:  # Each of rdflib's parsers raises errors of its own.
        raise UserError(
            f"{path} is no {RDF_FORMATS[path.suffix]}: {error}", remedy="correct the file or its ending"
        ) from error
    labels = {rdflib.RDFS.label, rdflib.SKOS.prefLabel, rdflib.SKOS.altLabel}
    vocabulary = tuple(str(space) for space in (rdflib.RDF, rdflib.RDFS, rdflib.OWL))
    triples, names = set[Triple](), defaultdict[str, set[str]](set)
    for head, relation, tail in statements:
        if relation in labels:
            names[str(head)].add(str(tail))
        elif not any(str(term).startswith(vocabulary) for term in (head, tail)) and not _is_about(relation):
            triples.add(Triple(str(head), str(relation), str(tail)))
            for term in (head, relation, tail):
                names[str(term)].add(local_name(term, rdflib))
    functional = statements.subjects(rdflib.RDF.type, rdflib.OWL.FunctionalProperty)
    return triples, names, frozenset(str(term) for term in functional)


def _is_about(relation: Any) -> bool:
    """Whether a relation describes the vocabulary: all of rdfs: and owl:, such as rdfs:domain."""
    return str(relation).startswith(
        ("http://www.w3.org/2000/01/rdf-schema#", "http://www.w3.org/2002/07/owl#")
    )


def local_name(term: Any, rdflib: Any) -> str:
    """The words in the last part of an address: ".../isCapitalOf" is "is Capital Of"."""
    if not isinstance(term, rdflib.URIRef):
        return str(term)
    last = re.split(r"[/#]", unquote(str(term)).rstrip("/#"))[-1]
    return CAMEL_HUMP.sub(" ", last.replace("_", " "))

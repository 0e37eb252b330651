"""What a graph says of a completion: which words are a claim, what is contradicted, and from which files."""

from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import UserError
from reward_service.knowledge.claims import Reader, template_items
from reward_service.knowledge.graph import Graph, Triple, Verdict
from reward_service.knowledge.words import BREAK, Names, words_of
from tests.reward_service.fakes_rewards import judge, sample, value

DATA = Path(__file__).parent / "data"
COUNTRIES = {
    "path": str(DATA / "countries.tsv"),
    "aliases": str(DATA / "countries_aliases.tsv"),
    "functional": ["capital", "continent"],
}
RDF = {"path": str(DATA / "countries.ttl")}


def agreement(completion: str, prompt: str = "", **options: Any) -> float | None:
    return judge("knowledge_graph", sample(completion, prompt=prompt), **{**COUNTRIES, **options})[0].value


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("Paris is the capital of France.", 1.0),
        ("the  CAPITAL of\tfrance is paris", 1.0),
        ("I think that the capital of the USA is Washington, as you know.", 1.0),
        ("France borders Germany", 1.0),
        ("Berlin is the capital of France.", -1.0),
        # In the graph borders is not functional: the graph does not know whether they do.
        ("France borders Japan", 0.0),
        # Direction counts: Paris has no capital in the graph, so that nothing is contradicted.
        ("France is the capital of Paris", 0.0),
        # Lyon is no entity, and Italy has no capital in the graph.
        ("Lyon is the capital of France", 0.0),
        # Another wording is not seen, and neither is a negation.
        ("Paris is the biggest city of France", 0.0),
        ("Berlin is not the capital of France", 0.0),
        # Claims end with their sentence.
        ("France. Borders Germany", 0.0),
        ("", 0.0),
    ],
)
def test_completions(completion: str, expected: float) -> None:
    assert agreement(completion) == expected


def test_claims_add_up_and_contradictions_are_subtracted() -> None:
    two, wrong = "France borders Germany. Japan lies in Asia.", "Japan lies in Europe."
    assert agreement(two, wanted=4) == pytest.approx(2 / 4)
    assert agreement(two) == 1.0
    assert agreement(f"{two} {wrong}", wanted=4, penalty=0.25) == pytest.approx(2 / 4 - 0.25)
    assert agreement(f"{two} {wrong}") == 0.0
    # Never below -1: France lies in Asia and Germany lies in Asia.
    assert agreement("France lies in Asia. Germany lies in Asia.") == -1.0


def test_a_claim_that_is_repeated_counts_once() -> None:
    assert agreement("France borders Germany. " * 5, wanted=2) == pytest.approx(1 / 2)
    assert agreement("Paris is the capital of France, the capital of France is Paris", wanted=2) == 0.5
    assert agreement("Japan lies in Europe. " * 5, penalty=0.25) == pytest.approx(-0.25)


def test_a_name_of_several_entities_is_read_kindly() -> None:
    # "Paris" is a city in France and one in the United States; "is in" is located_in or continent.
    assert agreement("Paris is in the USA") == 1.0
    assert agreement("Paris is in France") == 1.0
    # As located_in it is unknown, as continent Paris has none: not every reading is contradicted.
    assert agreement("Paris is in Asia") == 0.0


def test_names_and_templates_work_without_spaces() -> None:
    assert agreement("日本の首都は東京です。") == 1.0


def test_reciting_the_graph_earns_nothing_where_claims_must_be_about_the_prompt() -> None:
    prompt = "Tell me something about Japan."
    assert agreement("France borders Germany.", prompt, is_about_prompt=True) == 0.0
    assert agreement("Japan lies in Asia.", prompt, is_about_prompt=True) == 1.0
    assert agreement("Japan lies in Asia.", "What is in Asia?", is_about_prompt=True) == 1.0
    assert agreement("日本 lies in Asia.", prompt, is_about_prompt=True) == 1.0
    assert agreement("France lies in Asia.", prompt, is_about_prompt=True) == -1.0


def test_naming_an_entity_that_the_graph_connects_with_the_prompt_can_earn_something() -> None:
    prompt = "What is the capital of France?"
    assert agreement("Paris", prompt) == 0.0
    assert agreement("Paris", prompt, entity_weight=0.5) == pytest.approx(0.5)
    assert agreement("Paris, Paris!", prompt, entity_weight=0.5) == pytest.approx(0.5)
    assert agreement("Paris, Germany", prompt, entity_weight=0.25) == pytest.approx(0.5)
    # One triple connects both ways.
    assert agreement("Washington", "the USA", entity_weight=0.5) == pytest.approx(0.5)
    assert agreement("the USA", "Washington", entity_weight=0.5) == pytest.approx(0.5)
    # Tokyo is in the graph, but not next to France; France itself was given.
    assert agreement("Tokyo", prompt, entity_weight=0.5) == 0.0
    assert agreement("France", prompt, entity_weight=0.5) == 0.0
    assert agreement("Paris", "France and Paris", entity_weight=0.5) == 0.0
    assert agreement("Paris", "What?", entity_weight=0.5) == 0.0


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        # From rdfs:label, skos:altLabel, and the last part of an address where there is no label.
        ("France has the capital Paris", 1.0),
        ("Frankreich has the capital Paris", 1.0),
        ("the Federal Republic of Germany has the capital Berlin", 1.0),
        ("France borders Germany", 1.0),
        ("United States has capital Washington", 1.0),
        # owl:FunctionalProperty.
        ("France has the capital Berlin", -1.0),
        ("Germany borders France", 0.0),
        # A literal is an entity too.
        ("France population 68000000", 1.0),
        # Statements about the vocabulary are none about the world.
        ("France type country", 1.0),
        ("country type class", 0.0),
        ("has the capital domain country", 0.0),
    ],
)
def test_graphs_in_rdf(completion: str, expected: float) -> None:
    assert value("knowledge_graph", completion, **RDF) == expected


def test_graphs_in_other_formats(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text('head,relation,tail\n"Rome, Italy",is_in,Europe\n')
    assert value("knowledge_graph", "Rome, Italy is in Europe", path=str(tmp_path / "g.csv")) == 1.0
    (tmp_path / "g.nt").write_text("<http://x/Rome> <http://x/isIn> <http://x/Italy> .\n")
    assert value("knowledge_graph", "Rome is in Italy", path=str(tmp_path / "g.nt")) == 1.0
    (tmp_path / "h.nt").write_text("<http://x/New%20York/> <http://x#isIn> <http://x/USA#> .\n")
    assert value("knowledge_graph", "New York is in the USA", path=str(tmp_path / "h.nt")) == 1.0


@pytest.mark.parametrize("known", ["http://example.org/geo/France", "France", "Frankreich"])
def test_aliases_of_a_graph_in_rdf_go_by_address_or_by_name(tmp_path: Path, known: str) -> None:
    (tmp_path / "aliases.tsv").write_text(f"{known}\tGaul\n")
    options = {**RDF, "aliases": str(tmp_path / "aliases.tsv")}
    assert value("knowledge_graph", "Gaul has the capital Paris", **options) == 1.0


@pytest.mark.parametrize(
    ("graph", "aliases", "functional", "problem"),
    [
        ("a\tb\n", "", [], r"g.tsv, line 1: 3 columns are wanted"),
        ("a\tb\t\n", "", [], r"g.tsv, line 1: 3 columns are wanted"),
        ("# nothing\nhead\trelation\ttail\n", "", [], "contains no triple"),
        ("a\tlikes\tb\n", "c\tsee\n", [], r"aliases.tsv, line 1: the graph has no 'c'"),
        ("a\tlikes\tb\n", "# x\nlikes\t{head} loves\n", [], r"aliases.tsv, line 2: the template"),
        ("a\tlikes\tb\n", "likes\t{head} the {tail}\n", [], "has no word that counts"),
        ("a\tlikes\tb\n", "likes\t{head} - {tail}\n", [], "has no word that counts"),
        ("a\tlikes\tb\n", "a\t{head} loves {tail}\n", [], "an entity has a template"),
        ("a\tlikes\tb\n", "", ["loves"], "has no relation 'loves'"),
    ],
)
def test_mistakes_in_the_files_are_told(
    tmp_path: Path, graph: str, aliases: str, functional: list[str], problem: str
) -> None:
    (tmp_path / "g.tsv").write_text(graph)
    (tmp_path / "aliases.tsv").write_text(aliases)
    options = {"path": str(tmp_path / "g.tsv"), "aliases": str(tmp_path / "aliases.tsv")}
    with pytest.raises(UserError, match=problem):
        judge("knowledge_graph", **options, functional=functional)


def test_a_relation_whose_name_has_no_word_that_counts_is_never_found(tmp_path: Path) -> None:
    (tmp_path / "g.tsv").write_text("a1\tthe\tb1\na1\t...\tb1\na1\tr\tb1\n")
    assert value("knowledge_graph", "a1 the b1. a1 ... b1", path=str(tmp_path / "g.tsv")) == 0.0


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "g.ttl").write_text("this is no turtle")
    (tmp_path / "g.tsv").write_bytes(b"\xff\xfe")
    for name, problem in (
        ("g.ttl", "is no turtle"),
        ("g.tsv", "is not UTF-8"),
        ("h.tsv", "there is no such file"),
        ("g.txt", "the file must end in one of .csv, .nt, .rdf"),
    ):
        with pytest.raises(UserError, match=problem):
            judge("knowledge_graph", path=str(tmp_path / name))


def test_words_are_folded_and_sentences_kept_apart() -> None:
    assert words_of("The ﬁrst_word, d'Ｅté!") == ["the", "first", "word", "d", "eté"]
    assert words_of("A b. C 3.5;\nd", frozenset({"a"})) == ["b", BREAK, "c", "3", "5", BREAK, BREAK, "d"]
    assert words_of("東京は tokyo") == ["東", "京", "は", "tokyo"]


def test_the_longest_name_is_taken() -> None:
    names = Names()
    for name in ("new york", "new york city", "york"):
        names.add(name.split(), name)
    words = ["new", "york", "city", "new", "york", "new"]
    assert [names.longest(words, i) for i in range(6)] == [
        (frozenset({"new york city"}), 3),
        (frozenset({"york"}), 2),
        None,
        (frozenset({"new york"}), 5),
        (frozenset({"york"}), 5),
        None,
    ]
    assert names.longest(["new", BREAK, "york"], 0) is None
    # A name ends with its sentence, whatever it stands for.
    names.add(["old"], "york")
    assert names.longest(["old", BREAK, "york"], 0) == (frozenset({"york"}), 1)
    with pytest.raises(ValueError, match="at least one word"):
        names.add([], "nothing")


def test_names_do_not_overlap() -> None:
    names = {"city": ["New York City"], "town": ["York"]}
    reader = Reader(Graph([], entity_names=names, templates={}))
    assert reader.entities("York and New York City, York") == [{"town"}, {"city"}, {"town"}]


def test_templates_have_both_slots_and_a_word() -> None:
    assert template_items("The capital of {head} is {tail}!") == (
        *("the", "capital", "of"),
        *("{head}", "is", "{tail}"),
    )
    for wrong in ("{head} is", "{head} {tail} is {tail}", "{head} {tail}"):
        with pytest.raises(ValueError, match="template"):
            template_items(wrong)


def test_a_claim_is_contradicted_only_if_every_reading_is() -> None:
    graph = Graph(
        [Triple("a", "r", "b"), Triple("c", "s", "b")],
        entity_names={"a": ["x"], "b": ["y"], "c": ["x"]},
        templates={"r": ["{head} r {tail}"], "s": ["{head} r {tail}"]},
        functional=["r"],
    )
    assert graph.verdict([Triple("a", "r", "b"), Triple("a", "r", "c")]) is Verdict.SUPPORTED
    assert graph.verdict([Triple("a", "r", "c")]) is Verdict.CONTRADICTED
    assert graph.verdict([Triple("a", "r", "c"), Triple("c", "s", "c")]) is Verdict.UNKNOWN
    assert graph.verdict([Triple("b", "r", "c")]) is Verdict.UNKNOWN
    assert graph.verdict([]) is Verdict.UNKNOWN
    # Both names and both relations are readings of the one claim.
    everything = {Triple(h, r, "b") for h in "ac" for r in "rs"}
    assert Reader(graph).claims("X r y") == {frozenset(everything)}

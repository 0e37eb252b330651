"""JSON of a wanted form: which texts count, where the schema comes from, and that nothing is fetched."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import UserError
from reward_service.types import Status
from tests.reward_service.fakes_rewards import judge, sample, value

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def person(completion: str, **options: Any) -> float | None:
    return value("json_schema", completion, rules=PERSON, **options)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ('{"name": "Ada", "age": 36}', 1.0),
        (' \n{"name": "Ada"}\n', 1.0),
        ('{"name": "ada"}', 0.0),
        ('{"age": 36}', 0.0),
        ('{"name": "Ada", "age": -1}', 0.0),
        ('{"name": "Ada", "age": 36.5}', 0.0),
        ('{"name": "Ada", "job": "poet"}', 0.0),
        ('["Ada"]', 0.0),
        ('Here it is: {"name": "Ada"}', 0.0),
        ('{"name": "Ada"} {"name": "Bob"}', 0.0),
        ('{"name": "Ada",}', 0.0),
        ("{'name': 'Ada'}", 0.0),
        ("", 0.0),
    ],
)
def test_completions(completion: str, expected: float) -> None:
    assert person(completion) == expected


def test_what_is_not_in_the_standard_or_endless_is_no_json() -> None:
    anything: dict[str, Any] = {}
    assert value("json_schema", "1.5", rules=anything) == 1.0
    assert value("json_schema", "NaN", rules=anything) == 0.0
    assert value("json_schema", "[-Infinity]", rules=anything) == 0.0
    assert value("json_schema", "[" * 100_000, rules=anything) == 0.0
    assert value("json_schema", "9" * 10_000, rules=anything) == 0.0


def test_well_formed_json_of_the_wrong_kind_can_earn_something() -> None:
    assert person('{"age": 36}', syntax_credit=0.25) == 0.25
    assert person('{"name": "Ada"}', syntax_credit=0.25) == 1.0
    assert person("{", syntax_credit=0.25) == 0.0


def test_the_json_may_stand_in_the_last_fence() -> None:
    right, wrong = '```json\n{"name": "Ada"}\n```', "```\n{}\n```"
    assert person(f"I think that\n{right}\nis good", place="fence") == 1.0
    assert person(f"{wrong}\nno:\n{right}", place="fence") == 1.0
    assert person(f"{right}\nno:\n{wrong}", place="fence") == 0.0
    assert person('{"name": "Ada"}', place="fence") == 0.0
    assert person('```json\n{"name": "Ada"}', place="fence") == 0.0
    assert person(right) == 0.0


def test_the_schema_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    path.write_text(json.dumps(PERSON))
    options: dict[str, Any] = {"rules": None, "path": str(path)}
    assert value("json_schema", '{"name": "Ada"}', **options) == 1.0
    assert value("json_schema", "{}", **options) == 0.0


def test_each_sample_may_bring_its_own_schema() -> None:
    options: dict[str, Any] = {"rules": None, "metadata_key": "schema"}
    number, text = {"schema": {"type": "number"}}, {"schema": {"type": "string"}}
    samples = [sample("1", id="a", metadata=number), sample("1", id="b", metadata=text)]
    assert [s.value for s in judge("json_schema", *samples, **options)] == [1.0, 0.0]
    for metadata, problem in (
        ({}, "metadata has no schema under 'schema'"),
        ({"schema": "number"}, "metadata has no schema under 'schema'"),
        ({"schema": {"type": "nummer"}}, "no JSON Schema: $.type"),
    ):
        (score,) = judge("json_schema", sample("1", metadata=metadata), **options)
        assert score.status is Status.INVALID_INPUT
        assert score.message.startswith(problem)


def test_references_within_the_schema_work_and_those_outside_are_not_fetched() -> None:
    inside: dict[str, Any] = {"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}}
    assert value("json_schema", "[1]", rules=inside) == 1.0
    assert value("json_schema", '["1"]', rules=inside) == 0.0
    asked: list[str] = []

    class Schemas(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "number"}')

    with HTTPServer(("127.0.0.1", 0), Schemas) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        outside = {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}
        (score,) = judge("json_schema", sample("1"), rules=outside)
        server.shutdown()
    assert score.status is Status.ERROR
    assert asked == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rules": {"type": "nummer"}}, r"no JSON Schema: \$\.type: 'nummer'"),
        ({"rules": {"properties": 3}}, "no JSON Schema"),
        ({"rules": None}, "set exactly one of rules, path and metadata_key"),
        ({"metadata_key": "schema"}, "set exactly one of rules, path and metadata_key"),
        ({"rules": None, "path": "nowhere.json"}, "path of the component json_schema is nowhere.json"),
        ({"rules": None, "path": __file__}, "is no JSON"),
    ],
)
def test_mistakes_in_the_recipe_are_told_before_anything_is_scored(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        judge("json_schema", **options)


def test_older_drafts_are_read_by_their_own_rules() -> None:
    # Where items is a list, draft 7 checks place by place; 2020-12 does not allow a list there.
    rules = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "number"}]}
    assert value("json_schema", '[1, "x"]', rules=rules) == 1.0
    assert value("json_schema", '["x", 1]', rules=rules) == 0.0
    with pytest.raises(UserError, match="no JSON Schema"):
        judge("json_schema", rules={"items": [{"type": "number"}]})

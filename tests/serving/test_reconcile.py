"""The reconciliation service: forms of the protocol, and the decisions of `blink link` and `blink resolve run`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from starlette.testclient import TestClient

from blink import KnowledgeBase
from blink.linking.linker import Linker
from blink.resolve.resolver import Resolver
from blink.serving.app import create_app
from blink.serving.reconciliation.candidates import DECISIONS
from blink.serving.service import Service
from blink.serving.settings import ServerSettings

TEXT, TRUTH, NUMBER = {"type": "string", "minLength": 1}, {"type": "boolean"}, {"type": "number"}
NAMED = {"type": "object", "required": ["id", "name"], "properties": {"id": TEXT, "name": TEXT}}
NAMED_LIST = {"type": "array", "items": NAMED}
TEMPLATE = {"type": "string", "pattern": r"^https?://.*\{\{id\}\}"}
PATH = {"type": "object", "required": ["service_url", "service_path"]}
RESULT = {
    "type": "object",
    "required": ["result", "decision"],
    "properties": {
        "result": {"type": "array", "items": {
            "type": "object",
            "required": ["id", "name", "type", "score", "match", "features"],
            "additionalProperties": False,
            "properties": {
                "id": TEXT, "name": TEXT, "description": {"type": "string"}, "type": NAMED_LIST, "match": TRUTH,
                "score": {"type": "number", "minimum": 0, "maximum": 100},
                "features": {"type": "array", "items": {
                    "type": "object", "required": ["id", "value"],
                    "properties": {"id": TEXT, "value": {"anyOf": [TRUTH, NUMBER]}},
                }},
            },
        }},
        "decision": {"type": "object", "required": ["status", "probability", "reasons"], "properties": {
            "status": {"enum": ["existing", "new", "undecided"]}, "probability": {"type": "number", "minimum": 0, "maximum": 1},
        }},
    },
}  # fmt: skip
CELL = {"oneOf": [
    {"type": "object", "maxProperties": 0},
    {**NAMED, "additionalProperties": False},
    *({"type": "object", "required": [key], "additionalProperties": False, "properties": {key: {"type": of}}}
      for key, of in (("str", "string"), ("float", "number"), ("int", "integer"))),
]}  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "manifest": {
        "required": ["versions", "name", "identifierSpace", "schemaSpace", "view", "preview", "suggest", "extend", "batchSize"],
        "properties": {
            "versions": {"contains": {"const": "0.2"}}, "defaultTypes": NAMED_LIST,
            "batchSize": {"type": "integer", "minimum": 1},
            "view": {"properties": {"url": TEMPLATE}},
            "preview": {"required": ["url", "width", "height"], "properties": {"url": TEMPLATE}},
            "suggest": {"required": ["entity", "type", "property"], "additionalProperties": {**PATH, "properties": {
                "flyout_service_path": {"pattern": r"\$\{id\}"}}}},
            "extend": {"required": ["propose_properties"], "properties": {"propose_properties": PATH}},
        },
    },
    "reconciliation-result-batch": {"additionalProperties": RESULT},
    "suggest-entities-response": {"required": ["result"], "properties": {"result": NAMED_LIST}},
    "suggest-types-response": {"required": ["result"], "properties": {"result": NAMED_LIST}},
    "suggest-properties-response": {"required": ["result"], "properties": {"result": NAMED_LIST}},
    "data-extension-response": {
        "required": ["meta", "rows"],
        "properties": {"meta": NAMED_LIST, "rows": {
            "additionalProperties": {"additionalProperties": {"type": "array", "items": CELL}}}},
    },
    "data-extension-property-proposal": {"required": ["properties"], "properties": {"properties": NAMED_LIST}},
}  # fmt: skip
"""What the protocol, version 0.2, says of each answer, and what of it this service adds."""
ENTITIES: list[dict[str, Any]] = [
    {"title": "Zorblax", "text": "Largest moon of the planet Kepler-1649c.", "kb_idx": "m1", "types": ["moon"], "tags": ["far"],
     "aliases": ["Zorb"], "ids": {"catalog": "77"}, "idx": "https://example.org/zorblax", "orbits": "Q5", "radius": 1200.5},
    {"title": "Zorblax", "text": "Rock band from Lisbon.", "kb_idx": "m2", "types": ["band"]},
    {"title": "Kepler-1649c <b>", "text": "Exoplanet & home of \"moons\".", "kb_idx": "Q5", "types": ["planet"], "year": 2020},
    {"title": "Ann Quillon", "text": "Danish violinist, born in Aarhus.", "types": ["person", "musician"]},
]  # fmt: skip
OFFICIAL = os.environ.get("RECONCILIATION_SCHEMAS")
"""Folder of the protocol's own schemas (`0.2/schemas` of its specification), which come without a licence to copy them."""


@pytest.fixture(scope="module")
def own_kb(starter: Path) -> KnowledgeBase:
    return KnowledgeBase.from_records(ENTITIES)


@pytest.fixture(scope="module")
def client(own_kb: KnowledgeBase) -> Iterator[TestClient]:
    """A service over a knowledge base of four entities."""
    settings = ServerSettings(allow_origin=("http://127.0.0.1:3333",))
    with TestClient(
        create_app(Service.of(Linker.from_pretrained(kb=own_kb), settings)), raise_server_exceptions=False
    ) as client:
        yield client


def valid(name: str, content: Any) -> Any:
    """The content, after it was checked against the form of an answer, and the protocol's own schema where there is one."""
    jsonschema.validate(content, {"type": "object", **FORMS[name]})
    if OFFICIAL:
        schemas = [json.loads(file.read_text()) for file in Path(OFFICIAL).glob("*.json") if file.name != "openapi.json"]
        swagger = {"$id": "http://swagger.io/v2/schema.json", "$schema": "https://json-schema.org/draft/2020-12/schema"}
        draft = [schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"} for schema in (*schemas, swagger)]
        registry: Any = Registry().with_resources([(schema["$id"], Resource.from_contents(schema)) for schema in draft])
        official = next(schema for schema in draft if schema["$id"].endswith(f"/{name}.json"))
        jsonschema.Draft202012Validator(official, registry=registry).validate(content)
    return content


def reconciled(client: TestClient, **queries: Any) -> dict[str, Any]:
    """The answers of a batch, sent as OpenRefine sends it."""
    answer = client.post("/reconcile", data={"queries": json.dumps(queries)})
    assert answer.status_code == 200, answer.text
    batch: dict[str, Any] = valid("reconciliation-result-batch", answer.json())
    assert list(batch) == list(queries)
    for of in batch.values():
        scores = [candidate["score"] for candidate in of["result"]]
        assert scores == sorted(scores, reverse=True) or of["decision"]["reasons"] == ["equal ids"]
        assert [c["match"] for c in of["result"]] == [
            of["decision"]["status"] == "existing" and i == 0 for i in range(len(scores))
        ]
    return batch


def top(answer: dict[str, Any]) -> tuple[str, str | None, bool]:
    """Decision, id of the best candidate, and whether it is a match."""
    best = answer["result"][0] if answer["result"] else {"id": None, "match": False}
    return answer["decision"]["status"], best["id"], best["match"]


def property_of(pid: str, *values: Any) -> dict[str, Any]:
    return {"pid": pid, "v": values[0] if len(values) == 1 else list(values)}


# -- forms -----------------------------------------------------------------------------------------------------------


def test_the_manifest_names_what_is_there(starter_client: TestClient, client: TestClient) -> None:
    content = valid("manifest", starter_client.get("/reconcile").json())
    assert content["identifierSpace"] == "http://www.wikidata.org/entity/"
    assert valid("manifest", client.get("/reconcile").json())["identifierSpace"] == "urn:blink:"
    for of, suggest in content["suggest"].items():
        path = suggest["service_url"].removeprefix("http://testserver") + suggest["service_path"]
        plural = {"entity": "entities", "type": "types", "property": "properties"}[of]
        suggested = valid(f"suggest-{plural}-response", starter_client.get(path, params={"prefix": "a"}).json())["result"]
        flyout = suggest["flyout_service_path"].replace("${id}", suggested[0]["id"])
        shown = starter_client.get(path.rpartition("/suggest")[0] + flyout).json()
        assert shown["id"] == suggested[0]["id"]
        assert shown["html"].startswith("<p>")
    page = starter_client.get(content["preview"]["url"].replace("{{id}}", "Q3392"))
    assert "Nile" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert starter_client.get(content["view"]["url"].replace("{{id}}", "Q3392"), follow_redirects=False).status_code == 302


def test_a_batch_comes_as_form_as_json_or_in_the_address(client: TestClient) -> None:
    batch = {"q0": {"query": "Ann Quillon", "limit": 1}, "q1": {"query": "m1"}}
    expected = reconciled(client, **batch)
    assert client.get("/reconcile", params={"queries": json.dumps(batch)}).json() == expected
    assert client.post("/reconcile", json={"queries": batch}).json() == expected
    single = client.post("/reconcile", data={"query": json.dumps(batch["q0"])}).json()
    assert single == expected["q0"]
    assert top(client.get("/reconcile", params={"query": "Ann Quillon"}).json()) == top(expected["q0"])


def test_scripts_of_other_pages_get_a_call(client: TestClient) -> None:
    answer = client.get("/reconcile/suggest/type", params={"prefix": "mo", "callback": "jQuery_1.got"})
    assert answer.headers["content-type"].startswith("application/javascript")
    match = re.fullmatch(r"/\*\*/jQuery_1\.got\((.*)\);", answer.text)
    assert match is not None
    assert [of["id"] for of in valid("suggest-types-response", json.loads(match[1]))["result"]] == ["moon"]
    assert client.get("/reconcile", params={"callback": "alert(1)//"}).status_code == 422


def test_allowed_origins_may_read_answers(client: TestClient) -> None:
    origin = {"origin": "http://127.0.0.1:3333"}
    for path in ("/reconcile", "/reconcile/suggest/entity?prefix=Z", "/reconcile/preview?id=m1", "/reconcile/nothing"):
        assert client.get(path, headers=origin).headers["access-control-allow-origin"] == "http://127.0.0.1:3333"
    asked = origin | {"access-control-request-method": "POST"}
    assert client.options("/reconcile", headers=asked).status_code == 200


# -- decisions -------------------------------------------------------------------------------------------------------


def test_names_are_linked_as_link_links_them(starter_client: TestClient, starter_linker: Linker) -> None:
    names = ["Nile", "Angela Merkel", "Paris", "Mozart", "Mount Everest", "Kyoto", "Georgia", "Mercury", "Zorblax Quux"]
    links = starter_linker(names, spans=[[(0, len(name))] for name in names])
    answers = reconciled(starter_client, **{name: {"query": name} for name in names})
    for name, linked in zip(names, links, strict=True):
        answer, link = answers[name], linked.links[0]
        if answer["decision"]["status"] == "existing":
            assert top(answer)[1] == link.kb_id
            assert answer["result"][0]["score"] == pytest.approx(100 * link.score, abs=0.01)
    assert sum(answer["decision"]["status"] == "existing" for answer in answers.values()) >= 5
    assert answers["Zorblax Quux"]["decision"]["status"] == "new"


def test_a_sentence_says_who_is_meant(starter_client: TestClient, starter_linker: Linker) -> None:
    sentences = {
        "Paris": "Paris is the town in Texas with a red hat on its tower.",
        "Jordan": "Amman is the capital of Jordan.",
    }
    queries = {name: {"query": name, "properties": [property_of("context", text)]} for name, text in sentences.items()}
    answers = reconciled(starter_client, **queries)
    for name, text in sentences.items():
        start = text.index(name)
        (link,) = starter_linker(text, spans=[(start, start + len(name))]).links
        assert top(answers[name]) == ("existing", link.kb_id, True)
    assert top(answers["Paris"])[1] == "Q830149"


def test_other_queries_are_resolved_as_resolve_resolves_them(client: TestClient, own_kb: KnowledgeBase) -> None:
    records = [
        {"name": "Zorblax", "description": "moon of Kepler-1649c"},
        {"name": "Zorblax", "description": "rock band"},
        {"name": "A. Quillon", "description": "violinist from Denmark", "type": "musician"},
        {"name": "Quillon", "description": "a village in Peru", "type": "place"},
        {"name": "Brontomere", "description": "a lake"},
    ]
    queries = {}
    for i, record in enumerate(records):
        properties = [property_of("description", record["description"])]
        queries[f"q{i}"] = {"query": record["name"], "properties": properties} | (
            {"type": record["type"]} if "type" in record else {}
        )
    answers = reconciled(client, **queries)
    for answer, record in zip(answers.values(), records, strict=True):
        (expected,) = Resolver(own_kb).match([record])
        assert answer["decision"]["status"] == DECISIONS[expected.status]
        assert answer["decision"]["probability"] == pytest.approx(expected.probability, abs=1e-3)
    assert [top(answers[key])[1] for key in ("q0", "q1")] == ["m1", "m2"]
    assert answers["q4"] == {"result": [], "decision": {"status": "new", "probability": 1.0, "reasons": ["nothing like it"]}}


def test_queries_do_not_depend_on_others_of_their_batch(client: TestClient) -> None:
    queries = {"a": {"query": "Brontomere", "properties": [property_of("description", "a lake")]},
               "b": {"query": "Ann Quillon"},
               "c": {"query": "Brontomere", "properties": [property_of("description", "a big lake")]}}  # fmt: skip
    together = reconciled(client, **queries)
    assert together == {key: reconciled(client, **{key: query})[key] for key, query in queries.items()}


def test_two_entities_of_a_name_are_left_to_a_person(client: TestClient) -> None:
    answers = reconciled(client, bare={"query": "Zorblax"}, typed={"query": "Zorblax", "type": "band", "type_strict": "any"})
    assert answers["bare"]["decision"]["status"] == "undecided"
    assert {candidate["id"] for candidate in answers["bare"]["result"]} >= {"m1", "m2"}
    assert {candidate["id"] for candidate in answers["typed"]["result"]} == {"m2"}


def test_what_is_only_like_the_name_is_no_match(starter_client: TestClient) -> None:
    unknown = ["Maple Street Clinic", "Asha Patel", "Exeter Chiefs", "Kestrel, boat"]
    answers = reconciled(starter_client, **{name: {"query": name} for name in unknown})
    assert not any(c["match"] for answer in answers.values() for c in answer["result"])
    (river,) = reconciled(starter_client, q={"query": "Paris", "type": "river", "type_strict": "all"}).values()
    assert river["decision"]["status"] == "new"
    assert river["result"] == []


def test_types_restrict_where_they_must(client: TestClient) -> None:
    queries = {
        strictness: {"query": "Ann Quillon", "type": ["person", "band"], "type_strict": strictness}
        for strictness in ("any", "all", "should")
    }
    answers = reconciled(client, **queries)
    assert [c["id"] for c in answers["any"]["result"]] == ["row:3"]
    assert answers["all"]["result"] == []
    assert answers["should"]["result"][0]["id"] == "row:3"
    features = {of["id"]: of["value"] for of in answers["any"]["result"][0]["features"]}
    assert features["type_equal"] is True
    assert features["name_equal"] is True
    unknown = reconciled(client, q={"query": "Ann Quillon", "type": "no such type", "type_strict": "any"})["q"]
    assert (unknown["result"], unknown["decision"]["reasons"]) == ([], ["no entity has the type"])


@pytest.mark.parametrize(
    ("query", "properties"),
    [("m1", []), ("row:0", []), (None, [property_of("id", "m1")]), (None, [property_of("catalog", "77")]),
     ("Zorblax", [property_of("catalog", 77)]), ("Zorblax", [property_of("id", {"id": "m1", "name": "Zorblax"})])],
)  # fmt: skip
def test_an_id_is_certain(client: TestClient, query: str | None, properties: list[dict[str, Any]]) -> None:
    answer = reconciled(client, q={"properties": properties} | ({} if query is None else {"query": query}))["q"]
    assert top(answer) == ("existing", "m1", True)
    assert answer["result"][0]["score"] == 100


def test_ids_of_two_entities_are_left_to_a_person(client: TestClient) -> None:
    answer = reconciled(client, q={"query": "m2", "properties": [property_of("catalog", "77")]})["q"]
    assert answer["decision"]["status"] == "undecided"
    assert {candidate["id"] for candidate in answer["result"]} >= {"m1", "m2"}


def test_values_of_properties_are_features(client: TestClient) -> None:
    query = {
        "query": "Zorblax",
        "properties": [property_of("orbits", "q5"), property_of("tag", "near", "far"), property_of("colour", "red")],
    }
    features = {c["id"]: {of["id"]: of["value"] for of in c["features"]} for c in reconciled(client, q=query)["q"]["result"]}
    assert (features["m1"]["orbits_equal"], features["m1"]["tag_equal"]) == (True, True)
    assert (features["m2"]["orbits_equal"], features["m2"]["tag_equal"]) == (False, False)
    assert "colour_equal" not in features["m1"]


# -- suggestions, data extension -------------------------------------------------------------------------------------


def test_entities_are_suggested_by_id_name_and_beginning(client: TestClient, starter_client: TestClient) -> None:
    def suggested(client: TestClient, **params: Any) -> list[str]:
        content = valid("suggest-entities-response", client.get("/reconcile/suggest/entity", params=params).json())
        return [of["id"] for of in content["result"]]

    assert suggested(client, prefix="m2") == ["m2"]
    assert suggested(client, prefix="zor")[:2] == ["m1", "m2"]
    assert suggested(client, prefix="Zorb")[0] == "m1"
    assert suggested(client, prefix="") == []
    first, second = suggested(starter_client, prefix="San"), suggested(starter_client, prefix="San", cursor=20)
    assert (len(first), len(second), set(first) & set(second)) == (20, 20, set())


def test_a_beginning_is_compared_without_case_in_all_scripts(starter_client: TestClient) -> None:
    for prefix, name in (("são pau", "São Paulo"), ("SÃO PAU", "São Paulo"), ("MOUNT EV", "Mount Everest")):
        content = starter_client.get("/reconcile/suggest/entity", params={"prefix": prefix}).json()
        assert name in [of["name"] for of in content["result"]]


def test_properties_and_types_are_suggested(client: TestClient) -> None:
    content = valid("suggest-properties-response", client.get("/reconcile/suggest/property", params={"prefix": "or"}).json())
    assert [of["id"] for of in content["result"]] == ["orbits"]
    assert client.get("/reconcile/suggest/property", params={"prefix": "cont"}).json()["result"][0]["id"] == "context"
    proposed = valid(
        "data-extension-property-proposal", client.get("/reconcile/properties", params={"type": "moon", "limit": 20}).json()
    )
    assert {"orbits", "radius", "catalog", "alias"} <= {of["id"] for of in proposed["properties"]}
    assert "year" not in {of["id"] for of in proposed["properties"]}


def test_columns_are_extended(client: TestClient) -> None:
    columns = [{"id": of} for of in ("name", "alias", "orbits", "radius", "catalog", "year", "nothing")]
    query = {"ids": ["m1", "Q5", "unknown"], "properties": [*columns, {"id": "type", "settings": {"limit": 1}}]}
    content = valid("data-extension-response", client.post("/reconcile", data={"extend": json.dumps(query)}).json())
    assert [of["id"] for of in content["meta"]] == [of["id"] for of in query["properties"]]  # type: ignore[index]
    moon, planet, unknown = content["rows"]["m1"], content["rows"]["Q5"], content["rows"]["unknown"]
    assert moon["orbits"] == [{"id": "Q5", "name": "Kepler-1649c <b>"}]
    assert (moon["radius"], moon["catalog"], moon["alias"]) == ([{"float": 1200.5}], [{"str": "77"}], [{"str": "Zorb"}])
    assert planet["year"] == [{"int": 2020}]
    assert all(values == [] for values in unknown.values())


def test_text_of_entities_is_escaped(client: TestClient) -> None:
    for path in ("/reconcile/preview", "/reconcile/view", "/reconcile/flyout/entity"):
        answer = client.get(path, params={"id": "Q5"})
        html = answer.json()["html"] if path.endswith("flyout/entity") else answer.text
        assert "&lt;b&gt;" in html
        assert "Kepler-1649c <b>" not in html


# -- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Any, int, str]] = {
    "no JSON": ("{", 400, "queries is not JSON"),
    "a list": ("[]", 400, "queries is a list"),
    "deep": ("[" * 100_000, 400, "nested too deep"),
    "no number": ('{"q": {"query": "a", "limit": NaN}}', 400, "not JSON"),
    "a long number": ('{"q": {"query": "a", "limit": ' + "9" * 5000 + "}}", 400, "not JSON"),
    "a query that is text": ('{"q": "a"}', 400, "query 'q' is text"),
    "an empty query": ('{"q": {"query": " "}}', 400, "neither a query nor properties"),
    "a negative limit": ('{"q": {"query": "a", "limit": -1}}', 400, "whole number"),
    "half a pair": ('{"q": {"query": "\\ud800"}}', 400, "well-formed"),
    "a NUL": ('{"q": {"query": "a\\u0000"}}', 400, "NUL"),
    "no pid": ('{"q": {"query": "a", "properties": [{"v": "b"}]}}', 400, "pid"),
    "a value without id": ('{"q": {"query": "a", "properties": [{"pid": "b", "v": {}}]}}', 400, "id"),
    "another strictness": ('{"q": {"query": "a", "type_strict": "maybe"}}', 400, "any, should, all"),
    "too many": (json.dumps({str(i): {"query": "a"} for i in range(101)}), 413, "at most 100"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_clear_line(client: TestClient, name: str) -> None:
    queries, status, message = MISTAKES[name]
    answer = client.post("/reconcile", data={"queries": queries})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [(b"", {}, 400), (b"queries=%ff", {}, 400), (b"\xff", {}, 400), (b"a=1&" * 50, {}, 400),
     (b"[]", {"content-type": "application/json"}, 400), (b"{}", {"content-type": "text/plain"}, 415), (b"extend={}", {}, 400),
     (b"extend={\"ids\":[1],\"properties\":[]}", {}, 400)],
)  # fmt: skip
def test_bodies_that_are_none_are_refused(client: TestClient, content: bytes, headers: dict[str, str], status: int) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/reconcile", content=content, headers=form | headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_unknown_ids_have_no_page(client: TestClient) -> None:
    for path in ("preview", "view", "flyout/entity", "flyout/type", "flyout/property"):
        assert client.get(f"/reconcile/{path}", params={"id": "no such"}).status_code == 404


def test_a_type_that_edits_took_away_is_of_no_entity(starter: Path) -> None:
    kb = KnowledgeBase.from_records(ENTITIES)
    with TestClient(create_app(Service.of(Linker.from_pretrained(kb=kb)))) as client:
        query = {"query": "Ann Quillon", "type": "musician", "type_strict": "any"}
        assert [c["id"] for c in reconciled(client, q=query)["q"]["result"]] == ["row:3"]
        kb.update(3, types=["person"])
        answer = reconciled(client, q=query)["q"]
        assert (answer["result"], answer["decision"]["reasons"]) == ([], ["no entity has the type"])
        assert client.get("/reconcile/properties", params={"type": "musician"}).status_code == 200

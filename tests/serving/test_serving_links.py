"""Links over HTTP: those of the linker, whatever the concurrency and the batches; errors as one line with the right status."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_toys import TEXTS, client_of, error_of, link_spans, links_of, running, toy_linker

from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker

THRESHOLDS = (-12.0, -6.0, -3.0, None)
REQUESTS = st.lists(
    st.tuples(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), st.sampled_from(THRESHOLDS)), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    return toy_linker(tmp_path_factory.mktemp("links"))


@pytest.fixture(scope="module")
def client(linker: Linker) -> Iterator[TestClient]:
    with client_of(linker, max_texts=20, max_characters=5000, max_spans=50, max_body=200_000) as client:
        yield client


def expected(linker: Linker, text: str, threshold: float | None) -> list[tuple[int, int, int]]:
    (analysis,) = linker.analyze([text])
    return link_spans(linker.decode(analysis, None if threshold is None else Thresholds(threshold)))


def test_answers_have_the_json_of_linked_texts(linker: Linker, client: TestClient) -> None:
    answer = client.post("/link", json={"texts": list(TEXTS)}).json()
    assert answer["threshold"] == linker.thresholds.score
    for result, linked in zip(answer["results"], linker(list(TEXTS)), strict=True):
        other = linked.to_json()
        assert result["text"] == other["text"]
        for link, expected_link in zip(result["links"], other["links"], strict=True):
            assert {**link, "candidates": 0, "score": 0} == {**expected_link, "candidates": 0, "score": 0}
            assert [c["score"] for c in link["candidates"]] == pytest.approx(
                [c["score"] for c in expected_link["candidates"]], abs=1e-4
            )


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS)
def test_concurrent_requests_get_their_own_links(
    linker: Linker, client: TestClient, requests: list[tuple[list[str], float | None]]
) -> None:
    """Texts of several requests are linked together, at other thresholds: each gets what the linker gives it alone."""

    def ask(request: tuple[list[str], float | None]) -> Any:
        texts, threshold = request
        body = {"texts": texts} if threshold is None else {"texts": texts, "threshold": threshold}
        return client.post("/link", json=body).json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, requests))
    for (texts, threshold), answer in zip(requests, answers, strict=True):
        assert [result["text"] for result in answer["results"]] == texts
        assert answer["threshold"] == (linker.thresholds.score if threshold is None else threshold)
        for text, result in zip(texts, answer["results"], strict=True):
            assert links_of(result) == expected(linker, text, threshold)


def test_requests_are_linked_together_on_a_port(linker: Linker) -> None:
    """Over real connections: every answer is that of its request, and fewer batches than requests were linked."""
    with running(linker) as server, httpx.Client(base_url=server.url, limits=httpx.Limits(max_connections=16)) as http:
        before = server.service.metrics.page().decode()
        texts = [f"{TEXTS[i % len(TEXTS)]} number {i}" for i in range(48)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda text: http.post("/link", json={"text": text}).json(), texts))
        page = server.service.metrics.page().decode()
    for text, answer in zip(texts, answers, strict=True):
        (result,) = answer["results"]
        assert result["text"] == text
        assert links_of(result) == link_spans(linker(text))
    assert counter(page, "blink_batch_texts_sum") - counter(before, "blink_batch_texts_sum") == len(texts)
    assert counter(page, "blink_batch_texts_count") - counter(before, "blink_batch_texts_count") < len(texts)
    assert counter(page, 'blink_requests_total{method="POST",route="/link",status="200"}') == len(texts)


def counter(page: str, name: str) -> float:
    return next((float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name + " ")), 0.0)


@pytest.mark.parametrize("many", [False, True])
def test_own_spans_are_linked_whatever_their_score(linker: Linker, client: TestClient, many: bool) -> None:
    text, spans = TEXTS[0], [[13, 20], [28, 35]]
    body = {"texts": [text, TEXTS[3]], "spans": [spans, []]} if many else {"text": text, "spans": spans}
    results = client.post("/link", json=body).json()["results"]
    assert links_of(results[0]) == link_spans(linker(text, spans=[(13, 20), (28, 35)]))
    assert [[link["start"], link["end"]] for link in results[0]["links"]] == spans
    assert many is False or results[1]["links"] == []


def test_filters_hold(linker: Linker, client: TestClient) -> None:
    answer = client.post("/link", json={"text": TEXTS[0], "where": ["row=1|2|3", "row!=2"]}).json()
    assert links_of(answer["results"][0]) == link_spans(linker(TEXTS[0], where="row=1|3"))
    assert {row for _, _, row in links_of(answer["results"][0])} <= {1, 3}


def test_candidates_and_descriptions_are_left_out_on_request(client: TestClient) -> None:
    (result,) = client.post("/link", json={"text": TEXTS[0], "candidates": 2, "descriptions": False}).json()["results"]
    assert result["links"]
    assert all(len(link["candidates"]) == 2 and "description" not in link and "url" not in link for link in result["links"])


def test_explanations_have_the_links(linker: Linker, client: TestClient) -> None:
    answer = client.post("/link", json={"texts": list(TEXTS), "explain": True, "threshold": -6.0}).json()
    for text, result in zip(TEXTS, answer["results"], strict=True):
        assert links_of(result) == links_of(result["explanation"]) == expected(linker, text, -6.0)
        statuses = {(m["start"], m["end"]) for m in result["explanation"]["mentions"] if m["status"] == "linked"}
        assert statuses == {(start, end) for start, end, _ in links_of(result)}


MISTAKES: list[tuple[int, Any, str]] = [
    (400, {}, "text"),
    (400, {"text": "a", "texts": ["b"]}, "text"),
    (422, {"text": 7}, "text"),
    (422, {"txt": "a"}, "txt"),
    (422, {"text": "a", "spans": "all"}, "spans"),
    (422, {"text": "a", "spans": [[0, 1, 2, 3]]}, "spans"),
    (400, {"text": "a", "spans": [[0, 2]]}, "[0, 2)"),
    (400, {"text": "a", "spans": [[1, 1]]}, "[1, 1)"),
    (400, {"text": "a", "spans": [[-1, 1]]}, "[-1, 1)"),
    (400, {"texts": ["a", "b"], "spans": [[]]}, "2 texts"),
    (400, {"text": "a", "where": "colour=red"}, "colour"),
    (400, {"text": "a", "where": "type=unheard-of"}, "type"),
    (400, {"text": "a\0"}, "NUL"),
    (422, {"text": "a", "candidates": -1}, "candidates"),
    (422, {"text": "a", "threshold": "high"}, "threshold"),
    (413, {"texts": ["a"] * 21}, "20"),
    (413, {"text": "a" * 5001}, "5,000"),
    (413, {"text": "ab", "spans": [[0, 1]] * 51}, "50"),
    (422, [1, 2], "body"),
    (422, "text", "body"),
]


@pytest.mark.parametrize(("status", "body", "named"), MISTAKES)
def test_mistakes_get_one_line(client: TestClient, status: int, body: Any, named: str) -> None:
    assert named in error_of(client.post("/link", json=body), status)


RAW = [
    (422, b"{", "JSON"),
    (422, b"", "body"),
    (400, b'{"text": "\\ud800"}', "surrogate"),
    (422, b'{"text": "a", "threshold": NaN}', "threshold"),
    (422, b'{"text": "a", "threshold": 1e999}', "threshold"),
]


@pytest.mark.parametrize(("status", "body", "named"), RAW)
def test_bodies_that_are_no_json_get_one_line(client: TestClient, status: int, body: bytes, named: str) -> None:
    response = client.post("/link", content=body, headers={"content-type": "application/json"})
    assert named in error_of(response, status)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: ("[" * 3000 + text).encode())))
def test_any_bytes_get_an_answer_that_is_no_failure(client: TestClient, body: bytes) -> None:
    response = client.post("/link", content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500
    error_of(response, response.status_code)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "text": st.text(max_size=40) | VALUES,
            "texts": st.lists(st.text(max_size=20), max_size=3) | VALUES,
            "spans": st.lists(st.lists(st.integers(), max_size=3), max_size=3) | VALUES,
            "where": st.text(max_size=10) | VALUES,
            "threshold": st.floats() | VALUES,
            "candidates": st.integers() | VALUES,
            "explain": VALUES,
        },
    )
)
def test_any_fields_get_links_or_one_line(client: TestClient, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    response = client.post("/link", content=content, headers={"content-type": "application/json"})
    if response.status_code == 200:
        texts = [body["text"]] if body.get("text") is not None else body["texts"]
        assert [result["text"] for result in response.json()["results"]] == texts
        assert math.isfinite(response.json()["threshold"])
    else:
        assert response.status_code in (400, 413, 422)
        error_of(response, response.status_code)


def test_other_addresses_and_methods_get_one_line(client: TestClient) -> None:
    error_of(client.get("/nothing"), 404)
    error_of(client.get("/link"), 405)
    error_of(client.post("/link", content=b"x" * 10), 422)


def test_every_field_is_described(client: TestClient) -> None:
    """Of each endpoint the purpose, of each argument and field what it means."""
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (path, method)
            assert all(argument.get("description") for argument in operation.get("parameters", ())), (path, method)
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description") or name in ("HTTPValidationError", "ValidationError"), name
        if name not in ("HTTPValidationError", "ValidationError"):
            assert all(field.get("description") for field in schema.get("properties", {}).values()), name


def test_the_docs_page_asks_no_other_server(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "//" not in page.text.replace("<!doctype", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert name in page.text
        assert client.get(f"/docs/{name}").status_code == 200
    assert client.get("/docs/../openapi.json").status_code in (200, 404)
    assert client.get("/docs/other.js").status_code == 404

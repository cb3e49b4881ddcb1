"""Edits over HTTP: only with the token, seen by the next request and by other processes, one writer at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from locks import locked_elsewhere
from serving_toys import BEARER, TOKEN, client_of, error_of, links_of, toy_linker

from blink.data.mention_files import read_samples
from blink.errors import MissingFileError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live import editing
from blink.linking.linker import Linker
from blink.serving.tokens import read_token

ZORBLAX = {"title": "Zorblax", "text": "A moon.", "kb_id": "X1", "aliases": ["Zorb"], "types": ["moon"]}


@pytest.fixture
def linker(tmp_path: Path) -> Linker:
    return toy_linker(tmp_path)


@pytest.fixture
def client(linker: Linker, tmp_path: Path) -> Iterator[TestClient]:
    with client_of(linker, corrections=str(tmp_path / "corrections.jsonl")) as client:
        yield client


EDITS: list[tuple[str, str, Any]] = [
    ("POST", "/entities", ZORBLAX),
    ("PATCH", "/entities/Q101", {"text": "other"}),
    ("DELETE", "/entities/Q101", None),
    ("POST", "/entities/undo", {}),
    ("POST", "/corrections", {"text": "Oslo", "start": 0, "end": 4, "entity": None}),
    ("POST", "/resolve", {"records": ["Oslo"], "add": True}),
]


def test_edits_need_the_token(linker: Linker, client: TestClient) -> None:
    values = ("", "Bearer 0123456789abcdeF", f"Basic {TOKEN}", "Bearer ", "Bearer \xff", f"Bearer {TOKEN}a", TOKEN)
    for method, path, body in EDITS:
        for value in values:
            headers = {"Authorization": value.encode("latin-1")} if value else {}
            response = client.request(method, path, json=body, headers=headers)
            assert "token" in error_of(response, 401), (path, value)
            assert response.headers["www-authenticate"] == "Bearer"
    assert linker.kb.changes.number == 0


def test_without_a_token_nobody_edits(linker: Linker) -> None:
    with client_of(linker, token=None) as client:
        for method, path, body in EDITS:
            for headers in ({}, BEARER, {"Authorization": "Bearer None"}, {"Authorization": "Bearer "}):
                assert "--token-file" in error_of(client.request(method, path, json=body, headers=headers), 403)
    assert linker.kb.changes.number == 0


def test_tokens_are_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLINK_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("BLINK_TOKEN", "f" * 16)
    assert read_token(None) == "f" * 16
    file = tmp_path / "token"
    file.write_text("a" * 20 + "\nanother line\n")
    assert read_token(str(file)) == "a" * 20
    for content in ("", "short", "a" * 15, "ä" * 20, "with a space and more"):
        file.write_text(content)
        with pytest.raises(SettingsError, match="openssl"):
            read_token(str(file))
    with pytest.raises(MissingFileError, match="does not exist; give --token-file"):
        read_token(str(tmp_path / "none"))


def test_an_entity_lives_and_goes(linker: Linker, client: TestClient) -> None:
    added = client.post("/entities", json=ZORBLAX, headers=BEARER)
    assert added.status_code == 201
    entity = added.json()["entity"]
    assert (entity["row"], entity["title"], entity["kb_idx"], added.json()["edit"]) == (20, "Zorblax", "X1", 1)
    assert client.get("/entities/X1").json() == entity
    assert client.get("/entities/20").json() == client.get("/entities/row:20").json() == entity
    assert client.get("/entities", params={"q": "Zorb"}).json()["entities"][0] == entity | {"match": "alias", "popularity": 2.0}
    error_of(client.post("/entities", json=ZORBLAX, headers=BEARER), 400)

    changed = client.patch("/entities/X1", json={"text": "A large moon.", "aliases": None}, headers=BEARER).json()
    assert changed["entity"] == {"row": 20, "title": "Zorblax", "text": "A large moon.", "kb_idx": "X1", "types": ["moon"]}
    again = client.patch("/entities/X1", json={"text": "A large moon."}, headers=BEARER).json()
    assert (again["entity"], again["edit"]) == (changed["entity"], None)
    error_of(client.patch("/entities/X1", json={}, headers=BEARER), 400)
    error_of(client.patch("/entities/X1", json={"name": "Z"}, headers=BEARER), 422)

    removed = client.delete("/entities/X1", params={"note": "gone"}, headers=BEARER).json()
    assert (removed["entity"], removed["edit"]) == (changed["entity"], 3)
    for method in ("GET", "DELETE"):
        error_of(client.request(method, "/entities/X1", headers=BEARER), 404)
        error_of(client.request(method, "/entities/row:20", headers=BEARER), 404)
    undone = client.post("/entities/undo", json={}, headers=BEARER).json()
    assert (undone["kind"], undone["undoes"]) == ("undo", [3])
    assert client.get("/entities/X1").json() == changed["entity"]
    assert [t.kind for t in linker.kb.history()] == ["add", "update", "remove", "undo"]


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True))
def test_the_next_request_sees_an_edit(client: TestClient, names: list[str]) -> None:
    """What was acknowledged is linked by the next request: an added entity to its id, a removed one no more."""
    for name in names:
        title = f"Entity {name}"
        added = client.post("/entities", json={"title": title, "kb_id": f"K-{name}"}, headers=BEARER).json()
        row, body = added["entity"]["row"], {"text": title, "spans": [[0, len(title)]], "where": f"id=K-{name}"}
        assert links_of(client.post("/link", json=body).json()["results"][0]) == [(0, len(title), row)]
        client.delete(f"/entities/K-{name}", headers=BEARER).raise_for_status()
        assert client.post("/link", json=body).json()["results"][0]["links"] == []


def test_all_concurrent_edits_are_made(linker: Linker, client: TestClient) -> None:
    def add(number: int) -> int:
        response = client.post("/entities", json={"title": f"Thing {number}", "kb_id": f"T{number}"}, headers=BEARER)
        assert response.status_code == 201
        return int(response.json()["edit"])

    with ThreadPoolExecutor(8) as pool:
        edits = list(pool.map(add, range(24)))
    assert sorted(edits) == list(range(1, 25))
    again = KnowledgeBase.open(linker.kb.require_folder())
    assert all(again.catalogue.row_of(f"T{number}") is not None for number in range(24))


def test_edits_of_other_processes_are_seen(linker: Linker, client: TestClient) -> None:
    other = KnowledgeBase.open(linker.kb.require_folder())
    other.encode = linker.kb.encode
    other.add({"title": "Zorblax", "kb_id": "X1"})
    assert client.get("/entities/X1").json()["row"] == 20
    assert links_of(client.post("/link", json={"text": "x", "spans": [[0, 1]], "where": "id=X1"}).json()["results"][0])


def test_another_writer_is_waited_for_and_then_named(
    linker: Linker, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "WAIT_S", 0.2)
    with locked_elsewhere(linker.kb.require_folder()):
        busy = client.post("/entities", json=ZORBLAX, headers=BEARER)
        assert "another process" in error_of(busy, 503)
        assert "retry-after" in busy.headers
        assert client.post("/link", json={"text": "Oslo"}).status_code == 200, "readers wait for no writer"
    assert client.post("/entities", json=ZORBLAX, headers=BEARER).status_code == 201


def test_too_many_edits_at_once_get_429(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service.edits, "_max_waiting", 2)
    gate, commit = threading.Event(), editing.commit
    monkeypatch.setattr(editing, "commit", lambda *a: gate.wait(20) and commit(*a))

    def add(number: int) -> int:
        return client.post("/entities", json={"title": f"Thing {number}"}, headers=BEARER).status_code

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(add, number) for number in range(6)]
        while sum(future.done() for future in futures) < 3:
            pass
        gate.set()
        statuses = sorted(future.result() for future in futures)
    assert statuses == [201] * 3 + [429] * 3


def test_searches_by_name_and_meaning(client: TestClient) -> None:
    named = client.get("/entities", params={"q": "Oslo 7", "limit": 3}).json()["entities"]
    assert (named[0]["title"], named[0]["match"]) == ("Oslo 7", "title")
    near = client.get("/entities", params={"q": "thing of kind 2", "limit": 5, "meaning": True}).json()["entities"]
    assert [entity["match"] for entity in near] == ["meaning"] * 5
    (only,) = client.get("/entities", params={"q": "Oslo 7", "where": "row=7"}).json()["entities"]
    assert only["row"] == 7
    for query in ({}, {"q": ""}, {"q": "a", "limit": 0}, {"q": "a", "limit": 1000}, {"q": "x" * 5000}):
        error_of(client.get("/entities", params=query), 422)
    error_of(client.get("/entities", params={"q": "a", "where": "colour=red"}), 400)
    for key in ("Q999999", "row:99", "99", "row:x", "%00", "-1", "9" * 40):
        error_of(client.get(f"/entities/{key}"), 404)


def test_records_are_resolved_and_added_on_request(linker: Linker, client: TestClient) -> None:
    records = [{"name": "Qwerty Uiop", "description": "a keyboard"}, "Qwerty Uiop", {"name": "Oslo 7"}]
    dry = client.post("/resolve", json={"records": records}).json()["results"]
    assert [result["record"]["name"] for result in dry] == ["Qwerty Uiop", "Qwerty Uiop", "Oslo 7"]
    assert linker.kb.changes.number == 0
    added = client.post("/resolve", json={"records": records, "add": True}, headers=BEARER).json()["results"]
    assert [r["status"] for r in added] == [r["status"] for r in dry]
    assert linker.kb.changes.number == 1
    rows = len(linker.kb.catalogue)
    again = client.post("/resolve", json={"records": records, "add": True}, headers=BEARER).json()["results"]
    assert [r["entity"]["row"] for r in again] == [r["entity"]["row"] for r in added]
    assert len(linker.kb.catalogue) == rows
    error_of(client.post("/resolve", json={"records": [{"description": "nameless"}]}), 400)
    error_of(client.post("/resolve", json={"records": ["a"], "threshold": 2}), 422)
    error_of(client.post("/resolve", json={"records": ["a"] * 1001}), 413)


def test_corrections_are_saved_in_a_mention_file(client: TestClient, tmp_path: Path) -> None:
    text = "Oslo 7 is a place."
    correction = {"text": text, "start": 0, "end": 6, "entity": "row:7"}
    assert client.post("/corrections", json=correction, headers=BEARER).json() == {"saved": True, "row": 7}
    assert client.post("/corrections", json=correction | {"entity": None}, headers=BEARER).json() == {
        "saved": True,
        "row": None,
    }
    (sample,) = read_samples(tmp_path / "corrections.jsonl")
    assert (sample.text, [(m.start, m.end, m.row) for m in sample.mentions or ()]) == (text, [(0, 6, -1)])
    for wrong in ({"end": 99}, {"start": 6}, {"text": "a\0bcdefg"}):
        error_of(client.post("/corrections", json=correction | wrong, headers=BEARER), 400)
    error_of(client.post("/corrections", json=correction | {"entity": "Q999"}, headers=BEARER), 404)


def test_without_a_file_corrections_are_off(linker: Linker) -> None:
    with client_of(linker) as client:
        body = {"text": "Oslo", "start": 0, "end": 4, "entity": None}
        assert "--corrections" in error_of(client.post("/corrections", json=body, headers=BEARER), 403)

"""The web page's files and what it asks of the server, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import toys

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from blink.linking import sections
from blink.linking.linker import Linker
from blink.serving import page_links
from blink.serving.app import create_app
from blink.serving.page import page_files
from blink.serving.service import Service

TEXT = "Oslo 7 and Java 3. Georgia 0 is far. Java 3 is near Oslo 7.\n\n"


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    model = toys.model(11, threshold=-9.0, window_length=16)
    kb = toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))
    return Linker(model, kb, precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def client(linker: Linker) -> Iterator[TestClient]:
    with TestClient(create_app(Service.of(linker)), base_url="http://127.0.0.1") as client:
        yield client


def sections_of(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def spans_of(of: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    linked = [(s["start"], m) for s in of for m in s["explanation"]["mentions"] if m["status"] == "linked"]
    return sorted((start + m["start"], start + m["end"], m["candidates"][0]["row"]) for start, m in linked)


def test_all_files_are_served_with_a_strict_policy(client: TestClient) -> None:
    for path in ("/", *(f"/static/{name}" for name in page_files())):
        response = client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "*" not in policy
        again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for path in ("/static/../page.py", "/static/none.js", "/static/%2e%2e%2fpage.py", "/static/", "/static/__init__.py"):
        assert client.get(path).status_code == 404


def test_files_need_nothing_from_elsewhere_and_nothing_inline() -> None:
    namespaces = {"http://www.w3.org/2000/svg"}
    for name, (content, _) in page_files().items():
        text = content.decode("utf-8")
        addresses = set(re.findall(r"https?://[\w.][\w./-]*", text)) - namespaces
        assert addresses == set(), name
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), name
    page = page_files()["page.html"][0].decode("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|<style", page)
    names = set(re.findall(r'static/([\w.]+)"', page))
    modules = {
        m for name, (content, _) in page_files().items() for m in re.findall(r'from "\./([\w.]+)"', content.decode("utf-8"))
    }
    assert names | modules | {"page.html"} == set(page_files())


def test_ids_of_the_page_are_what_the_modules_look_up() -> None:
    page = page_files()["page.html"][0].decode("utf-8")
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    used = {
        i
        for name, (content, _) in page_files().items()
        if name.endswith(".js")
        for i in re.findall(r'byId\("([\w-]+)"\)', content.decode())
    }
    assert used - set(ids) == {"inspector-heading"}  # made by inspector.js


def test_the_state_says_what_is_possible(client: TestClient, linker: Linker) -> None:
    state = client.get("/page/state").json()
    assert state["entities"] == len(linker.catalogue)
    assert (state["edits"], state["corrections"]) == (False, False)
    linker.kb.add({"title": "Zorblax", "text": "A moon."})
    assert client.get("/page/state").json()["entities"] == state["entities"] + 1
    linker.kb.undo()
    assert client.get("/page/state").json() == state


def test_a_short_text_is_one_section_with_the_links_of_the_linker(client: TestClient, linker: Linker) -> None:
    (section,) = sections_of(client.post("/page/link", json={"text": TEXT}))
    assert (section["start"], section["end"], section["is_last"]) == (0, len(TEXT), True)
    assert spans_of([section]) == [(x.start, x.end, x.row) for x in linker(TEXT).links]
    rows = {str(c["row"]) for m in section["explanation"]["mentions"] for c in m["candidates"]}
    assert rows == set(section["entities"])
    for row, entity in section["entities"].items():
        assert entity["title"] == linker.catalogue[int(row)].title
        assert entity["types"] == list(linker.catalogue[int(row)].types)


def test_a_long_text_comes_section_by_section(client: TestClient, linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "SECTION_CHARACTERS", 200)
    monkeypatch.setattr(page_links, "SECTION_CHARACTERS", 200)
    text = TEXT * 12
    parts = sections_of(client.post("/page/link", json={"text": text}))
    assert [p["start"] for p in parts] == [0, *(p["end"] for p in parts[:-1])]
    assert parts[-1]["end"] == len(text)
    assert [p["is_last"] for p in parts] == [*[False] * (len(parts) - 1), True]
    assert spans_of(parts) == [(x.start, x.end, x.row) for x in linker(text).links]
    assert len(parts) > 2


def test_own_mentions_are_linked_whatever_their_score(client: TestClient) -> None:
    (section,) = sections_of(client.post("/page/link", json={"text": TEXT, "spans": [[7, 10]]}))
    (mention,) = section["explanation"]["mentions"]
    assert (mention["start"], mention["end"], mention["status"]) == (7, 10, "linked")


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"text": "a\0b"}, 400, "NUL"),
        ({"text": "x" * 40_000 + "\0"}, 400, "NUL"),
        ({"text": "abc", "spans": [[2, 9]]}, 400, "outside"),
        ({"text": "x" * (1 << 20) + "y"}, 413, "characters"),
        ({"text": "abc", "words": "abc"}, 422, "words"),
        ({}, 422, "text"),
    ],
)
def test_what_cannot_be_linked_is_said_in_a_line(client: TestClient, body: dict[str, Any], status: int, word: str) -> None:
    response = client.post("/page/link", json=body)
    assert response.status_code == status
    assert word in response.json()["error"]


def test_an_error_on_the_way_is_the_last_line(client: TestClient, linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    from blink.errors import DataError

    monkeypatch.setattr(page_links, "SECTION_CHARACTERS", 10)
    real = page_links.explain_sections

    def broken(linker: Linker, text: str) -> Iterator[Any]:
        section = next(real(linker, text))
        yield type(section)(section.explanation, section.start, section.end, False)
        raise DataError("the catalogue was closed; open it again")

    monkeypatch.setattr(page_links, "explain_sections", broken)
    first, last = sections_of(client.post("/page/link", json={"text": TEXT}))
    assert first["start"] == 0
    assert last == {"error": "the catalogue was closed; open it again", "status": 400}
    assert client.get("/page/state").status_code == 200

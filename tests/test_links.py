"""What links carry of their entity: description and address, as of now, read once for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blink.bulk.records import RecordLayout
from blink.bulk.rows import link_chunk
from blink.kb.catalogue import Catalogue
from blink.linking.linker import Linker
from tests import toys

OPTIONS: dict[str, Any] = {"precision": "fp32", "device": "cpu", "threshold": float("-inf")}
TEXT = "see Oslo 7 and Georgia 0"


@pytest.fixture
def linker(tmp_path: Path) -> Linker:
    model = toys.model(11)
    lines = [row | ({"idx": f"https://x.org/{i}"} if i % 2 else {}) for i, row in enumerate(toys.rows(12))]
    return Linker(model, toys.knowledge_base(tmp_path / "kb", model, lines), **OPTIONS)


def test_a_link_carries_description_and_address(linker: Linker) -> None:
    linked = linker(TEXT)
    assert linked.links
    for link, value, row in zip(linked.links, linked.to_json()["links"], linked.to_spans(), strict=True):
        entity = linker.catalogue[link.row]
        assert (link.description, link.url) == (entity.text, entity.url)
        for of in (value, row):
            assert (of["description"], of["url"]) == (entity.text, entity.url)
    assert {link.url is None for link in linker(TEXT, [(0, 3), (4, 10), (15, 24)]).links} <= {True, False}


def test_descriptions_follow_edits_and_are_read_once(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    row = linker(TEXT).links[0].row
    reads: list[int] = []
    real = Catalogue.__getitem__
    monkeypatch.setattr(Catalogue, "__getitem__", lambda self, row: (reads.append(row), real(self, row))[1])
    linker(TEXT)
    assert row not in reads
    linker.kb.update(row, url="https://y.org")
    assert linker.kb.catalogue[row].url == "https://y.org"
    assert all(link.url == "https://y.org" for link in linker(TEXT).links if link.row == row)


@pytest.mark.parametrize("descriptions", [False, True])
def test_rows_of_files_have_descriptions_where_they_are_wanted(linker: Linker, descriptions: bool) -> None:
    chunk = link_chunk([TEXT.encode()], 1, linker, RecordLayout(descriptions=descriptions), name="x")
    (row,) = map(json.loads, chunk.content.splitlines())
    assert row["links"]
    for link in row["links"]:
        assert ("description" in link) is descriptions
        assert link["url"] == linker.catalogue[link["row"]].url
        assert link["candidates"]

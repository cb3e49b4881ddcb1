"""Files of ELEVANT: benchmarks and linked articles, by the fields that its documentation names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blink.data.annotation import TOOLS, Skipped
from blink.data.elevant import linked_article
from blink.data.mention_files import parse_row, read_samples, row_of
from blink.data.records import Candidate, Link, LinkedText

Run = Callable[..., tuple[int, str, str]]
TEXT = "Angelina, her father Jon, and her partner Brad met Zoë in 1980."
ARTICLE = {
    "id": 16, "title": "Celebrities 07", "text": TEXT, "url": "https://example.org/16", "evaluation_span": [0, 46],
    "labels": [
        {"id": 0, "span": [21, 24], "entity_id": "Q167520", "name": "Jon Voight", "parent": None, "children": [1],
         "optional": False, "type": "Q215627"},
        {"id": 1, "span": [21, 23], "entity_id": "Q1", "name": "Jo", "parent": 0, "optional": False},
        {"id": 2, "span": [51, 54], "entity_id": "Unknown17", "name": "UnknownNoMapping", "parent": None, "children": [],
         "optional": False, "type": "OTHER"},
        {"id": 3, "span": [42, 46], "entity_id": "Q35332", "name": "Brad Pitt", "parent": None, "children": [],
         "optional": True, "type": "Q215627"},
        {"id": 4, "span": [58, 62], "entity_id": "Unknown", "name": "1980", "parent": None, "children": [], "optional": False,
         "type": "DATETIME"},
        {"id": 5, "span": [60, 99], "entity_id": "Q2", "name": ""},
    ],
}  # fmt: skip
"""An article of a benchmark with each kind of label."""


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_links_have_the_documented_fields() -> None:
    others = (Candidate(3, "Q9", "Brad Pitt", 0.9), Candidate(4, None, "Brad", 0.1))
    article = linked_article(LinkedText(TEXT, (Link(42, 46, "Brad", 3, "Q9", "Brad Pitt", 0.9, others),)), 4)
    assert article == {
        "id": 4, "title": "", "text": TEXT, "evaluation_span": [0, len(TEXT)], "labels": [],
        "entity_mentions": [
            {"span": [42, 46], "recognized_by": "BLINK", "id": "Q9", "linked_by": "BLINK", "candidates": ["Q9", "row:4"]}
        ],
    }  # fmt: skip


def test_gold_of_benchmarks(tmp_path: Path) -> None:
    skipped = Skipped()
    (sample,) = TOOLS["elevant"].read(write(tmp_path / "b.jsonl", ARTICLE), skipped)
    assert [(m.start, m.end, m.kb_id) for m in sample.mentions or ()] == [(21, 24, "Q167520"), (51, 54, None)]
    assert sample.unlabelled == ((42, 46), (58, 62))
    assert skipped.counts == {"labels are inside others": 1, "spans lie outside their text": 1}
    assert parse_row(row_of(sample)) == sample  # optional labels stay optional in a mention file


def test_a_benchmark_is_linked_and_keeps_its_fields(tmp_path: Path, blink: Run, starter: Path) -> None:
    articles = [ARTICLE, {"id": 17, "title": "b", "text": "The Nile flows through Egypt.", "labels": []}]
    benchmark = write(tmp_path / "kore.benchmark.jsonl", *articles)
    links, linked = tmp_path / "links.jsonl", tmp_path / "blink.kore.linked_articles.jsonl"
    assert blink("link", "--file", benchmark, "--carry", "all", "--out", links)[0] == 0
    status, _, err = blink("convert", links, "--to", "elevant", "--out", linked)
    assert (status, "2 texts" in err) == (0, True)
    rows = [json.loads(line) for line in linked.read_text().splitlines()]
    for row, article in zip(rows, articles, strict=True):
        assert {key: row[key] for key in article} == article
    assert [(m["span"], m["id"]) for m in rows[1]["entity_mentions"]] == [([4, 8], "Q3392"), ([23, 28], "Q79")]
    assert all(m["id"] in m["candidates"] for row in rows for m in row["entity_mentions"])

    # Read back: gold of what has labels, the links of what has none.
    del rows[1]["labels"]
    again = tmp_path / "again.jsonl"
    assert blink("convert", write(tmp_path / "x.jsonl", *rows), "--from", "elevant", "--out", again)[0] == 0
    gold = [[(m.start, m.end, m.kb_id) for m in sample.mentions or ()] for sample in read_samples(again)]
    assert gold == [[(21, 24, "Q167520"), (51, 54, None)], [(4, 8, "Q3392"), (23, 28, "Q79")]]


def test_lines_with_errors_are_counted_and_mistakes_named(tmp_path: Path, blink: Run) -> None:
    out = tmp_path / "out.jsonl"
    lines = write(tmp_path / "links.jsonl", {"error": "not JSON"}, {"id": "a-1", "text": "Oslo", "links": []})
    status, _, err = blink("convert", lines, "--to", "elevant", "--out", out)
    assert (status, "1 lines have an error" in err) == (0, True)
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (row["id"], row["title"], row["entity_mentions"]) == (0, "a-1", [])
    for content in ({"links": []}, {"links": 3, "text": "a"}, {"links": [{"start": 0}], "text": "a"}):
        status, _, err = blink("convert", write(tmp_path / "bad.jsonl", content), "--to", "elevant", "--out", out)
        assert (status, err.count("\n"), "line 1" in err) == (1, 1, True), err
    for content in ([1], {"labels": [{"span": [0]}], "text": "abc"}, {"labels": [5], "text": "abc"}, {"title": "no text"}):
        status, _, err = blink("convert", write(tmp_path / "bad.jsonl", content), "--from", "elevant", "--out", out)
        assert (status, err.count("\n"), "line 1" in err) == (1, 1, True), err


def test_ids_that_are_no_numbers_become_titles(tmp_path: Path) -> None:
    samples = [parse_row({"id": name, "text": "Oslo"}) for name in ("7", "WebQ-3")]
    assert TOOLS["elevant"].write(samples, tmp_path / "b.jsonl") == 2
    rows = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [(row["id"], row["title"]) for row in rows] == [(7, ""), (1, "WebQ-3")]

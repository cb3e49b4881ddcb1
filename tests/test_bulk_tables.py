"""Outputs of bulk runs as CSV and TSV: the rows of JSON Lines, a row per link, killed or not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from bulk_toys import ToyLinker, job, rows, write_records

from blink.bulk.journal import JOURNAL_SUFFIX
from blink.bulk.outputs import merge_outputs
from blink.bulk.records import RecordLayout
from blink.bulk.run import link_files
from blink.bulk.tables import HEAD
from blink.cells import plain_cell

DELIMITERS = {".csv": ",", ".tsv": "\t"}
RECORDS: list[dict[str, Any]] = [
    {"id": 1, "text": "=SUM(A1) said one", "note": "a\tb,c\r\nd"},
    {"id": "@two", "text": "", "note": None},
    {"id": [3], "text": "Ünïcode 中"},
    {"id": None, "text": "cannot"},
    {"text": "- last", "note": "'quoted'"},
]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as f:
        head, *lines = csv.reader(f, delimiter=DELIMITERS[file.suffix])
    assert tuple(head) == HEAD
    return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.mark.parametrize("ending", DELIMITERS)
def test_a_table_has_a_row_for_each_link_and_error(tmp_path: Path, ending: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in RECORDS) + "{broken\n", encoding="utf-8")
    link_files(job(source, tmp_path / "out.jsonl"), ToyLinker())
    link_files(job(source, tmp_path / f"out{ending}"), ToyLinker())
    expected = []
    for number, row in enumerate(rows(tmp_path / "out.jsonl"), 1):
        of = row.get("id")
        ids = {"text_id": str(number), "id": of if isinstance(of, str) else "" if of is None else json.dumps(of)}
        ids["fields"] = json.dumps(row["fields"]) if "fields" in row else ""
        if "error" in row:
            expected.append({**ids, "error": row["error"], "mention": "", "score": ""})
        for link in row.get("links", []):
            expected.append({**ids, "error": "", "mention": link["mention"], "score": f"{link['score']:.4f}"})
    written = [{name: plain_cell(row[name]) for name in expected[0]} for row in table(tmp_path / f"out{ending}")]
    assert written == expected
    assert {row["mention"][:2] for row in table(tmp_path / f"out{ending}") if row["mention"]} == {"'=", "Ü", "'-"}
    assert {file.name for file in tmp_path.iterdir()} >= {f"out{ending}", f"out{ending}{JOURNAL_SUFFIX}"}
    assert not list(tmp_path.glob("*.part"))


def test_a_finished_table_is_not_made_again_and_shards_make_the_same(tmp_path: Path) -> None:
    source, out = write_records(tmp_path / "in.jsonl", 23), tmp_path / "out.csv"
    link_files(job(source, out), ToyLinker())
    content = out.read_bytes()
    link_files(job(source, out), ToyLinker())
    assert out.read_bytes() == content
    shards = [tmp_path / f"{number}.jsonl" for number in (1, 2)]
    link_files(job(source, tmp_path / "whole.jsonl"), ToyLinker())
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for shard, some in zip(shards, (lines[:10], lines[10:]), strict=True):
        shard.write_bytes(b"".join(some))
    merge_outputs(shards, tmp_path / "merged.csv")
    assert (tmp_path / "merged.csv").read_bytes() == content


def test_descriptions_and_types_are_there_where_they_are_asked_for(starter: Path, tmp_path: Path) -> None:
    import blink

    source = tmp_path / "in.txt"
    source.write_text("Warsaw is in Poland.\n", encoding="utf-8")
    for with_them in (False, True):
        out = tmp_path / f"{with_them}.csv"
        link_files(job(source, out, RecordLayout(descriptions=with_them)), lambda warn: blink.load())
        warsaw = table(out)[0]
        assert (warsaw["kb_id"], bool(warsaw["description"]), "city" in warsaw["types"]) == ("Q270", with_them, with_them)
        assert warsaw["url"].startswith("https://")

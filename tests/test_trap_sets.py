"""The sets of teams called by their city, of lookalikes and of traps say what `scripts/trap_figures.py` counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from blink.data.mention_files import read_samples
from blink.kb.alias_table import normalise, without_brackets

DATA = Path(__file__).parent / "data"
STARTER = Path(__file__).parents[1] / "models" / "starter-kb" / "entity.jsonl"
CATALOGUES = {
    "teams": (STARTER, DATA / "teams-kb" / "entity.jsonl"),
    "traps": (STARTER, DATA / "teams-kb" / "entity.jsonl"),
    "lookalikes": (DATA / "lookalikes-kb" / "entity.jsonl",),
}


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def entities_of(name: str) -> dict[str, dict[str, Any]]:
    entities = [entity for file in CATALOGUES[name] for entity in rows_of(file)]
    by_id = {entity["kb_idx"]: entity for entity in entities}
    assert len(by_id) == len(entities)
    return by_id


@pytest.mark.parametrize("name", CATALOGUES)
def test_gold_entities_are_in_the_catalogue(name: str) -> None:
    entities, samples = entities_of(name), list(read_samples(DATA / f"{name}.jsonl"))
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.mentions is not None
        for mention in sample.mentions:
            assert entities[str(mention.kb_id)]["title"] == mention.title, sample.id


def test_teams_are_called_by_a_name_that_a_city_has() -> None:
    rows = rows_of(DATA / "teams.jsonl")
    counts = Counter(kind for row in rows for kind in row["kinds"])
    texts = Counter("team" in row["kinds"] for row in rows)
    assert texts == {True: 40, False: 20}
    assert counts["team"] >= 40
    assert counts["city"] >= 20
    assert all(len(row["kinds"]) == len(row["mentions"]) and {"team", "city"} & set(row["kinds"]) for row in rows)


def test_both_texts_of_a_pair_hold_one_name_of_two_entities() -> None:
    entities, rows = entities_of("lookalikes"), rows_of(DATA / "lookalikes.jsonl")
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    assert len(pairs) == 60
    for first, second in pairs:
        names = {normalise(row["text"][slice(*row["mentions"][0])]) for row in (first, second)}
        assert first["pair"] == second["pair"]
        assert len(names) == 1
        assert first["wikidata_id"] != second["wikidata_id"]
        named = [
            names <= {normalise(name) for name in (without_brackets(entity["title"]), *entity["aliases"])}
            for entity in (entities[row["wikidata_id"][0]] for row in (first, second))
        ]
        assert named == {"first": [True, False], "second": [False, True], "both": [True, True]}[first["alias_of"]], first["id"]


def test_traps_tempt_with_spans_that_are_no_mentions() -> None:
    rows = rows_of(DATA / "traps.jsonl")
    assert len(rows) == 40
    for row in rows:
        assert row["tempting"]
        for start, end in row["tempting"]:
            assert row["text"][start:end].strip() == row["text"][start:end] != ""
            assert all(end <= s or e <= start for s, e in row["mentions"])

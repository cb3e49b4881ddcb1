"""The sets of teams called by their city, of lookalikes and of traps say what `scripts/trap_figures.py` counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from blink.data.mention_files import read_samples
from blink.kb.alias_table import normalise, without_brackets
from scripts import trap_figures

DATA = Path(__file__).parent / "data"
STARTER = Path(__file__).parents[1] / "models" / "starter-kb" / "entity.jsonl"
SUFFIXES = ("", trap_figures.DEVELOPMENT)
NAMES = ("teams", "lookalikes", "traps")
CATALOGUES = {
    f"{name}{suffix}": trap_figures.catalogues_of(suffix)[trap_figures.SETS[name][0]] for name in NAMES for suffix in SUFFIXES
}


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def entities_of(name: str) -> dict[str, dict[str, Any]]:
    """Entities of the catalogues by id; of one in two of them the later row, as in `scripts/trap_figures.py`."""
    by_id: dict[str, dict[str, Any]] = {}
    for file in CATALOGUES[name]:
        entities = rows_of(file)
        assert len({entity["kb_idx"] for entity in entities}) == len(entities)
        by_id |= {entity["kb_idx"]: entity for entity in entities}
    return by_id


@pytest.mark.parametrize("name", CATALOGUES)
def test_gold_entities_are_in_the_catalogue(name: str) -> None:
    entities, samples = entities_of(name), list(read_samples(DATA / f"{name}.jsonl"))
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.mentions is not None
        for mention in sample.mentions:
            assert entities[str(mention.kb_id)]["title"] == mention.title, sample.id


@pytest.mark.parametrize(("name", "of_teams", "of_cities"), [("teams", 40, 20), ("teams-dev", 20, 10)])
def test_teams_are_called_by_a_name_that_a_city_has(name: str, of_teams: int, of_cities: int) -> None:
    rows = rows_of(DATA / f"{name}.jsonl")
    counts = Counter(kind for row in rows for kind in row["kinds"])
    texts = Counter("team" in row["kinds"] for row in rows)
    assert texts == {True: of_teams, False: of_cities}
    assert counts["team"] >= of_teams
    assert counts["city"] >= of_cities
    assert all(len(row["kinds"]) == len(row["mentions"]) and {"team", "city"} & set(row["kinds"]) for row in rows)


@pytest.mark.parametrize(("name", "size"), [("lookalikes", 60), ("lookalikes-dev", 50)])
def test_both_texts_of_a_pair_hold_one_name_of_two_entities(name: str, size: int) -> None:
    entities, rows = entities_of(name), rows_of(DATA / f"{name}.jsonl")
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    assert len(pairs) == size
    for first, second in pairs:
        names = {normalise(row["text"][slice(*row["mentions"][0])]) for row in (first, second)}
        assert first["pair"] == second["pair"]
        assert len(names) == 1
        assert first["wikidata_id"] != second["wikidata_id"]
        named = [
            names <= {normalise(name) for name in (without_brackets(entity["title"]), *entity.get("aliases", ()))}
            for entity in (entities[row["wikidata_id"][0]] for row in (first, second))
        ]
        assert named == {"first": [True, False], "second": [False, True], "both": [True, True]}[first["alias_of"]], first["id"]


@pytest.mark.parametrize(("name", "size"), [("traps", 40), ("traps-dev", 60)])
def test_traps_tempt_with_spans_that_are_no_mentions(name: str, size: int) -> None:
    rows = rows_of(DATA / f"{name}.jsonl")
    assert len(rows) == size
    for row in rows:
        assert row["tempting"]
        for start, end in row["tempting"]:
            assert row["text"][start:end].strip() == row["text"][start:end] != ""
            assert all(end <= s or e <= start for s, e in row["mentions"])


def test_longer_names_of_the_development_traps_hold_a_name_of_the_catalogue() -> None:
    titles = ((without_brackets(entity["title"]), *entity.get("aliases", ())) for entity in entities_of("traps-dev").values())
    names = {normalise(name) for of_entity in titles for name in of_entity}
    rows = [row for row in rows_of(DATA / "traps-dev.jsonl") if row["kind"] in ("longer name", "relative")]
    assert len(rows) == 16
    for row in rows:
        name = row["text"][slice(*row["tempting"][0])]
        assert bool(row["allowed"]) == (normalise(name) in names), row["id"]
        assert names & {normalise(word) for word in name.split()}, row["id"]


def names_in(name: str) -> set[str]:
    """Normalised spans, tempting ones too, of a set."""
    return {
        normalise(row["text"][start:end])
        for row in rows_of(DATA / f"{name}.jsonl")
        for start, end in (*row["mentions"], *row.get("tempting", ()))
    }


@pytest.mark.parametrize("name", NAMES)
def test_development_and_test_sets_share_no_text_and_no_name(name: str) -> None:
    texts = [{normalise(row["text"]) for row in rows_of(DATA / f"{name}{suffix}.jsonl")} for suffix in SUFFIXES]
    assert not texts[0] & texts[1]
    assert not names_in(name) & names_in(f"{name}{trap_figures.DEVELOPMENT}")


def test_development_and_test_lookalikes_share_no_entity() -> None:
    titles = [
        {normalise(without_brackets(e["title"])) for e in entities_of(f"lookalikes{suffix}").values()} for suffix in SUFFIXES
    ]
    ids = [set(entities_of(f"lookalikes{suffix}")) for suffix in SUFFIXES]
    assert not titles[0] & titles[1]
    assert not ids[0] & ids[1]

"""Synthetic texts in prose: their labels agree with the text, and names that cannot be told are unlabelled."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import SettingsError
from blink.kb.catalogue import Catalogue
from blink.training.data.passages import Passages
from blink.training.data.synthetic import MAKERS, STREAMS, Synthesizer, Triple

LINES = [
    {
        "title": "Ada Quillfeather",
        "text": "Ada Marie Quillfeather (born 3 May 1920) was a Norvish botanist who worked in Zorpville. "
        "Quillfeather studied at the University of Zorpville with Jon Unknownson. "
        "Her mother Maria Quillfeather lived in Brelland.",
        "aliases": ["Ada M. Quillfeather"],
    },
    {"title": "Zorpville", "text": "Zorpville is a city in Brelland on the river Quondle. It has a large harbour."},
    {"title": "Brelland", "text": "Brelland is a country in the far north. It is known for its old bridges."},
    {"title": "Mercurio", "text": "Mercurio is a planet of the old stories that many people of the north know well."},
    {"title": "Mercurio (god)", "text": "Mercurio is the god of trade in the stories of the south, and he wears a hat."},
    {"title": "Zorpville F.C.", "text": "association football club in Brelland", "aliases": ["Zorpville", "The Herons"]},
    {"title": "Quondle Bears", "text": "professional football team based in Quondle", "aliases": ["Bears"]},
    {"title": "F.C. Sorn", "text": "association football club in Sornmark", "aliases": ["Sorn"]},
    {"title": "Sorn United", "text": "football club", "aliases": ["Sorn"]},
    {"title": "Sorn", "text": "city in Sornmark"},
    {"title": "Quondle", "text": "Quondle is a town in Brelland with a long wall."},
    {"title": "Georgina", "text": "Georgina is a country in the south with high hills and many lakes."},
    *({"title": f"Georgina Smith{i}", "text": f"Georgina Smith{i} (born 1950) is a painter.", "aliases": []} for i in range(4)),
]
TRIPLES = [Triple(0, "P19", 1), Triple(1, "P17", 2), Triple(10, "P17", 2), Triple(0, "P27", 2)]
NEW = ("passage", "sport", "lookalike", "notname", "enumeration")

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synthesizer]:
    path = tmp_path_factory.mktemp("kb") / "entity.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    with Catalogue.open(path) as catalogue:
        yield Synthesizer(catalogue, TRIPLES, [])


@pytest.mark.parametrize("source", NEW)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_spans_agree_with_the_text(synthesizer: Synthesizer, source: str, seed: int) -> None:
    for sample in synthesizer.make(source, 8, seed):
        assert sample.mentions is not None
        assert all(-1 <= m.row < len(LINES) for m in sample.mentions)
        spans = sorted([*((m.start, m.end) for m in sample.mentions), *sample.unlabelled])
        assert all(0 <= start < end <= len(sample.text) for start, end in spans)
        assert all(sample.text[start:end] == sample.text[start:end].strip() for start, end in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert not sample.partial


@pytest.mark.parametrize("source", NEW)
def test_the_same_seed_gives_the_same_texts(synthesizer: Synthesizer, source: str) -> None:
    assert synthesizer.make(source, 20, 1) == synthesizer.make(source, 20, 1)
    assert synthesizer.make(source, 20, 1) != synthesizer.make(source, 20, 2)


def test_streams_of_random_numbers_are_distinct_and_fixed() -> None:
    assert STREAMS.keys() == MAKERS.keys()
    assert len(set(STREAMS.values())) == len(MAKERS)
    assert [STREAMS[s] for s in ("described", "plain", "pseudo", "related", "slotted", "swapped")] == [0, 1, 2, 3, 4, 5]


def test_passages_label_names_of_the_entity_and_of_the_catalogue(synthesizer: Synthesizer) -> None:
    labels = {(s.text[m.start : m.end], m.row) for s in synthesizer.make("passage", 300, 5) for m in s.mentions or ()}
    assert {("Ada Marie Quillfeather", 0), ("Quillfeather", 0), ("Ada M. Quillfeather", 0), ("Brelland", 2)} <= labels
    assert {row for form, row in labels if form == "Mercurio"} <= {3, 4, -1}
    assert all(row in (0, -1) for form, row in labels if "Quillfeather" in form)


def test_parts_of_longer_names_are_unlabelled(synthesizer: Synthesizer) -> None:
    samples = synthesizer.make("passage", 300, 5)
    hidden = {s.text[start:end] for s in samples for start, end in s.unlabelled}
    assert {"University of Zorpville", "Jon Unknownson", "Maria Quillfeather", "Norvish"} <= hidden


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He was a U.S. envoy in Brelland.", ["U.S."]),
        ("It hired Paul A. Quillfeather of Zorpville.", ["Paul A. Quillfeather of Zorpville"]),
        ("Brelland's envoy met Jon Unknownson.", ["Jon Unknownson"]),
    ],
)
def test_capitalised_sequences_are_unlabelled_as_a_whole(synthesizer: Synthesizer, text: str, expected: list[str]) -> None:
    _, unlabelled = Passages(synthesizer._names).spans(text, {"Quillfeather": 0, "Zorpville": 1, "Brelland": 2})
    assert [text[start:end] for start, end in unlabelled] == expected


def test_some_entities_of_passages_count_as_unknown(synthesizer: Synthesizer) -> None:
    rows = [m.row for s in synthesizer.make("passage", 500, 5) for m in s.mentions or ()]
    assert 0.03 < rows.count(-1) / len(rows) < 0.2


def test_a_place_names_its_team_in_texts_about_play_only(synthesizer: Synthesizer) -> None:
    rows: dict[str, set[int]] = defaultdict(set)
    texts: dict[int, set[str]] = defaultdict(set)
    for sample in synthesizer.make("sport", 500, 5):
        for mention in sample.mentions or ():
            rows[sample.text[mention.start : mention.end]].add(mention.row)
            if len(sample.mentions or ()) == 1:
                texts[mention.row].add(re.sub("Zorpville|Quondle", "X", sample.text))
    assert rows["Zorpville"] == {1, 5}
    assert rows["Quondle"] == {6, 10}
    assert rows["Bears"] == {6}
    assert not texts[1] & texts[5]


def test_the_context_tells_entities_of_a_shared_name(synthesizer: Synthesizer) -> None:
    samples = synthesizer.make("lookalike", 600, 5)
    texts = {row: {s.text for s in samples for m in s.mentions or () if m.row == row} for row in (3, 4)}
    assert texts[3]
    assert texts[4]
    assert not texts[3] & texts[4]
    assert all("planet" in text or "old stories" in text for text in texts[3])


def test_traps_are_not_mentions(synthesizer: Synthesizer) -> None:
    samples = synthesizer.make("notname", 600, 5)
    first_names = [s for s in samples if s.text == "Georgina said he would be late"]
    assert first_names
    assert all(not s.mentions for s in first_names)
    assert {m.row for s in samples for m in s.mentions or () if s.text[m.start : m.end] == "Georgina"} == {11}


def test_composed_names_are_unknown_as_a_whole(synthesizer: Synthesizer) -> None:
    titles = {line["title"] for line in LINES}
    samples = synthesizer.make("notname", 600, 5)
    unknown = {s.text[m.start : m.end] for s in samples for m in s.mentions or () if m.row == -1}
    assert len(unknown) > 20
    assert not unknown & titles
    assert any("Zorpville " in form or " Zorpville" in form or "Georgina" in form for form in unknown)


def test_lists_label_each_name_alone(synthesizer: Synthesizer) -> None:
    for sample in synthesizer.make("enumeration", 300, 5):
        names = [sample.text[m.start : m.end] for m in sample.mentions or ()]
        assert 3 <= len(names) <= 8
        assert all(LINES[m.row]["title"].split(" (")[0] == n for m, n in zip(sample.mentions or (), names, strict=True))
        assert all(sample.text[m.start - 1 : m.start] not in ("#", "@") for m in sample.mentions or ())


@pytest.mark.parametrize("source", NEW)
def test_sources_need_material(tmp_path: Path, source: str) -> None:
    path = tmp_path / "entity.jsonl"
    path.write_text(json.dumps({"title": "zorp", "text": "a river"}) + "\n")
    with Catalogue.open(path) as catalogue, pytest.raises(SettingsError, match="needs a catalogue with"):
        Synthesizer(catalogue, [], []).make(source, 1, 0)

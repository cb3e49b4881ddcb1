"""Gold that cannot be right is said: offsets in other units, spans that no model proposes, ids that are unknown."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from blink.data.ids import wikidata_id
from blink.data.mention_files import bind, labelled_samples, parse_row, read_samples
from blink.data.mention_store import MentionStore
from blink.data.offsets import CHARACTERS, ENCODINGS, UnitCounts, cuts_word, in_characters, inside_word
from blink.data.records import Mention, Sample
from blink.errors import DataError
from blink.kb.catalogue import Catalogue
from blink.model.config import ModelConfig
from blink.model.gold_checks import GoldChecker
from tests import toys

pytestmark = pytest.mark.quick

LETTERS = string.ascii_letters + "éßøñĂжЯ中語かหัꙮ𝒳𐍈🎉😀👩‍👩‍👧"
WORDS = st.text(st.sampled_from(LETTERS), min_size=1, max_size=9)
NAMES = st.text(st.sampled_from(string.ascii_letters + "éñжЯ"), min_size=2, max_size=9)
BLANKS = st.sampled_from([" ", "\n", ", ", " – ", "… ", " “"])
UNITS = tuple(ENCODINGS)


@st.composite
def labelled_texts(draw: st.DrawFn) -> Sample:
    """A text of words, some of which are gold mentions, with offsets in characters."""
    text, mentions = draw(st.sampled_from(["", "😀😀 ", "é ", "“"])), []
    for word, is_gold in draw(
        st.lists(st.one_of(st.tuples(WORDS, st.just(False)), st.tuples(NAMES, st.just(True))), max_size=8)
    ):
        if is_gold:
            mentions.append(Mention(len(text), len(text) + len(word), kb_id="Q1"))
        text += word + draw(BLANKS)
    return Sample("x", text, tuple(mentions))


def encoded(sample: Sample, unit: str) -> dict[str, Any]:
    """The row of a sample with offsets in a unit."""

    def offset(position: int) -> int:
        codec, width = ENCODINGS.get(unit, ("utf-32-le", 4))  # type: ignore[call-overload]
        return len(sample.text[:position].encode(codec)) // width

    spans = [[offset(m.start), offset(m.end)] for m in sample.mentions or ()]
    return {"text": sample.text, "mentions": spans, "wikidata_id": ["Q1"] * len(spans)}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def spans(samples: Sequence[Sample]) -> list[list[tuple[int, int]]]:
    return [[(m.start, m.end) for m in s.mentions or ()] for s in samples]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(labelled_texts(), min_size=1, max_size=6))
@pytest.mark.parametrize("unit", [CHARACTERS, *UNITS])
def test_offsets_of_any_unit_become_characters(unit: str, texts: list[Sample], tmp_path: Path) -> None:
    rows = [encoded(sample, unit) for sample in texts]
    stored = [
        Sample("x", s.text, tuple(Mention(*span) for span in row["mentions"])) for s, row in zip(texts, rows, strict=True)
    ]
    counts = UnitCounts().add(stored)
    # Now and then the offsets of one unit fit the words in another too: then nothing may be converted.
    if unit != CHARACTERS:
        assume(counts.misfits[CHARACTERS] > 0)
        assume(all(counts.misfits[other] for other in UNITS if other != unit))
    path = write(tmp_path / "mentions.jsonl", rows)
    assert spans(list(read_samples(path))) == spans(texts)
    store = MentionStore([path], Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows(3))), tmp_path)
    assert spans(list(store)) == spans(texts)
    store.close()


@given(sample=labelled_texts(), unit=st.sampled_from([CHARACTERS, *UNITS]))
def test_conversion_inverts_encoding(sample: Sample, unit: Any) -> None:
    row = encoded(sample, unit)
    stored = Sample("x", sample.text, tuple(Mention(*span) for span in row["mentions"]))
    assert spans([in_characters(stored, unit)]) == spans([sample])


@given(sample=labelled_texts())
def test_spans_of_words_cut_none(sample: Sample) -> None:
    for mention in sample.mentions or ():
        assert not cuts_word(sample.text, mention.start, mention.end)
        if mention.end - mention.start > 2:
            assert cuts_word(sample.text, mention.start + 1, mention.end)


@pytest.mark.parametrize(
    ("text", "position", "inside"),
    [("Mozarts", 6, True), ("Mozart's", 6, False), ("Paris-based", 5, False), ("e\u0301a", 1, True), ("e\u0301a", 2, True),
     ("東京都", 2, False), ("파리에", 2, False), ("กรุงเทพ", 2, False), ("a_b", 1, False), ("ab", 0, False), ("ab", 2, False),
     ("😀ab", 1, False), ("F1", 1, True)],
)  # fmt: skip
def test_inside_a_word(text: str, position: int, inside: bool) -> None:
    assert inside_word(text, position) is inside


class TestUnits:
    TEXT = "😀😀 Mozart was born in Salzburg and died in Vienna."

    def rows(self, *bounds: tuple[int, int]) -> list[dict[str, Any]]:
        return [{"text": self.TEXT, "mentions": [list(b) for b in bounds], "wikidata_id": ["Q254"] * len(bounds)}]

    @pytest.mark.parametrize(("by", "unit"), [(6, "bytes of UTF-8"), (2, "code units of UTF-16")])
    def test_a_file_says_that_it_was_converted(
        self, by: int, unit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # The last mention lies outside the text in characters.
        path = write(tmp_path / "m.jsonl", self.rows((3 + by, 9 + by), (43 + by, 49 + by)))
        (sample,) = read_samples(path)
        assert [sample.text[m.start : m.end] for m in sample.mentions or ()] == ["Mozart", "Vienna"]
        (record,) = caplog.records
        assert f"{path}: offsets are {unit}, not characters" in record.getMessage()
        assert "2 of 2 gold spans" in record.getMessage()

    def test_unlabelled_spans_are_converted_too(self) -> None:
        row = self.rows((9, 15))[0] | {"unlabelled": [[49, 55]]}
        sample = parse_row(row, unit="bytes of UTF-8")
        assert [self.TEXT[start:end] for start, end in sample.unlabelled] == ["Vienna"]

    def test_characters_are_no_news(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        list(read_samples(write(tmp_path / "m.jsonl", self.rows((3, 9), (43, 49), (4, 9)))))
        assert not caplog.records

    def test_titles_count_as_words(self) -> None:
        text = "é unMozartlike and Wien"
        sample = Sample("x", text, (Mention(4, 10, title="mozart"), Mention(19, 23)))
        assert UnitCounts().add([sample]).misfits[CHARACTERS] == 0

    def test_legacy_rows_have_no_offsets(self, tmp_path: Path) -> None:
        row = {"context_left": ["é un"], "mention": ["Mozart"], "context_right": ["like"], "wikidata_id": ["Q254"]}
        (sample,) = read_samples(write(tmp_path / "m.jsonl", [row]))
        assert spans([sample]) == [[(4, 10)]]

    @pytest.mark.parametrize("bounds", [(4, 7), (90, 95)])
    def test_what_does_not_convert_is_refused(self, bounds: tuple[int, int]) -> None:
        with pytest.raises(DataError, match="outside the text or inside a character"):
            parse_row(self.rows(bounds)[0], unit="bytes of UTF-8")


@pytest.mark.parametrize(
    "form",
    ["Q104", "wd:Q104", "/wiki/Q104", "http://www.wikidata.org/entity/Q104", "https://www.wikidata.org/wiki/Q104#sitelinks",
     "<http://www.wikidata.org/entity/Q104>", "https://wikidata.org/wiki/Special:EntityData/Q104.json", "wikidata:Q104"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "http://www.wikidata.org/entity/", "wd:"])
def test_ids_in_any_form(form: str, prefix: str, tmp_path: Path) -> None:
    assert wikidata_id(form) == "Q104"
    lines = [{"title": f"E{i}", "kb_idx": f"{prefix}Q{100 + i}"} for i in range(9)]
    catalogue = Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", lines))
    assert catalogue.row_of(form) == 4
    assert catalogue.row_of(form.replace("104", "204")) is None
    (sample,) = bind([Sample("x", "ab cd", (Mention(0, 2, 4, form), Mention(3, 5, 7, form)))], catalogue)
    assert [m.row for m in sample.mentions or ()] == [4, 4]


@pytest.mark.parametrize(
    "other", ["Q0", "P31", "/m/0jcx", "http://example.org/wiki/Q42", "http://wiki/Q42", "Q4 2", "q42", "Q42x", ""]
)
def test_other_ids(other: str) -> None:
    assert wikidata_id(other) is None


class TestChecker:
    @pytest.fixture
    def catalogue(self, tmp_path: Path) -> Catalogue:
        return Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows(9)))

    def said(self, catalogue: Catalogue, samples: Sequence[Sample], require_ids: bool = False, **config: Any) -> list[str]:
        lines: list[str] = []
        model = ModelConfig(**{"max_mention_length": 2, "whole_words": True, **config})
        GoldChecker(toys.tokenizer(), model, catalogue, lines.append)("f.jsonl", samples, require_ids=require_ids)
        return lines

    def sample(self, text: str, *bounds: tuple[int, int], **about: Any) -> Sample:
        return Sample("s", text, tuple(Mention(*b, **{"row": 1, **about}) for b in bounds))

    RIGHT = Sample("r", "in Oslo there", (Mention(3, 7, 1),))

    @pytest.mark.parametrize(
        ("text", "bounds", "problem"),
        [
            ("unMozartlike", (2, 8), "1 of 2 gold spans begin or end inside a word (the first: 'Mozart' in 's')"),
            ("the city of new york", (0, 20), "1 of 2 gold spans are longer than 3 tokens, the most of a mention"),
            ("an  island", (2, 4), "1 of 2 gold spans touch no token"),
        ],
    )
    def test_what_is_wrong_is_said(self, catalogue: Catalogue, text: str, bounds: tuple[int, int], problem: str) -> None:
        wrong = self.sample(text, bounds)
        (line,) = self.said(catalogue, [wrong, self.RIGHT])
        assert line.startswith(f"f.jsonl: {problem}")
        with pytest.raises(DataError, match=r"^f\.jsonl: the model can propose none of the gold spans: 1 of 1") as caught:
            self.said(catalogue, [wrong])
        assert "\n" not in str(caught.value)

    def test_right_gold_is_no_news(self, catalogue: Catalogue) -> None:
        samples = [self.sample("the city of york, in oslo", (9, 16), (21, 25)), Sample("n", "nothing", ()), Sample("u", "x")]
        assert self.said(catalogue, samples) == []

    def test_a_model_of_parts_of_words_may_propose_them(self, catalogue: Catalogue) -> None:
        tokens = toys.tokenizer().tokenize(["unMozartlike"])[0].offsets.tolist()
        inner = self.sample("unMozartlike", (tokens[1][0], tokens[1][1]))
        assert len(self.said(catalogue, [inner], whole_words=False)) == 1
        with pytest.raises(DataError):
            self.said(catalogue, [inner], whole_words=True)

    def test_unknown_ids(self, catalogue: Catalogue) -> None:
        nil = self.sample("in Rome", (3, 7), row=-1, kb_id="/m/0x")
        (line,) = self.said(catalogue, [nil])
        assert "none of the 1 gold ids is in the catalogue (the first: '/m/0x', the catalogue has ids such as 'Q101')" in line
        with pytest.raises(DataError, match="none of the 1 gold ids"):
            self.said(catalogue, [nil], require_ids=True)
        assert self.said(catalogue, [nil, self.RIGHT], require_ids=True) == []
        unnamed = self.sample("in Rome", (3, 7), row=-1)
        assert self.said(catalogue, [unnamed], require_ids=True) == []

    def test_ends_that_are_included(self, catalogue: Catalogue) -> None:
        with pytest.raises(DataError, match="words if they ended one character later: the end is excluded"):
            self.said(catalogue, [self.sample("in Oslo or Rome", (3, 6), (11, 14))])
        (line,) = self.said(catalogue, [self.sample("in Oslo or Rome", (3, 6), (11, 15))])
        assert "later" not in line

    def test_rows_of_another_catalogue(self, catalogue: Catalogue) -> None:
        named = [self.sample("in Oslo", (3, 7), row=row, title=catalogue.title(row).upper()) for row in range(9)]
        alias = self.sample("in Oslo", (3, 7), row=1, title=catalogue[1].aliases[0])
        other = self.sample("in Oslo", (3, 7), row=5, title="Oslo")
        assert self.said(catalogue, [*named, alias, other]) == []
        (line,) = self.said(catalogue, [other, other, alias])
        assert "2 of 3 gold rows ('label_id') have other titles in the catalogue (the first: 'Oslo' in 's')" in line
        known = self.sample("in Oslo", (3, 7), row=5, title="Oslo", kb_id="Q105")
        assert self.said(catalogue, [known]) == []

    def test_of_many_texts_a_sample_is_checked(self, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("blink.model.gold_checks.MAX_CHECKED_TEXTS", 4)
        wrong = self.sample("unMozartlike", (2, 8))
        (line,) = self.said(catalogue, [wrong, wrong, self.RIGHT, self.RIGHT] * 2)
        assert "2 of 4 gold spans, in one of 2 texts, begin" in line

    @given(sample=labelled_texts())
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_words_are_never_impossible(self, catalogue: Catalogue, sample: Sample) -> None:
        counts = GoldChecker(toys.tokenizer(), ModelConfig(max_mention_length=40, whole_words=True), catalogue).count([sample])
        assert (counts.cut.count, counts.impossible.count) == (0, 0)


def test_files_are_checked_where_they_are_read(tmp_path: Path) -> None:
    catalogue = Catalogue.open(toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows(9)))
    path = write(tmp_path / "m.jsonl", [{"text": "in Oslo", "mentions": [[3, 7]], "label_id": [1]}])
    calls: list[tuple[str, int]] = []
    labelled_samples(str(path), catalogue, lambda file, samples: calls.append((file, len(samples))))
    assert calls == [(str(path), 1)]


def test_a_catalogue_that_is_an_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "entity.jsonl"
    path.write_text('\ufeff [\n {"title": "A"},\n {"title": "B"}\n]\n', encoding="utf-8")
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=r"is a JSON array .*; a catalogue has one JSON object a line: blink kb build"):
            Catalogue.open(path, skip_bad=skip_bad)

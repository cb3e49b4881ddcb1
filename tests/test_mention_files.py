"""Mention files: each layout by an example, whatever is broken by its line, and the binding to another catalogue."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data.mention_files import LAYOUTS, bind, parse_row, read_samples
from blink.data.records import NOT_IN_CATALOGUE, Entity, Mention, Sample, TokenMention
from blink.errors import DataError, MissingFileError

pytestmark = pytest.mark.quick

LABELLED: dict[str, Any] = {
    "id": "toy-1",
    "text": "does oslo lie in norway?",
    "mentions": [[17, 23], [5, 9]],
    "tokenized_text_ids": [2515, 9977, 4682, 1999, 5120, 1029],
    "tokenized_mention_idxs": [[4, 5], [1, 2]],
    "label_id": [20, 585],
    "wikidata_id": ["Q20", None],
    "entity": ["Norway", "Oslo"],
    "label": ["a country", "a city"],
    "category": ["place", "place"],
    "text_chunks": [],
}
LEGACY: dict[str, Any] = {
    "question_id": "old-7",
    "context_left": ["", "ravel wrote "],
    "mention": ["ravel", "bolero"],
    "context_right": [" wrote bolero", ""],
    "label": ["a composer", "a piece"],
    "title": ["Maurice Ravel", "Boléro"],
    "entity": ["Maurice Ravel", "Boléro"],
    "label_id": [3, -1],
    "wikidata_id": ["Q1178", None],
}
RAW: dict[str, Any] = {
    "question_id": "raw-1",
    "utterance": "who built the eiffel tower in paris",
    "entities": ["Q243", None, "Q90"],
    "entities_pos": [[14, 26], [30, 35], [-1, -1]],
    "entities_fb": ["m.02j81", "m.05qtj"],
    "main_entity": None,
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in keys}


# --- layouts --------------------------------------------------------------------------------------------------------


def test_a_labelled_row() -> None:
    sample = parse_row(LABELLED)
    assert sample.id == "toy-1"
    assert sample.mentions == (Mention(17, 23, 20, "Q20", "Norway"), Mention(5, 9, 585, None, "Oslo"))
    assert [sample.text[m.start : m.end] for m in sample.mentions] == ["norway", "oslo"]
    assert sample.token_ids == (2515, 9977, 4682, 1999, 5120, 1029)
    assert sample.token_mentions == (TokenMention(4, 5, 20), TokenMention(1, 2, 585))
    assert sample.labelled
    assert sample.covered


def test_only_positions_and_one_kind_of_label_are_needed() -> None:
    only_rows = parse_row({"text": "oslo", "mentions": [[0, 4]], "label_id": [5]})
    assert only_rows.mentions == (Mention(0, 4, 5, None, None),)
    assert (only_rows.token_ids, only_rows.token_mentions) == (None, None)
    only_ids = parse_row({"text": "oslo", "mentions": [[0, 4]], "wikidata_id": ["Q585"]})
    assert only_ids.mentions == (Mention(0, 4, NOT_IN_CATALOGUE, "Q585", None),)


def test_a_row_of_minus_one_is_gold_that_the_catalogue_lacks() -> None:
    sample = parse_row({"text": "oslo", "mentions": [[0, 4]], "label_id": [-1]})
    assert sample.mentions == (Mention(0, 4, NOT_IN_CATALOGUE),)
    assert sample.labelled
    assert not sample.covered


@pytest.mark.parametrize(
    "row",
    [
        {"text": "hello", "mentions": [], "label_id": []},
        {"text": "hello", "mentions": []},
        {"text": "hello", "label_id": []},
        {"text": "hello", "mentions": None, "label_id": []},
    ],
)
def test_a_row_labelled_as_having_no_mentions_is_labelled(row: dict[str, Any]) -> None:
    sample = parse_row(row)
    assert sample.mentions == ()
    assert sample.labelled
    assert sample.covered


@pytest.mark.parametrize(
    "row", [{"text": "hi"}, {"text": "hi", "answers": ["a"]}, {"text": "hi", "mentions": None}, {"id": 3, "text": "hi"}]
)
def test_an_unlabelled_row(row: dict[str, Any]) -> None:
    sample = parse_row(row, default_id="9")
    assert sample == Sample(str(row.get("id", 9)), "hi")
    assert not sample.labelled
    assert not sample.covered


@pytest.mark.parametrize("text", [{}, {"text": None}, {"text": "does oslo lie in norway?"}])
def test_a_tokenised_row_without_characters(text: dict[str, Any]) -> None:
    row = without(LABELLED, "text", "mentions") | text
    sample = parse_row(row)
    assert sample.text == (text.get("text") or "")
    assert sample.mentions is None
    assert sample.token_ids == tuple(LABELLED["tokenized_text_ids"])
    assert sample.token_mentions == (TokenMention(4, 5, 20), TokenMention(1, 2, 585))
    assert sample.labelled
    assert sample.covered


def test_stored_word_pieces_without_labels_are_kept() -> None:
    sample = parse_row({"text": "hi", "tokenized_text_ids": [7632]})
    assert (sample.token_ids, sample.token_mentions, sample.labelled) == ((7632,), None, False)


def test_a_legacy_row() -> None:
    sample = parse_row(LEGACY)
    assert sample.id == "old-7"
    assert sample.text == "ravel wrote bolero"
    assert sample.mentions == (Mention(0, 5, 3, "Q1178", "Maurice Ravel"), Mention(12, 18, -1, None, "Boléro"))
    assert not sample.covered


def test_a_raw_question_keeps_what_has_a_place() -> None:
    sample = parse_row(RAW)
    assert sample.id == "raw-1"
    assert sample.text == RAW["utterance"]
    assert sample.mentions == (Mention(14, 26, -1, "Q243"), Mention(30, 35, -1, None))
    assert parse_row({"utterance": "hm", "question_id": 4}).mentions == ()


def test_a_raw_array_is_read_whole_and_its_rows_counted(tmp_path: Path) -> None:
    path = tmp_path / "raw.json"
    path.write_text("\ufeff \n" + json.dumps([RAW, without(RAW, "question_id")], indent=1), encoding="utf-8")
    assert [s.id for s in read_samples(path)] == ["raw-1", "1"]
    path.write_text(json.dumps([RAW, without(RAW, "utterance")]))
    with pytest.raises(DataError, match=r"raw\.json, line 2: a row needs one of the keys"):
        list(read_samples(path))


def test_layouts_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", LABELLED, {"text": "hi"}, LEGACY, RAW, without(LABELLED, "text", "mentions"))
    assert [s.labelled for s in read_samples(path)] == [True, False, True, True, True]
    assert [s.id for s in read_samples(path)] == ["toy-1", "1", "old-7", "raw-1", "toy-1"]


@pytest.mark.parametrize("row", [LABELLED, LEGACY, RAW, without(LABELLED, "text", "mentions")])
def test_reading_a_row_changes_nothing_of_it(row: dict[str, Any]) -> None:
    before = copy.deepcopy(row)
    parse_row(row)
    assert row == before


# --- the file -------------------------------------------------------------------------------------------------------


def test_byte_order_mark_line_ends_and_blank_lines_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n   \n{"text": "two\xc3\xa9"}')
    assert [(s.id, s.text) for s in read_samples(path)] == [("0", "one"), ("1", "twoé")]


def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' * 3 + "broken")
    samples = read_samples(path)
    assert [next(samples).text for _ in range(3)] == ["one"] * 3
    with pytest.raises(DataError, match="line 4"):
        next(samples)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="is empty"):
        list(read_samples(tmp_path / "a.jsonl"))


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        list(read_samples(tmp_path / "no.jsonl"))
    with pytest.raises(MissingFileError, match="is a folder"):
        list(read_samples(tmp_path))


@pytest.mark.parametrize("content", ["[1, 2", "[{", "[\xff"])
def test_a_broken_array_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match="begins as a JSON array"):
        list(read_samples(tmp_path / "a.json"))


OSLO = {"text": "oslo", "mentions": [[0, 4]], "label_id": [5]}
BROKEN: dict[str, Any] = {
    "not an object": [1],
    "no known key": {"question": "hi"},
    "text is no string": {"text": 5},
    "no text beside mentions": without(LABELLED, "text", "tokenized_text_ids"),
    "mentions without labels": {"text": "oslo", "mentions": [[0, 4]]},
    "labels without mentions": {"text": "oslo", "label_id": [5]},
    "labels and mentions null": {"text": "oslo", "mentions": None, "label_id": [5]},
    "too few rows": OSLO | {"label_id": []},
    "too many ids": OSLO | {"wikidata_id": ["Q1", "Q2"]},
    "a row that is no list": OSLO | {"label_id": 5},
    "mentions that are no list": OSLO | {"mentions": {"0": 4}},
    "three offsets": OSLO | {"mentions": [[0, 4, 4]]},
    "an offset that is no number": OSLO | {"mentions": [[0, "end"]]},
    "a row that is no number": OSLO | {"label_id": ["Q5"]},
    "a row without end": OSLO | {"label_id": [float("inf")]},
    "beyond the text": OSLO | {"mentions": [[0, 5]]},
    "before the text": OSLO | {"mentions": [[-1, 2]]},
    "empty mention": OSLO | {"mentions": [[2, 2]]},
    "reversed mention": OSLO | {"mentions": [[3, 1]]},
    "token span beyond the pieces": LABELLED | {"tokenized_mention_idxs": [[4, 7], [1, 2]]},
    "token span empty": LABELLED | {"tokenized_mention_idxs": [[4, 4], [1, 2]]},
    "fewer token spans": LABELLED | {"tokenized_mention_idxs": [[4, 5]]},
    "token spans without pieces": {"text": "oslo", "label_id": [5], "tokenized_mention_idxs": [[0, 1]]},
    "legacy of two texts": LEGACY | {"context_right": [" wrote bolero", "!"]},
    "legacy of unequal lists": LEGACY | {"mention": ["ravel"]},
    "legacy without right side": without(LEGACY, "context_right"),
    "legacy of one string": LEGACY | {"context_left": "ravel"},
    "raw of unequal lists": RAW | {"entities": ["Q243"]},
    "raw outside": RAW | {"entities_pos": [[14, 99], [30, 35], [-1, -1]]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "fine"}, BROKEN[name])
    samples = read_samples(path)
    assert next(samples).text == "fine"
    with pytest.raises(DataError, match=r"^.*a\.jsonl, line 2: ") as caught:
        next(samples)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
KEYS = [*LAYOUTS, "id", "mentions", "label_id", "wikidata_id", "tokenized_mention_idxs", "mention", "context_right", "entities",
        "entities_pos"]  # fmt: skip


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "a.jsonl"


@given(row=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6))
def test_any_object_is_a_sample_or_a_clear_error(row: dict[str, Any], any_file: Path) -> None:
    path = write(any_file, row)
    try:
        (sample,) = read_samples(path)
    except DataError as error:
        assert "line 1" in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert all(0 <= m.start < m.end <= len(sample.text) for m in sample.mentions or ())


# --- binding --------------------------------------------------------------------------------------------------------


class SmallCatalogue:
    """A catalogue of three rows; the second has no id."""

    ids = ("Q20", None, "Q585")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Entity:
        return Entity(row, f"entity {row}", kb_id=self.ids[row])

    def row_of(self, kb_id: str) -> int | None:
        return self.ids.index(kb_id) if kb_id in self.ids else None


CATALOGUE = SmallCatalogue()


@pytest.mark.parametrize(
    ("row", "kb_id", "expected"),
    [
        (0, "Q20", 0),  # agrees
        (2, "Q20", 0),  # stored for another catalogue: found by id
        (99, "Q585", 2),  # beyond this catalogue: found by id
        (99, "Q1", NOT_IN_CATALOGUE),
        (0, "Q1", NOT_IN_CATALOGUE),  # row 0 is somebody else
        (1, "Q1", 1),  # the catalogue has no id to compare
        (-1, "Q585", 2),
        (-1, "Q1", NOT_IN_CATALOGUE),
        (2, None, 2),
        (-1, None, NOT_IN_CATALOGUE),
    ],
)
def test_binding_trusts_ids_over_rows(row: int, kb_id: str | None, expected: int) -> None:
    sample = Sample("x", "oslo", (Mention(0, 4, row, kb_id, "Oslo"),))
    (bound,) = bind([sample], CATALOGUE)
    assert bound.mentions == (Mention(0, 4, expected, kb_id, "Oslo"),)
    assert sample.mentions is not None
    assert sample.mentions[0].row == row


def test_binding_leaves_unlabelled_and_tokenised_samples_alone() -> None:
    samples = [Sample("a", "hi"), Sample("b", "", None, (1, 2), (TokenMention(0, 1, 7),))]
    assert list(bind(samples, CATALOGUE)) == samples


def test_binding_moves_the_token_mentions_along() -> None:
    sample = Sample("x", "oslo", (Mention(0, 4, 2, "Q20"),), (9415,), (TokenMention(0, 1, 2),))
    (bound,) = bind([sample], CATALOGUE)
    assert bound.token_mentions == (TokenMention(0, 1, 0),)


def test_binding_is_idempotent() -> None:
    samples = [Sample("x", "oslo", tuple(Mention(0, 4, r, q) for r in (-1, 0, 2, 9) for q in (None, "Q20", "Q585", "Q1")))]
    once = list(bind(samples, CATALOGUE))
    assert list(bind(once, CATALOGUE)) == once


CASED: dict[str, Any] = LABELLED | {"text_cased": "Does Oslo lie in Norway?"}


def test_texts_under_another_key_keep_the_offsets(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cased.jsonl", CASED, {"text": "oslo", "text_cased": "Oslo"}, RAW | {"text_cased": RAW["utterance"].title()}
    )
    plain, cased = list(read_samples(path)), list(read_samples(path, "text_cased"))
    assert [s.text for s in cased] == ["Does Oslo lie in Norway?", "Oslo", "Who Built The Eiffel Tower In Paris"]
    assert [s.mentions for s in cased] == [s.mentions for s in plain]
    assert cased[0].token_ids is cased[0].token_mentions is None  # they are of the other spelling
    assert list(read_samples(path, "text")) == plain
    assert plain[0].token_ids is not None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (without(CASED, "text_cased"), "'text_cased' must be a string, the row has only 'id', 'text'"),
        (CASED | {"text_cased": 5}, "'text_cased' must be a string, found int"),
        (CASED | {"text_cased": "Does Oslo lie in Norway"}, "has 23 characters and the row's own text 24; offsets"),
        (without(CASED, "mentions"), "gold in tokens does not carry over"),
    ],
)
def test_what_is_no_other_spelling_is_named_by_its_line(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match="line 2: ") as caught:
        list(read_samples(write(tmp_path / "cased.jsonl", CASED, row), "text_cased"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

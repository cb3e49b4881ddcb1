"""Mention files on disk: the same samples as reading them whole, one line at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from damage import KINDS, Damage
from hypothesis import given
from hypothesis import strategies as st
from toys import rows, write_catalogue

from blink.data.mention_files import bind, read_samples
from blink.data.mention_store import MentionStore, line_table
from blink.errors import DataError, MismatchError, MissingFileError
from blink.kb.catalogue import Catalogue

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue.open(write_catalogue(tmp_path_factory.mktemp("catalogue") / "entity.jsonl", rows(12)))


LABELLED = [
    {"id": "a", "text": "Georgia 0 is old", "mentions": [[0, 9]], "label_id": [0]},
    {"text": "who is in Tbilisi?", "mentions": [[10, 17]], "label_id": [3], "wikidata_id": ["Q101"]},
    {"tokenized_text_ids": [2040, 2003, 3099], "tokenized_mention_idxs": [[2, 3]], "label_id": [4]},
    {"text": "nothing at all", "mentions": [], "label_id": []},
    {"text": "Ångström ☃ 東京", "mentions": [[11, 13]], "label_id": [5]},
]


@given(
    st.lists(st.sampled_from(LABELLED), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n  \n"]),
    st.booleans(),
    st.booleans(),
)
def test_it_holds_what_reading_whole_gives(
    catalogue: Catalogue,
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[dict[str, object]],
    end: str,
    last: bool,
    bom: bool,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    text = end.join(json.dumps(line, ensure_ascii=False) for line in lines) + (end if last else "")
    path = folder / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    store = MentionStore([path], catalogue, folder / "offsets")
    assert list(store) == list(bind(read_samples(path), catalogue))
    assert len(store.line_bytes) == len(store) == len(lines)
    assert store[-1:] == [store[len(lines) - 1]]
    store.close()


def test_files_follow_each_other(catalogue: Catalogue, tmp_path: Path) -> None:
    paths = []
    for name, lines in (("one", LABELLED[:2]), ("two", LABELLED[2:])):
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    store = MentionStore(paths, catalogue, tmp_path / "offsets")
    assert [s.text for s in store] == [str(line.get("text", "")) for line in LABELLED]
    with pytest.raises(IndexError):
        store[5]


def test_a_changed_file_gets_a_table_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n')
    assert line_table(path, tmp_path / "o").tolist() == [[0, 14]]
    path.write_text('{"text": "x"}\n{"text": "longer"}\n')
    assert line_table(path, tmp_path / "o")[:, 0].tolist() == [0, 14]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("", DataError, "is empty"),
        ('[{"text": "x"}]', DataError, "one JSON array"),
        ('{"text": "x"}\n{"text": 5}\n', DataError, "row 2: 'text' must be a string"),
        ('{"text": "x"}\n{"text": \n', DataError, "line 2: not JSON"),
        ('{"text": "x", "mentions": [[0, 1]], "label_id": [99]}\n', MismatchError, "row 99 of a catalogue that has 12"),
        ('{"text": "x", "mentions": [3], "label_id": [1]}\n', DataError, "row 1: malformed row"),
    ],
)
def test_what_cannot_be_read(catalogue: Catalogue, tmp_path: Path, content: str, error: type[Exception], words: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(content)
    with pytest.raises(error) as caught:
        list(MentionStore([path], catalogue, tmp_path / "offsets"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        MentionStore([tmp_path / "none.jsonl"], catalogue, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("swap", "delete")])
def test_a_damaged_table_of_offsets_is_written_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"id": {i}}}\n' for i in range(9)))
    whole = np.array(line_table(path, tmp_path / "offsets"))
    (table,) = (tmp_path / "offsets").iterdir()
    assert Damage(kind, 1).apply(table)
    assert np.array_equal(line_table(path, tmp_path / "offsets"), whole)


def test_a_line_that_is_too_long_is_named_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "mentions": []}\n' * 3)
    os.truncate(path, 1 << 34)
    with pytest.raises(DataError, match="line 4: a line of a text file"):
        line_table(path, tmp_path / "offsets")

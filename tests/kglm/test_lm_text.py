"""Words, vocabularies, text files and batches of lines."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import DataError, MissingFileError, SettingsError
from blink.kglm.lm.corpus import LineStream, bucketed, encode, read_lines, read_words
from blink.kglm.lm.vocabulary import BOS, EOS, PAD, RESERVED, UNK, Vocabulary, build_vocabulary, count_words
from blink.kglm.lm.words import name_words, surface_text, text_words

pytestmark = pytest.mark.quick

LINES = ["the cat sat", "the dog sat down", "a cat", "the end"]


def toy_vocabulary(size: int = 0) -> Vocabulary:
    return build_vocabulary(count_words([text_words(line) for line in LINES]), size)


def test_punctuation_goes_but_in_tokens_with_underscores() -> None:
    assert text_words("Al Jolson (born Asa; [o.s. 28 May] 1886 – d.) Lithuanian-American") == [
        "al", "jolson", "born", "asa", "os", "28", "may", "1886", "–", "d", "lithuanianamerican",
    ]  # fmt: skip
    assert text_words("New_York,_N.Y. -- !? _") == ["new", "york,", "n.y."]
    assert name_words("New_York, N.Y. (city)") == ["new", "york", "ny", "city"]


def test_annotations_leave_their_surface() -> None:
    assert surface_text("born in @Paris/m.05qtj , @ noon @x") == "born in Paris , @ noon x"


@given(st.text())
def test_words_are_lower_case_and_never_empty(text: str) -> None:
    for words in (text_words(text), name_words(text)):
        assert all(word and word == word.lower() and not set(word) & set(" \t\n") for word in words)


def test_a_vocabulary_keeps_the_most_frequent_then_the_first_in_the_alphabet() -> None:
    vocabulary = toy_vocabulary(4)
    assert vocabulary.words == ("the", "cat", "sat", "a")
    assert vocabulary.counts == (3, 2, 2, 1)
    assert [vocabulary.id(w) for w in ("the", "a", "dog", "unk")] == [4, 7, UNK, UNK]
    assert len(vocabulary) == 8
    assert vocabulary.text([BOS, 4, 5, UNK, EOS, PAD]) == "the cat unk"
    assert build_vocabulary(Counter({"x": 1, "y": 2}), 0, least_count=2).words == ("y",)


def test_reserved_spellings_are_no_words() -> None:
    vocabulary = build_vocabulary(Counter(dict.fromkeys(RESERVED, 9) | {"x": 1}), 0)
    assert vocabulary.words == ("x",)


def test_a_vocabulary_without_words_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"no word is left of 1 at vocabulary\.least_count 5"):
        build_vocabulary(Counter({"x": 1}), 10, least_count=5)


def test_a_vocabulary_comes_back_from_its_file(tmp_path: Path) -> None:
    vocabulary = toy_vocabulary()
    vocabulary.save(tmp_path / "v.tsv")
    again = Vocabulary.load(tmp_path / "v.tsv")
    assert again == vocabulary
    assert again.digest == vocabulary.digest != toy_vocabulary(3).digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no words"),
        (b"a\nb\na\n", "'a' twice"),
        (b"unk\t3\n", "'unk' twice, or as a reserved"),
        (b"a\tmany\n", "line 1"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_a_broken_vocabulary_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "v.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Vocabulary.load(tmp_path / "v.tsv")


def test_plain_and_packed_text_and_summaries_are_read(tmp_path: Path) -> None:
    text = "Erste Zeile\n\nzweite ä\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    summaries = tmp_path / "summaries"
    summaries.mkdir()
    (summaries / "b.sm").write_text("@B/m.1 is\nsecond .", encoding="utf-8")
    (summaries / "a.sm").write_text("@A/m.2 is first", encoding="utf-8")
    expected = ["Erste Zeile", "", "zweite ä"]
    assert list(read_lines(tmp_path / "a.txt")) == list(read_lines(tmp_path / "a.txt.gz")) == expected
    assert list(read_lines(summaries)) == ["A is first", "B is second ."]
    assert read_words(summaries / "b.sm") == [["b", "is", "second"]]


def test_texts_that_hold_nothing_are_told(tmp_path: Path) -> None:
    files = {"empty.txt": b"", "e.gz": gzip.compress(b""), "cut.gz": gzip.compress(b"word " * 99)[:-9]}
    files |= {"latin.txt": b"ok\n\xe4\n", "dots.txt": b"... !\n\n", "e.sm": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    expected = {
        "empty.txt": r"empty.txt is empty \(0 bytes\)",
        "e.gz": "holds no text",
        "cut.gz": "no sound gzip",
        "latin.txt": "line 2: not UTF-8",
        "dots.txt": "holds no words",
        "e.sm": "is empty",
    }
    for name, message in expected.items():
        with pytest.raises(DataError, match=message):
            read_words(tmp_path / name)
    (tmp_path / "none").mkdir()
    for missing in ("nowhere.txt", "none"):
        with pytest.raises(MissingFileError):
            read_words(tmp_path / missing)


def test_unknown_words_are_counted_by_spelling() -> None:
    words = toy_vocabulary(2)
    corpus = encode([["the", "x", "y"], [], ["x", "cat"]], words)
    assert (len(corpus), corpus.words, corpus.unknown_words, corpus.unknown_types) == (2, 5, 3, 2)
    assert corpus.rows.tolist() == [0, 2]
    assert corpus.line(0).tolist() == [4, UNK, UNK]
    assert corpus.select([1]).unknown_types == 1
    assert corpus.characters.tolist() == [3 + 1 + 1 + 3 + 1, 1 + 3 + 2 + 1]


def test_a_batch_lies_between_beginning_and_end() -> None:
    corpus = encode([["the", "cat"], ["sat"]], toy_vocabulary())
    assert corpus.batch([1, 0]).tolist() == [[BOS, 6, EOS, PAD], [BOS, 4, 5, EOS]]


def test_lines_are_cut_to_the_longest() -> None:
    corpus = encode([["the"] * 9, ["cat"]], toy_vocabulary(), longest=3)
    assert corpus.lengths.tolist() == [3, 1]
    assert corpus.words == 4


@given(st.lists(st.integers(1, 40), min_size=1, max_size=120), st.integers(1, 9), st.integers(0, 5))
def test_every_row_is_in_one_batch(lengths: list[int], size: int, seed: int) -> None:
    batches = bucketed(np.array(lengths), size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (len(batches) - 1)


def test_batches_hold_lines_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 400)
    padded = sum(lengths[b].max() * len(b) for b in bucketed(lengths, 8, np.random.default_rng(1)))
    alone = sum(lengths[i : i + 8].max() * 8 for i in range(0, 400, 8))
    assert padded < 1.06 * lengths.sum() < alone


def test_a_stream_is_a_function_of_the_batch_number() -> None:
    corpus = encode([[w] * (i + 1) for i, w in enumerate("abcdefg")], build_vocabulary(Counter("abcdefg"), 0))
    stream, other = LineStream(corpus, 2, seed=1), LineStream(corpus, 2, seed=1)
    forward = [stream.batch(n) for n in range(12)]
    assert len(stream) == 4
    for n in (11, 3, 7, 0):
        assert other.batch(n).equal(forward[n])
    passes = [sorted(row[1].item() for n in range(4 * turn, 4 * turn + 4) for row in forward[n]) for turn in range(3)]
    assert passes == [list(range(4, 11))] * 3
    assert [b.tolist() for b in forward[:4]] != [b.tolist() for b in forward[4:8]]
    plain = LineStream(corpus, 2, seed=1, shuffle=False)
    assert [plain.batch(n)[0, 1].item() for n in range(5)] == [4, 6, 8, 10, 4]

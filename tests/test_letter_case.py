"""Letter case of words as the context encoder reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from blink.linking.analysis import TokenizedText
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.letter_case import CLASSES, LOWER, MIXED, STRIDE, TITLE, UNKNOWN, UPPER
from blink.model.loading import load_model
from blink.model.tokenizer import Tokenizer
from blink.training.start import Start, starting_model

WORDS = {"paris": LOWER, "Paris": TITLE, "I": TITLE, "UNESCO": UPPER, "iPhone": MIXED, "McDonald": MIXED, "1984": UNKNOWN}


def reading_tokenizer() -> Tokenizer:
    tokenizer = toys.tokenizer()
    tokenizer.read_case()
    return tokenizer


def test_every_token_has_the_case_of_its_word() -> None:
    text = " ".join(WORDS)
    (encoding,) = reading_tokenizer().tokenize([text])
    assert encoding.cases is not None
    at = 0
    for word, case in WORDS.items():
        tokens = encoding.tokens_of(at, at + len(word))
        assert tokens is not None
        assert set(encoding.cases[tokens[0] : tokens[1]].tolist()) == {case}, word
        at += len(word) + 1


def test_lower_case_tells_nothing_in_a_line_without_capitals() -> None:
    (encoding,) = reading_tokenizer().tokenize(["who was mozart?\nMozart was a composer\nof vienna"])
    assert encoding.cases is not None
    lines = ["who was mozart?", "Mozart was a composer", "of vienna"]
    at = 0
    for line, cased in zip(lines, (False, True, False), strict=True):
        tokens = encoding.tokens_of(at, at + len(line))
        assert tokens is not None
        assert encoding.cases[tokens[0] : tokens[1]].any() == cased
        at += len(line) + 1


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_cases_change_neither_ids_nor_offsets(text: str) -> None:
    plain, reading = toys.tokenizer().tokenize([text])[0], reading_tokenizer().tokenize([text])[0]
    np.testing.assert_array_equal(plain.ids, reading.ids)
    np.testing.assert_array_equal(plain.offsets, reading.offsets)
    np.testing.assert_array_equal(reading.codes % STRIDE, plain.ids)
    assert reading.cases is not None
    assert ((reading.cases >= 0) & (reading.cases < CLASSES)).all()
    if text == text.lower():
        assert not reading.cases.any() or any(map(str.isupper, text))


def test_a_model_reads_case_and_keeps_it_when_stored(tmp_path: Path) -> None:
    base = toys.base_folder(tmp_path / "base")
    config = ModelConfig(max_context_length=24, max_candidate_length=24, reads_case=True)
    model = BiEncoder.from_encoder(str(base), config).eval()
    assert model.case_embedding is not None
    encodings = model.tokenizer.tokenize(["Mozart lived in vienna", "mozart lived in vienna"])
    ids = torch.tensor(np.stack([e.codes for e in encodings]))
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        fresh = model.encode_context(ids, mask)
    torch.testing.assert_close(fresh[0], fresh[1])  # the embeddings begin at zero
    torch.nn.init.normal_(model.case_embedding.weight)
    model.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    with torch.inference_mode():
        trained = model.encode_context(ids, mask)
        torch.testing.assert_close(loaded.encode_context(ids, mask), trained)
    assert not torch.allclose(trained[0], trained[1])


@pytest.mark.parametrize("scorer", [None, "qa_mlp"])
def test_a_trained_model_learns_to_read_case_and_stops_to(tmp_path: Path, scorer: str | None) -> None:
    base = toys.base_folder(tmp_path / "base")
    plain = BiEncoder.from_encoder(str(base), ModelConfig(max_context_length=24, max_candidate_length=24))
    plain.save_pretrained(tmp_path / "plain")
    changes = {"mention_scorer": scorer}
    model = starting_model(Start(str(base), str(tmp_path / "plain"), changes={**changes, "reads_case": True}))
    assert model.case_embedding is not None
    torch.nn.init.normal_(model.case_embedding.weight)
    model.save_pretrained(tmp_path / "reading")
    (upper, lower) = load_model(tmp_path / "reading").tokenizer.tokenize(["Vienna", "vienna"])
    assert (upper.codes != lower.codes).any()

    kept = starting_model(Start(str(base), str(tmp_path / "reading"), changes=changes))
    assert kept.case_embedding is not None
    torch.testing.assert_close(kept.case_embedding.weight, model.case_embedding.weight)
    without = starting_model(Start(str(base), str(tmp_path / "reading"), changes={**changes, "reads_case": False}))
    assert without.case_embedding is None
    without.save_pretrained(tmp_path / "without")
    assert load_model(tmp_path / "without").case_embedding is None


@pytest.mark.parametrize("reads_case", [False, True])
def test_entity_vectors_do_not_depend_on_it(tmp_path: Path, reads_case: bool) -> None:
    base = toys.base_folder(tmp_path / "base")
    config = ModelConfig(max_context_length=24, max_candidate_length=24)
    plain = BiEncoder.from_encoder(str(base), config)
    other = BiEncoder.from_encoder(str(base), config.replace(reads_case=reads_case))
    assert plain.candidate_fingerprint() == other.candidate_fingerprint()


def test_a_sentence_in_lower_case_is_read_as_one_among_others() -> None:
    question = "who was mozart married to?"
    for text in (f"Vienna is a city. {question}", f"{question} Vienna is a city.", f"Vienna is a city\n{question}"):
        (encoding,) = reading_tokenizer().tokenize([text])
        start = text.index(question)
        tokens = encoding.tokens_of(start, start + len(question))
        assert tokens is not None
        assert encoding.cases is not None
        assert not encoding.cases[tokens[0] : tokens[1]].any()
        cased = TokenizedText(text, encoding).cased_at([text.index("mozart"), text.index("city")])
        assert np.broadcast_to(cased, 2).tolist() == [False, True]


def test_words_behind_an_abbreviation_are_no_sentence() -> None:
    text = "Vienna has approx. two million people. Paris has more, e.g. in summer."
    (encoding,) = reading_tokenizer().tokenize([text])
    assert encoding.cases is not None
    words = [encoding.tokens_of(text.index(w), text.index(w) + len(w)) for w in ("million", "summer")]
    assert all(encoding.cases[w[0]] == LOWER for w in words if w is not None)


def test_texts_in_small_letters_are_read_as_such_where_a_line_joins_texts() -> None:
    texts = ["Vienna is a city.", "It rains.", "who was the mother of mozart", "Which river is it?"]
    text = " ".join([*texts, "we are so glad that they left vienna before Anna"])
    (encoding,) = reading_tokenizer().tokenize([text])
    words = [text.index(word) for word in ("mother", "mozart", "river", "so glad", "Anna")]
    cased = TokenizedText(text, encoding).cased_at(words)
    assert np.broadcast_to(cased, len(words)).tolist() == [False, False, True, False, True]
    assert encoding.cases is not None
    bounds = [encoding.tokens_of(at, at + 1) for at in words]
    assert [bool(encoding.cases[b[0]]) for b in bounds if b is not None] == [False, False, True, False, True]


@given(st.lists(st.sampled_from(["Vienna", "is", "a city", "who was", "he", ". ", "? ", "\n", " "]), max_size=20))
def test_what_is_cased_follows_the_line_or_sentence(pieces: list[str]) -> None:
    text = "".join(pieces)
    (encoding,) = reading_tokenizer().tokenize([text])
    starts = encoding.offsets[:, 0].tolist()
    cased = np.broadcast_to(TokenizedText(text, encoding).cased_at(starts), len(starts))
    capital = [text[start].isupper() for start in starts]
    assert not (np.array(capital, dtype=bool) & ~cased).any()

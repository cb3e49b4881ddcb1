"""Tokens, marked spans, windows and batches."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LukeModel, LukeTokenizer

from examples.luke.features import EntitySlot, Feature, MarkedSpan, collate, encode_marked, keep_near, windows
from examples.luke.loading import Base, Vocabulary
from examples.luke.tokenizer import PlainTokenizer, is_punctuation


class TestPieces:
    @pytest.mark.parametrize("text", ["a [MASK] b", "[UNK] [PAD] [MASK2]", "</s> <mask> <ent>", "@placeholder <ent2>"])
    def test_nothing_in_a_text_is_special(self, vocabulary: Vocabulary, tiny_base: Base, text: str) -> None:
        ids = vocabulary.tokenizer.encode(text)
        assert vocabulary.tokenizer.text(ids) == " " + text
        special = {vocabulary.tokenizer.begin, vocabulary.tokenizer.end, vocabulary.tokenizer.pad, *vocabulary.markers.values()}
        assert max(ids) < tiny_base.config.vocab_size
        assert special.isdisjoint(ids)

    def test_the_library_gives_such_texts_ids_without_a_row(self, tiny_base: Base) -> None:
        # The reason for `PlainTokenizer`; once this fails, the library has fixed it.
        assert max(tiny_base.tokenizer("a [MASK] b")["input_ids"]) >= tiny_base.config.vocab_size

    def test_a_space_before_the_first_word_is_up_to_the_caller(self, vocabulary: Vocabulary) -> None:
        tokenizer = vocabulary.tokenizer
        assert tokenizer.encode("Bern") == tokenizer.encode(" Bern") != tokenizer.encode("Bern", space=False)
        assert tokenizer.text(tokenizer.encode("Bern", space=False)) == "Bern"

    def test_agrees_with_the_tokenizer_of_transformers(self, vocabulary: Vocabulary, tiny_base: Base) -> None:
        tokenizer: LukeTokenizer = tiny_base.tokenizer
        text = " Clara Schumann played in Zürich, didn't she?"
        assert tokenizer(text)["input_ids"][1:-1] == vocabulary.tokenizer.encode(text)

    def test_empty_and_broken_texts(self, vocabulary: Vocabulary) -> None:
        assert vocabulary.tokenizer.encode("") == vocabulary.tokenizer.encode("  \n") == []
        assert vocabulary.tokenizer.text(vocabulary.tokenizer.encode("a\ud800b")) == " a?b"

    def test_words_open_at_a_space_or_a_sign(self, vocabulary: Vocabulary) -> None:
        tokenizer = vocabulary.tokenizer
        ids = tokenizer.encode("Kepler's (old) Planet.")
        opened = [i for i in ids if tokenizer.opens_word(i)]
        assert [tokenizer.text([i]) for i in opened if not tokenizer.text([i]).startswith(" ")] == ["'", "(", ")", "."]
        assert not tokenizer.opens_word(tokenizer.encode("x", space=False)[0])

    @given(st.characters())
    def test_punctuation_is_every_ascii_sign_and_what_unicode_calls_so(self, character: str) -> None:
        code = ord(character)
        ascii_sign = any(low <= code <= high for low, high in ((33, 47), (58, 64), (91, 96), (123, 126)))
        assert is_punctuation(character) == (ascii_sign or unicodedata.category(character).startswith("P"))

    @given(st.text(max_size=60))
    def test_text_survives_but_for_the_space_around_it(self, vocabulary: Vocabulary, text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        assert vocabulary.tokenizer.text(vocabulary.tokenizer.encode(text)).strip() == text.strip()

    def test_a_tokenizer_made_to_prefix_spaces_gives_the_same(self, tiny_base: Base) -> None:
        tokenizer = tiny_base.tokenizer
        model = tokenizer.backend_tokenizer.model

        class Prefixing:
            backend_tokenizer = type(tokenizer.backend_tokenizer)(model)
            cls_token_id, sep_token_id, pad_token_id = 0, 2, 1

        from tokenizers.decoders import ByteLevel as Decoder
        from tokenizers.pre_tokenizers import ByteLevel

        Prefixing.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
        Prefixing.backend_tokenizer.decoder = Decoder()
        assert PlainTokenizer(Prefixing).encode("x.", space=False) == PlainTokenizer(tokenizer).encode("x.", space=False)


def marked(text: str, *spans: tuple[int, int, str]) -> tuple[str, list[str]]:
    """The text with markers, and the text between each span's borders."""
    ids, offsets = encode_marked(
        len(text), [MarkedSpan(s, e, ord(m)) for s, e, m in spans], lambda start, end: [ord(c) for c in text[start:end]]
    )
    marked_text = "".join(map(chr, ids))
    return marked_text, [marked_text[start:end] for start, end in offsets]


class TestMarkedSpans:
    @pytest.mark.parametrize(
        ("spans", "marked_text", "marked_spans"),
        [
            ([(0, 1, "*")], "*a*bcd", ["*a*"]),
            ([(3, 4, "*"), (0, 2, "#")], "#ab#c*d*", ["*d*", "#ab#"]),
            ([(0, 2, "*"), (2, 4, "#")], "*ab*#cd#", ["*ab*", "#cd#"]),
            ([(0, 4, "*"), (1, 2, "#")], "*a#b#cd*", ["*a#b#cd*", "#b#"]),
            ([(0, 2, "*"), (0, 2, "#")], "*#ab#*cd", ["*#ab#*", "#ab#"]),
            ([(0, 3, "*"), (1, 4, "#")], "*a#bc*d#", ["*a#bc*", "#bc*d#"]),
            ([], "abcd", []),
        ],
    )
    def test_markers_stand_around_their_spans(self, spans: list, marked_text: str, marked_spans: list[str]) -> None:
        assert marked("abcd", *spans) == (marked_text, marked_spans)

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)).filter(lambda s: s[0] < s[1]), max_size=4))
    def test_without_markers_the_text_is_whole(self, spans: list[tuple[int, int]]) -> None:
        text = "abcdefghij"
        marked_text, marked_spans = marked(text, *((s, e, "*") for s, e in spans))
        assert marked_text.replace("*", "") == text
        for (start, end), marked_span in zip(spans, marked_spans, strict=True):
            assert marked_span[0] == marked_span[-1] == "*"
            assert marked_span.replace("*", "") == text[start:end]


class TestCutting:
    def test_a_text_that_fits_stays(self) -> None:
        assert keep_near([5, 6, 7], [(1, 2)], 3) == ([5, 6, 7], [(1, 2)])

    def test_what_is_near_the_mention_stays(self) -> None:
        assert keep_near(list(range(100)), [(50, 52)], 6) == ([48, 49, 50, 51, 52, 53], [(2, 4)])
        assert keep_near(list(range(100)), [(0, 2)], 5) == ([0, 1, 2, 3, 4], [(0, 2)])
        assert keep_near(list(range(100)), [(98, 100)], 5) == ([95, 96, 97, 98, 99], [(3, 5)])

    def test_both_of_two_far_mentions_stay(self) -> None:
        ids, spans = keep_near(list(range(1000)), [(900, 903), (10, 12)], 9)
        assert [ids[s:e] for s, e in spans] == [[900, 901, 902], [10, 11]]
        assert len(ids) == 9

    def test_of_a_mention_longer_than_all_its_markers_stay(self) -> None:
        ids, [(start, end)] = keep_near(list(range(1000)), [(10, 900)], 8)
        assert (ids[start], ids[end - 1], end - start) == (10, 899, 8)

    @given(st.integers(1, 60), st.integers(4, 20), st.data())
    def test_never_more_than_the_limit_and_always_in_order(self, length: int, limit: int, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, length - 1))
        end = data.draw(st.integers(start + 1, length))
        ids, [(a, b)] = keep_near(list(range(length)), [(start, end)], limit)
        assert len(ids) == min(length, limit)
        assert ids == sorted(ids)
        assert (ids[a], ids[b - 1]) == (start, end - 1)

    @given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))
    def test_windows_cover_everything(self, length: int, size: int, stride: int) -> None:
        bounds = windows(length, size, stride)
        assert {i for s, e in bounds for i in range(s, e)} == set(range(length))
        assert all(e - s <= size for s, e in bounds)
        assert bounds[-1][1] == length
        assert all(b[0] - a[0] == min(size, stride) for a, b in itertools.pairwise(bounds))

    def test_windows_of_nothing(self) -> None:
        assert windows(0, 5, 2) == []


def feature(words: list[int], *entities: tuple[int, int, int]) -> Feature:
    return Feature(0, "here", words, [EntitySlot(*e) for e in entities])


class TestBatches:
    def test_shapes_and_fillers(self) -> None:
        batch = collate([feature([7, 8, 9], (2, 0, 2)), feature([7], (2, 0, 1), (3, 0, 1))], pad=1, longest_mention=30)
        assert batch["input_ids"].tolist() == [[7, 8, 9], [7, 1, 1]]
        assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
        assert batch["entity_ids"].tolist() == [[2, 0], [2, 3]]
        assert batch["entity_attention_mask"].tolist() == [[1, 0], [1, 1]]
        assert batch["entity_position_ids"].tolist() == [[[0, 1], [-1, -1]], [[0, -1], [0, -1]]]

    def test_positions_end_where_a_mention_is_too_long(self) -> None:
        batch = collate([feature(list(range(50)), (2, 5, 45))], pad=1, longest_mention=30)
        assert batch["entity_position_ids"].tolist() == [[list(range(5, 35))]]

    def test_words_alone(self) -> None:
        assert set(collate([feature([7, 8])], pad=1, longest_mention=30)) == {"input_ids", "attention_mask"}

    def test_filling_up_changes_nothing(self, tiny_base: Base) -> None:
        model = LukeModel(tiny_base.config).eval()
        model.load_state_dict(tiny_base.state)
        short, long = feature([0, 20, 21, 2], (2, 1, 3)), feature([0, *range(30, 60), 2], (2, 1, 3), (3, 4, 9), (4, 2, 8))
        with torch.no_grad():
            alone = model(**collate([short], pad=1, longest_mention=30))
            both = model(**collate([long, short], pad=1, longest_mention=30))
        assert torch.allclose(both.last_hidden_state[1, :4], alone.last_hidden_state[0], atol=1e-5)
        assert torch.allclose(both.entity_last_hidden_state[1, :1], alone.entity_last_hidden_state[0], atol=1e-5)
        assert torch.isfinite(both.entity_last_hidden_state).all()  # slots without any position too

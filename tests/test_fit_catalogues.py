"""Small catalogues and ones with contrary names, and texts as people type them, that rerankers are fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Mention, Sample
from blink.kb.alias_table import normalise
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.training.data.variation import typed
from blink.training.fit.catalogues import contrary_catalogue, contrary_names, groups, kind_of, small_catalogue
from blink.training.fit.reranker_texts import LabelledTexts, SpanExtractor, TextSource
from blink.training.settings import RankSettings

TOWNS = ("Oslo", "Bergen", "Java", "Riga", "Turku", "Narvik", "Vilnius", "Tartu")
KINDS = ("town", "band", "ship", "horse")


def lines(n: int = 60) -> list[dict[str, object]]:
    rows = []
    for i in range(n):
        place, kind = TOWNS[i % len(TOWNS)], KINDS[i % len(KINDS)]
        title = place if i < len(TOWNS) else f"{place} {kind} {i}"
        rows.append(
            {"title": title, "text": f"A {kind} of the north number {i}.", "kb_idx": f"Q{i}", "aliases": [f"{place}{i}"]}
        )
    return rows


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(11)


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("catalogues"), model, lines())


def samples(count: int = 8) -> list[Sample]:
    texts = []
    for row, place in enumerate(TOWNS[:count]):
        text = f"They reached {place} in the evening."
        texts.append(Sample(f"s{row}", text, (Mention(13, 13 + len(place), row),)))
    return texts


class TestContrary:
    def test_other_entities_get_the_names(self, kb: KnowledgeBase) -> None:
        gold = set(range(len(TOWNS)))
        renamed = contrary_names(kb, samples(), gold, np.random.default_rng(1))
        assert renamed
        for row, (title, aliases) in renamed.items():
            before = kb.catalogue[row]
            if row in gold and normalise(TOWNS[row]) not in map(normalise, aliases):
                assert normalise(title) != normalise(TOWNS[row])
            else:
                assert (title, tuple(aliases)) != (before.title, before.aliases) or row not in gold
        receivers = [row for row in renamed if row not in gold]
        assert len(receivers) == len(renamed) / 2

    def test_a_catalogue_of_nothing_but_their_entities_stays_as_it_is(self, kb: KnowledgeBase) -> None:
        gold = set(range(len(kb.catalogue)))
        assert contrary_names(kb, samples(), gold, np.random.default_rng(1)) == {}

    def test_vectors_are_those_of_the_new_names(self, model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
        contrary = contrary_catalogue(kb, samples(), model, tmp_path / "c", np.random.default_rng(2))
        base = contrary.base
        assert base.vectors is not None
        entities = [base.catalogue[i] for i in range(len(base.catalogue))]
        # Entities of the whole keep their stored vectors; all equal those of a build from the same lines.
        assert np.allclose(np.asarray(base.vectors), model.encode_entities(entities), atol=1e-4)
        for old, new in enumerate(contrary.row_of.tolist()):
            if new >= 0:
                assert base.catalogue[new].text == kb.catalogue[old].text
                assert base.catalogue[new].kb_id == str(old)

    def test_texts_keep_their_entities(self, model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
        contrary = contrary_catalogue(kb, samples(), model, tmp_path / "c", np.random.default_rng(3))
        for sample in samples():
            (mention,) = contrary.relabel(sample).mentions or ()
            if mention.row >= 0:
                assert contrary.base.catalogue[mention.row].text == kb.catalogue[int(sample.id[1:])].text

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("An American company of online retail.", "company"),
            ("Mercury is a heavy silvery metal that is liquid.", "metal"),
            ("capital of Norway", "capital"),
            ("Johann was a German composer and organist", "composer"),
            ("", None),
        ],
    )
    def test_a_description_says_the_kind(self, text: str, kind: str | None) -> None:
        assert kind_of(text) == kind


class TestSmall:
    def test_most_entities_of_the_texts_remain(self, kb: KnowledgeBase) -> None:
        remaining = [int((small_catalogue(kb, samples(), np.random.default_rng(i)).row_of[:8] >= 0).sum()) for i in range(20)]
        assert 5.5 < np.mean(remaining) < 8

    @settings(max_examples=30, deadline=None)
    @given(size=st.integers(0, 30), count=st.integers(1, 8), seed=st.integers(0, 99))
    def test_groups_hold_each_text_once(self, size: int, count: int, seed: int) -> None:
        texts = [Sample(f"s{i}", "x", ()) for i in range(size)]
        split = groups(texts, count, np.random.default_rng(seed))
        assert sorted(s.id for group in split for s in group) == sorted(s.id for s in texts)
        assert all(split)


@pytest.mark.quick
class TestTyped:
    @settings(max_examples=60, deadline=None)
    @given(
        words=st.lists(st.sampled_from(["Oslo", "New York", "saw", "the", "Alan Moore"]), min_size=1, max_size=8),
        seed=st.integers(0, 99),
    )
    def test_mentions_move_with_their_names(self, words: list[str], seed: int) -> None:
        text, mentions = "", []
        for word in words:
            if word[0].isupper():
                mentions.append(Mention(len(text), len(text) + len(word), 3))
            text += word + " "
        done = typed(Sample("s", text, tuple(mentions)), 0.5, lambda string, mention: False, np.random.default_rng(seed))
        assert done is not None
        assert done.text == done.text.lower()
        assert len(done.mentions or ()) == len(mentions)
        rest = list(done.text)
        for mention in reversed(done.mentions or ()):
            assert mention.row == 3
            assert done.text[mention.start : mention.end].strip()
            rest[mention.start : mention.end] = []
        assert "".join(rest).split() == [w for w in words if w[0].islower()]

    def test_no_name_becomes_that_of_another(self) -> None:
        sample = Sample("s", "Joseph Stiglitz spoke", (Mention(0, 15, 1),))
        done = typed(sample, 1.0, lambda string, mention: True, np.random.default_rng(0))
        assert done is not None
        assert done.text == "joseph stiglitz spoke"

    def test_texts_that_may_hold_more_names_stay_out(self) -> None:
        sample = Sample("s", "Oslo and Bergen", (Mention(0, 4, 1),), unlabelled=((9, 15),))
        assert typed(sample, 0.0, lambda string, mention: False, np.random.default_rng(0)) is None


def test_each_share_adds_spans(model: BiEncoder, kb: KnowledgeBase, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    sources = [TextSource.of(kb, {"questions": 1.0}, None, 0.0)]
    base = {"min_mention_log_prob": -1e9, "absent": 0.0}

    def spans(**shares: float) -> int:
        extractor = SpanExtractor(folder, RankSettings(**base, **shares), precision="fp32")
        return sum(map(len, extractor.extract(sources, [LabelledTexts(samples())], {"questions": 1.0})))

    once = spans()
    assert [spans(**{name: 1.0}) for name in ("small", "contrary")] == [2 * once] * 2
    assert spans(typed=1.0) >= 2 * once  # a misspelt name has more tokens
    assert spans(recase=1.0) == once

"""Variations of training texts: other letter case, and texts that are joined."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blink.data.records import Mention, Sample
from blink.training.data.variation import joined, recased

NAMES = ("Paris", "New York", "İzmir", "O'Neill", "straße")


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Texts of names and words, some partially labelled, some with unlabelled names."""
    texts = []
    for number in range(draw(st.integers(1, 12))):
        text, mentions, unlabelled = "", [], []
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=4)):
            text += draw(st.sampled_from(("we saw ", "then in ", "")))
            (mentions if draw(st.booleans()) else unlabelled).append((len(text), len(text) + len(name)))
            text += name + draw(st.sampled_from((" ", ". ", ", ")))
        bounds = tuple(Mention(s, e, number, title=text[s:e]) for s, e in mentions)
        texts.append(Sample(str(number), text + "end", bounds, partial=draw(st.booleans()), unlabelled=tuple(unlabelled)))
    return texts


@given(samples(), st.floats(0, 1), st.integers(0, 99))
def test_joined_texts_keep_every_text_with_its_mentions(texts: list[Sample], share: float, seed: int) -> None:
    result = joined(texts, share, 40, np.random.default_rng(seed))
    assert sorted(name for s in result for name in s.id.split("+")) == sorted(s.id for s in texts)
    by_id = {s.id: s for s in texts}
    for sample in result:
        members = [by_id[name] for name in sample.id.split("+")]
        assert [m.row for m in sample.mentions or ()] == [m.row for s in members for m in s.mentions or ()]
        for mention in sample.mentions or ():
            assert sample.text[mention.start : mention.end] == mention.title
        if len(members) == 1:
            assert sample == members[0]
            continue
        lengths = sum(len(s.text) if s.partial else sum(e - b for b, e in s.unlabelled) for s in members)
        assert sum(end - start for start, end in sample.unlabelled) == lengths
        assert not sample.partial
        assert len(sample.text) <= 40 * 4.2 + 2 * len(members)


@given(samples(), st.integers(0, 99))
def test_recased_texts_differ_in_nothing_but_case(texts: list[Sample], seed: int) -> None:
    result = recased(texts, 1.0, np.random.default_rng(seed))
    for before, after in zip(texts, result, strict=True):
        assert len(before.text) == len(after.text)
        assert before.text.casefold() == after.text.casefold() or before.text == after.text
        assert (before.mentions, before.unlabelled, before.partial) == (after.mentions, after.unlabelled, after.partial)
    assert recased(texts, 0.0, np.random.default_rng(seed)) == texts


def test_a_share_of_texts_is_lower_cased() -> None:
    texts = [Sample(str(i), "We saw Paris", (Mention(7, 12, 0),)) for i in range(400)]
    lower = sum(s.text.islower() for s in recased(texts, 0.5, np.random.default_rng(1)))
    assert 120 < lower < 200

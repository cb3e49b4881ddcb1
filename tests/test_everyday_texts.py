"""The form of the everyday texts: exact offsets, one id an entity, and enough names from recent years."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from blink.data.mention_files import read_samples
from blink.data.records import Sample

DATA = Path(__file__).parent / "data"
FILES = {"everyday.jsonl": (210, 60), "everyday-dev.jsonl": (160, 50)}
ID = re.compile(r"Q[1-9]\d*|blink:[a-z0-9]+(-[a-z0-9]+)*")


def read(name: str) -> list[Sample]:
    return list(read_samples(DATA / name))


def recent() -> set[str]:
    """Ids of people, works, firms and products that became known since about 2000, or are less famous."""
    lines = (DATA / "everyday-recent.tsv").read_text(encoding="utf-8").splitlines()
    return {line.split("\t")[0] for line in lines[1:]}


def recent_mentions(samples: list[Sample]) -> list[str]:
    known = recent()
    return [m.kb_id for s in samples for m in s.mentions or () if m.kb_id in known]


@pytest.mark.parametrize("name", FILES)
def test_there_are_enough_texts_and_recent_names(name: str) -> None:
    samples = read(name)
    texts, names = FILES[name]
    assert len(samples) >= texts
    assert len({s.text for s in samples}) == len(samples)
    assert sum(not s.mentions for s in samples) >= 0.15 * len(samples)
    assert len(recent_mentions(samples)) >= names


@pytest.mark.parametrize("name", FILES)
def test_mentions_are_whole_words_in_order(name: str) -> None:
    for sample in read(name):
        gold = sample.mentions or ()
        for mention in gold:
            before, name, after = (
                sample.text[: mention.start],
                sample.text[mention.start : mention.end],
                sample.text[mention.end :],
            )
            assert name
            assert name == name.strip()
            assert not before[-1:].isalnum(), (sample.text, name)
            assert not after[:1].isalnum(), (sample.text, name)
        assert all(left.end <= right.start for left, right in pairwise(gold))


def test_an_id_stands_for_one_entity_in_both_sets() -> None:
    titles: dict[str, set[str]] = {}
    for name in FILES:
        for sample in read(name):
            for mention in sample.mentions or ():
                assert mention.kb_id is not None
                assert mention.title
                assert ID.fullmatch(mention.kb_id), mention.kb_id
                titles.setdefault(mention.kb_id, set()).add(mention.title)
    assert {kb_id: found for kb_id, found in titles.items() if len(found) > 1} == {}


def test_the_sets_share_few_recent_names() -> None:
    dev, test = (set(recent_mentions(read(name))) for name in ("everyday-dev.jsonl", "everyday.jsonl"))
    assert len(dev & test) <= 5


def test_corrections_name_another_entity_for_the_same_characters() -> None:
    wrong, right = (read(f"corrections/{name}.jsonl") for name in ("linked", "corrected"))
    assert len(right) == 20
    for before, after in zip(wrong, right, strict=True):
        assert before.text == after.text
        assert before.partial
        assert after.partial
        (linked,), (corrected,) = before.mentions or (), after.mentions or ()
        assert (linked.start, linked.end) == (corrected.start, corrected.end)
        assert linked.kb_id is not None
        assert linked.kb_id != corrected.kb_id

"""Training data out of Wikipedia's links, and the commands for dumps."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dump_toys as toys
import pytest
import toys as model_toys
from dump_toys import item, page
from test_wikipedia_dump import PAGES

from blink.data.mention_files import labelled_samples, read_samples
from blink.dumps import segments
from blink.dumps.anchors import AnchorOptions, write_anchors
from blink.dumps.journal import Journal
from blink.dumps.run import Summary
from blink.dumps.segments import Dump
from blink.errors import DataError, SettingsError
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase

RIVER = "A '''river''' (''[[water]]'') runs through [[Paris]] &amp; [[the Eternal City|Roma]] {{x}} into the [[sea]]."
SEINE = "The '''Seine''' is a river of some length in [[Paris|the\ncapital]].\n* [[Rome]] in a list\n\nIt ends at the [[sea]]."
MORE = [page(50, "River", RIVER), page(51, "Copy", RIVER), page(52, "Seine", SEINE)]
BY = {
    "address": {"idx": "https://en.wikipedia.org/wiki/Paris"},
    "number": {"idx": "https://en.wikipedia.org/wiki?curid=10"},
    "id": {"ids": {"enwiki": "10"}, "idx": "https://example.org"},
    "title": {},
}


def knowledge_base(folder: Path, by: str = "title") -> Path:
    lines = [{"title": "Nothing", "idx": "https://de.wikipedia.org/wiki/Paris"}, {"title": "Paris", "kb_idx": "Q90", **BY[by]}]
    lines.append({"title": "Rome"})
    path = model_toys.write_catalogue(folder / "entity.jsonl", lines)
    build_knowledge_base(path, folder / "kb", model_toys.letter_counts(), "letters")
    return folder / "kb"


def written(folder: Path, how: str = "plain", by: str = "title", **options: Any) -> tuple[Path, Summary]:
    dump, out = toys.stored(folder, toys.wikipedia([*PAGES, *MORE]), how), folder / "anchors.jsonl"
    kb = folder / "kb" if (folder / "kb").exists() else knowledge_base(folder, by)
    return out, write_anchors(Dump.open(dump), kb, out, AnchorOptions(**options))


@pytest.mark.parametrize("by", BY)
def test_mentions_are_the_links_that_lead_to_entities(tmp_path: Path, by: str) -> None:
    out, summary = written(tmp_path, by=by)
    rows = {sample.id: sample for sample in read_samples(out)}
    mentions = {key: [(s.text[m.start : m.end], m.row, m.kb_id, m.title) for m in s.mentions or ()] for key, s in rows.items()}
    assert mentions["50-0"] == [("Paris", 1, "Q90", "Paris"), ("Roma", 2, None, "Rome")]
    assert mentions["52-0"] == [("the capital", 1, "Q90", "Paris")]
    assert mentions["16-0"] == [("Paris", 1, "Q90", "Paris"), ("Paree", 1, "Q90", "Paris"), ("paree", 1, "Q90", "Paris")]
    assert "51-0" not in rows  # the same text
    assert "52-1" not in rows  # no entity
    assert rows["50-0"].text == "A river (water) runs through Paris & Roma into the sea."
    assert all(sample.partial for sample in rows.values())
    assert (summary.counts["repeated paragraphs"], summary.counts["paragraphs"]) == (1, len(rows))
    with KnowledgeBase.open(tmp_path / "kb").catalogue as catalogue:
        assert len(labelled_samples(str(out), catalogue)) == len(rows)


def test_tokens_are_those_of_the_parts_between_mentions(tmp_path: Path) -> None:
    dump, out = toys.stored(tmp_path, toys.wikipedia([*PAGES, *MORE])), tmp_path / "anchors.jsonl"
    tokenizer = model_toys.tokenizer()

    def opener() -> Callable[[Any], list[list[int]]]:
        return lambda texts: [encoding.ids.tolist() for encoding in tokenizer.tokenize(texts)]

    write_anchors(Dump.open(dump), knowledge_base(tmp_path), out, AnchorOptions(tokenizer="toy"), tokenizer=opener)
    for sample in read_samples(out):
        assert sample.token_ids is not None
        for mention, tokens in zip(sample.mentions or (), sample.token_mentions or (), strict=True):
            ids = sample.token_ids[tokens.start : tokens.end]
            assert tokenizer.decode(ids) == sample.text[mention.start : mention.end].lower()
            assert tokens.row == mention.row
        parts = sorted({0, len(sample.text), *(x for m in sample.mentions or () for x in (m.start, m.end))})
        pieces = [
            encoding.ids.tolist() for encoding in tokenizer.tokenize([sample.text[a:b] for a, b in itertools.pairwise(parts)])
        ]
        assert list(sample.token_ids) == list(itertools.chain.from_iterable(pieces))


@pytest.mark.parametrize("how", toys.STORED)
def test_the_same_bytes_however_it_is_stored_and_after_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    expected = written(tmp_path)[0].read_bytes()
    (tmp_path / "anchors.jsonl").unlink()
    for name in ("PLAIN_BYTES", "BZIP2_BYTES", "TEXT_BYTES"):
        monkeypatch.setattr(segments, name, 900)
    commit, rng, kills = Journal.commit, random.Random(3), 0

    def dying(self: Journal, *arguments: Any) -> None:
        if rng.random() < 0.4:
            raise KeyboardInterrupt
        commit(self, *arguments)

    monkeypatch.setattr(Journal, "commit", dying)
    while True:
        try:
            out, _ = written(tmp_path, how)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills
    assert out.read_bytes() == expected
    assert not (tmp_path / "anchors.jsonl.dump").exists()


def test_limit_and_sample(tmp_path: Path) -> None:
    every = written(tmp_path)[0].read_text().splitlines()
    (tmp_path / "anchors.jsonl").unlink()
    out, summary = written(tmp_path, limit=2)
    assert out.read_text().splitlines() == every[:2]
    with pytest.raises(SettingsError, match="exists"):
        written(tmp_path, limit=2)
    out.unlink()
    sampled = written(tmp_path, sample=0.7)[0].read_text().splitlines()
    assert 0 < len(sampled) < len(every)
    assert set(sampled) <= set(every)
    assert summary.counts["paragraphs"] == 2


def test_a_base_of_another_wiki_is_named(tmp_path: Path) -> None:
    path = model_toys.write_catalogue(
        tmp_path / "entity.jsonl", [{"title": "Paris", "idx": "https://de.wikipedia.org/wiki/Paris"}]
    )
    build_knowledge_base(path, tmp_path / "kb", model_toys.letter_counts(), "letters")
    with pytest.raises(DataError, match=r"no link of .* leads to an entity"):
        written(tmp_path)


def test_the_commands(tmp_path: Path, blink: Callable[..., tuple[int, str, str]]) -> None:
    wikidata = toys.stored(tmp_path, toys.wikidata([item(5, "human"), item(9, "Ann", claims={"P31": [5]})]), "gz")
    status, _, message = blink("kb", "from-wikidata", wikidata, "--out", tmp_path / "wd", "--workers", "1", "--types", "Q5")
    assert status == 0, message
    assert "1 entities" in message
    assert "blink kb build" in message
    assert json.loads((tmp_path / "wd" / "entity.jsonl").read_text())["text"] == "Human."
    wikipedia = toys.stored(tmp_path, toys.wikipedia([*PAGES, *MORE]), "multistream")
    assert blink("kb", "from-wikipedia", wikipedia, "--out", tmp_path / "wp", "--workers", "1")[0] == 0
    kb, out = knowledge_base(tmp_path), tmp_path / "a.jsonl"
    status, _, message = blink("kb", "anchors", wikipedia, "--kb", kb, "--out", out, "--workers", "1")
    assert status == 0, message
    assert "paragraphs" in message
    for arguments, expected in (
        (("from-wikidata", wikipedia, "--out", tmp_path / "x"), "no dump of this kind"),
        (("from-wikipedia", wikidata, "--out", tmp_path / "x"), "no record that can be read"),
        (("from-wikidata", tmp_path / "none", "--out", tmp_path / "x"), "does not exist"),
        (("from-wikidata", wikidata, "--out", tmp_path / "x", "--types", "human"), "no id of a class"),
        (("anchors", wikipedia, "--kb", kb, "--out", out), "exists"),
        (("anchors", wikipedia, "--kb", kb, "--out", tmp_path / "b", "--tokenizer", "nothing"), "no model folder"),
    ):
        status, _, message = blink("kb", *arguments, "--workers", "1")
        assert status == 1
        assert expected in message
        assert len(message.splitlines()) == 1, message

"""The reasons that ``:explain`` prints for reranked candidates: their features in words."""

from __future__ import annotations

import re

import pytest
import toys
from shell_toys import Script, weighing

from blink.apps.shell.session import Session
from blink.explaining.explain import reason_lines
from blink.explaining.explanation import explain_text
from blink.explaining.render import View
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder

ROWS = [
    {"title": "Georgia (country)", "text": "in the Caucasus", "kb_idx": "Q230"},
    {"title": "Georgia (U.S. state)", "text": "in the south", "kb_idx": "Q1428"},
    {"title": "Oslo", "text": "capital of Norway", "kb_idx": "Q585", "aliases": ["Christiania"]},
    {"title": "Mount Elbrus", "text": "a mountain", "kb_idx": "Q43105"},
    {"title": "World Trade Organization", "text": "a body", "kb_idx": "Q7825"},
    {"title": "Nameless One", "text": "nobody"},
    {"title": "One", "text": "nobody else"},
    {"title": "One (song)", "text": "a song"},
]


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(11)
    biencoder.reranker = weighing(
        -3.0, alias=3.0, is_fuzzy_match=3.0, popularity_gap=2.0, dice=4.0, initials=4.0, popularity=0.1
    )
    return biencoder


@pytest.fixture(scope="module")
def linker(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> Linker:
    kb = toys.knowledge_base(tmp_path_factory.mktemp("reasons"), model, ROWS)
    return Linker(model, kb, precision="fp32", device="cpu")


def explained(linker: Linker, text: str, words: str) -> list[str]:
    """The heading, and a line per candidate."""
    start = text.index(words)
    (mention,) = explain_text(linker, text, spans=[(start, start + len(words))]).mentions
    fragments = [" ".join(line.split()) for _, line in reason_lines(mention, View(200))]
    return [" ".join(fragments[:2]), *fragments[2:]] if fragments else []


def test_namesakes_are_told_apart_by_fame_and_context(linker: Linker) -> None:
    heading, winner, loser = explained(linker, "where is Georgia now?", "Georgia")
    assert heading == "reasons (inner products in brackets)"
    shared = "its title but for brackets, shared with 1 other"
    assert winner.startswith(f"Georgia (country): {shared}; the best known of these; fits the context ")
    assert loser.startswith(f"Georgia (U.S. state): {shared}; less known than another; fits the context ")
    assert re.search(r"fits the context (best|less) \(-?\d+\.\d\d\)$", winner)


@pytest.mark.parametrize(
    ("mention", "words"),
    [
        ("Oslo", "Oslo: its title, and of nothing else; fits"),
        ("christiania", "Oslo: a name of it, and of nothing else; fits"),
        ("mountelbrus", "Mount Elbrus: nearly a name of it, and of nothing else; fits"),
        ("Mount Elbruz", "Mount Elbrus: spelt 8"),
        ("WTO", "World Trade Organization: its initials; fits"),
        ("One", "One: its title, shared with 1 other; fits"),  # nobody knows which is better known
    ],
)
def test_names_and_spelling_in_words(linker: Linker, mention: str, words: str) -> None:
    assert explained(linker, f"about {mention} we know", mention)[1].startswith(words)


def test_the_inner_product_is_the_encoder_s(linker: Linker, model: BiEncoder) -> None:
    text = "where is Oslo now?"
    plainly = Linker(model, linker.kb, rank=False, precision="fp32", device="cpu")
    (reading,) = plainly.analyze([text], spans=[[(9, 13)]])
    rank = reading.spans.rows[0].tolist().index(2)
    assert f"({reading.spans.entity_logits[0, rank]:.2f})" in explained(linker, text, "Oslo")[1]


def test_what_is_left_out_is_no_reason(linker: Linker, model: BiEncoder) -> None:
    without = ["names", "popularity", "context"]
    few = Linker(model, linker.kb, without=without, precision="fp32", device="cpu")
    assert explained(few, "where is Georgia now?", "Georgia")[1].startswith("Georgia (country): spelt 100 % like a name of it")
    assert "known" not in " ".join(explained(few, "where is Georgia now?", "Georgia"))
    assert "fits" not in " ".join(explained(few, "where is Georgia now?", "Georgia"))


def test_without_a_ranker_there_are_none(linker: Linker, model: BiEncoder) -> None:
    assert explained(Linker(model, linker.kb, rank=False, precision="fp32", device="cpu"), "where is Oslo?", "Oslo") == []


def test_explain_holds_them_in_few_narrow_lines(linker: Linker) -> None:
    text = "is \x1bGeorgia near Oslo, or not? " + "and so on " * 80
    console = Script(":threshold 0.2", text, ":explain 1", width=70)
    session = Session(linker, console)
    session.run()
    lines = console.output[2].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("    reasons"))
    later = next(i for i, line in enumerate(lines) if i > first and re.match(r" {4}\S", line))
    assert 2 <= later - first <= 5
    assert all(len(line) <= 70 for line in lines[first:later])
    assert [line[4:11] for line in lines[1:4]] == ["mention", "entity ", "score  "]
    assert "\x1b" not in console.output[2]
    assert linker.stages.reranker is not None
    assert session.linked is not None
    assert session.linked == linker.decode(next(linker.analyze([text])), session.thresholds)  # the linker is as it was

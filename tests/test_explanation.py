"""Explanations as data: what a client can do with them, and that they say what the stages did."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_toys import table, weights
from shell_toys import ToyLinker, weighing

import blink
from blink.data.prior_file import Prior
from blink.explaining.explanation import Explanation, explain_text, explain_texts, explanation_of
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking import sections
from blink.linking.decoder import Thresholds
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder

OPTIONS: dict[str, Any] = {"precision": "fp32", "device": "cpu"}
WORDS = ["Oslo 7", "java", "Georgia", "Georgia 0 Atlanta", "the", "8th", "中", ",", "한국 조한", "e\u0301t", "Lake Garda 4. "]
STARTER_TEXTS = [
    "Marie Curie was born in Warsaw. Curie moved to Paris, Texas near Georgia.",
    "Who painted Guernica, and did Picasso meet Einstein in New York City?",
    "The World Health Organization (WHO) is in Geneva. WHO was founded in 1948.",
    "we had turkey in turkey",
]


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(11, threshold=-9.0)
    biencoder.reranker = weighing(-3.0, alias=3.0, dice=4.0, logit=0.02, mention=0.2)
    return biencoder


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


@pytest.fixture(scope="module")
def linkers(model: BiEncoder, kb: KnowledgeBase) -> dict[str, Linker]:
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    scorers = [scorer_fingerprint(model, network) for network in (model.reranker, None)]
    fitted = [weights(s, text=toys.HIDDEN, vector=2.0, popularity=0.5, coherence=1.0, cutoff=0.2) for s in scorers]
    prior = Prior(table(ids), tuple(fitted))
    return {
        "probability": Linker(model, kb, prior=prior, document=True, **OPTIONS),
        "plain": Linker(model, kb, **OPTIONS),
        "joint": Linker(model, kb, rank=False, prior=prior, **OPTIONS),
        "inner": Linker(model, kb, rank=False, mode="thresholded_entity_by_mention", mention_threshold=-99.0, **OPTIONS),
    }


@pytest.fixture(scope="module")
def everyday(starter: Path) -> Linker:
    return blink.load()


def client(explanation: dict[str, Any], threshold: float) -> list[tuple[int, int, int]]:
    """The links at a threshold, as a program without BLINK finds them."""
    mentions = explanation["mentions"]
    kept: list[dict[str, Any]] = []
    for mention in sorted(mentions, key=lambda m: -m["score"]):
        above = explanation["requested"] or mention["score"] > threshold
        free = explanation["requested"] or all(k["end"] <= mention["start"] or mention["end"] <= k["start"] for k in kept)
        if above and free:
            kept.append(mention)
    return sorted((m["start"], m["end"], m["candidates"][0]["row"]) for m in kept if m["status"] != "removed")


def assert_reproduced(linker: Linker, text: str, spans: list[tuple[int, int]] | None, fraction: float) -> None:
    keep = linker.explained_outputs
    (analysis,) = linker.analyze([text], spans=None if spans is None else [spans], keep=keep)
    value = json.loads(json.dumps(explanation_of(linker, analysis).to_json(), allow_nan=False))
    scores = sorted(m["score"] for m in value["mentions"])
    # Each score itself is a threshold, and what lies between two of them.
    at = fraction if not scores else scores[int(fraction * (len(scores) - 1))]
    lowest = (
        0.01 if value["score_kind"] == "probability" else -1e9 if value["score_kind"] == "inner_product" else math.log(0.01)
    )
    for threshold in {max(lowest, t) for t in (at, np.nextafter(at, -np.inf), fraction)}:
        links = linker.decode(analysis, Thresholds(float(threshold), linker.thresholds.mention)).links
        assert client(value, float(threshold)) == sorted((x.start, x.end, x.row) for x in links)


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


@pytest.mark.parametrize("kind", ["probability", "plain", "joint", "inner"])
@settings(max_examples=40)
@given(text=texts, requested=st.booleans(), fraction=st.floats(0, 1))
def test_a_client_finds_the_links_of_any_threshold(
    linkers: dict[str, Linker], kind: str, text: str, requested: bool, fraction: float
) -> None:
    bounds = [(at, at + len(word)) for word in ("Oslo 7", "java", "Georgia", "Atlanta") if (at := text.find(word)) >= 0]
    assert_reproduced(linkers[kind], text, bounds if requested else None, fraction)


@settings(max_examples=12)
@given(text=st.lists(st.sampled_from(STARTER_TEXTS), min_size=1, max_size=2).map(" ".join), fraction=st.floats(0, 1))
def test_a_client_finds_the_links_of_the_starter(everyday: Linker, text: str, fraction: float) -> None:
    assert_reproduced(everyday, text, None, fraction)
    assert_reproduced(everyday, text, [(0, 3), (4, 9)], fraction)


def test_every_link_is_explained_and_its_score_is_made_of_its_parts(everyday: Linker) -> None:
    for explanation, linked in zip(explain_texts(everyday, STARTER_TEXTS), everyday(STARTER_TEXTS), strict=True):
        assert explanation.linked == linked
        for link in explanation.linked.links:
            mention = explanation.of_link(link)
            assert mention is not None
            assert [c.candidate for c in mention.candidates] == list(link.candidates)
            for candidate in mention.candidates:
                parts = candidate.parts
                total = parts["base"] + parts["prior"] + parts["coherence"] + parts["document"]
                assert total == pytest.approx(candidate.candidate.score, abs=1e-5)
                assert parts["entity"] * mention.mention_score == pytest.approx(candidate.candidate.score, abs=1e-5)
                assert candidate.behind == pytest.approx(mention.score - candidate.candidate.score)
            assert mention.candidates[0].reasons


def test_the_prior_s_part_is_what_it_changes(everyday: Linker) -> None:
    text = "In May she moved to Paris."
    without = blink.load(prior="none")
    alone = {
        c.row: c.score for link in without.decode(next(without.analyze([text])), Thresholds(-1)).links for c in link.candidates
    }
    mentions = explain_text(everyday, text, thresholds=Thresholds(-1)).mentions
    compared = [
        (c.parts["base"], alone[c.candidate.row])
        for m in mentions
        if m.mention == "Paris"
        for c in m.candidates
        if c.candidate.row in alone
    ]
    assert len(compared) >= 2
    np.testing.assert_allclose([base for base, _ in compared], [score for _, score in compared], atol=1e-5)


def test_a_follower_s_score_is_of_the_document(everyday: Linker) -> None:
    explanation = explain_text(everyday, STARTER_TEXTS[0])
    follower = next(m for m in explanation.mentions if (m.start, m.end) == (32, 37))
    first, second = follower.candidates[:2]
    assert (first.candidate.title, second.candidate.title) == ("Marie Curie", "Pierre Curie")
    assert first.parts["document"] > 0.5
    assert second.parts["document"] < -0.5
    assert first.parts["base"] < second.parts["base"]


def test_statuses_name_what_overlaps(everyday: Linker) -> None:
    by_words = {(m.start, m.mention): m for m in explain_text(everyday, STARTER_TEXTS[0]).mentions}
    assert by_words[0, "Marie Curie"].status == "linked"
    assert by_words[0, "Marie Curie"].overlapped_by is None
    lost = by_words[47, "Paris, Texas"]
    assert (lost.status, lost.overlapped_by) == ("overlapped", (47, 52))
    low = by_words[6, "Curie"]
    assert (low.status, low.overlapped_by) == ("below_threshold", (0, 11))
    assert low.score < everyday.thresholds.score


def test_a_removed_entity_is_said_to_be_removed(model: BiEncoder, tmp_path: Path) -> None:
    linker = Linker(model, toys.knowledge_base(tmp_path / "kb", model, toys.rows(12)), threshold=0.01, **OPTIONS)
    (analysis,) = linker.analyze(["see Oslo 7 and Java 8"], keep=linker.explained_outputs)
    link = linker.decode(analysis).links[0]
    linker.kb.remove(link.row)
    after = explanation_of(linker, analysis)
    assert link.row not in [x.row for x in after.linked.links]
    assert [(m.status, m.candidates) for m in after.mentions if (m.start, m.end) == (link.start, link.end)] == [("removed", ())]


def test_modes_that_link_an_entity_once_say_so(model: BiEncoder, kb: KnowledgeBase) -> None:
    linker = Linker(model, kb, rank=False, mode="best_entity_by_mention", **OPTIONS)
    explanation = explain_text(linker, "Oslo 7, and Oslo 7")
    assert explanation.score_kind == "inner_product"
    assert {m.status for m in explanation.mentions} >= {"linked", "repeated"}
    linked = {m.candidates[0].candidate.row for m in explanation.mentions if m.status == "linked"}
    assert {m.candidates[0].candidate.row for m in explanation.mentions if m.status == "repeated"} <= linked


def test_sections_make_one_explanation(linkers: dict[str, Linker], monkeypatch: pytest.MonkeyPatch) -> None:
    linker, text = linkers["probability"], "\n\n".join("see Oslo 7 and the Java 8, or Georgia 0 here." for _ in range(30))
    expected = linker(text)
    monkeypatch.setattr(sections, "SECTION_CHARACTERS", 300)
    explanation = explain_text(linker, text)
    assert explanation.linked == linker(text)
    assert [(x.start, x.end, x.row) for x in explanation.linked.links] == [(x.start, x.end, x.row) for x in expected.links]
    assert all(m.candidates[0].parts.keys() >= {"base", "prior", "document"} for m in explanation.mentions)


def test_nothing_is_explained_of_nothing(linkers: dict[str, Linker]) -> None:
    for linker in linkers.values():
        value = explain_text(linker, "").to_json()
        assert (value["links"], value["mentions"]) == ([], [])
    assert explain_text(linkers["plain"], "x", spans=[]).mentions == ()


def test_infinite_thresholds_are_null_in_json() -> None:
    explanation: Explanation = explain_text(ToyLinker(), "Paris", thresholds=Thresholds(-math.inf))
    assert json.loads(json.dumps(explanation.to_json(), allow_nan=False))["threshold"] is None

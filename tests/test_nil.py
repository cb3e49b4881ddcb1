"""Scores of gold mentions outside the catalogue, and of detected spans, against their definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given
from outcomes import done, refused

from blink.data.records import Mention, Sample
from blink.evaluation.nil import NilScores, SpanRecall, nil_report
from blink.linking.analysis import Analysis
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans
from tests.test_report import question, question_lists

OPEN = ("--model", "model", "--kb", "kb", "--device", "cpu", "--precision", "fp32")


@pytest.mark.quick
class TestNil:
    def test_by_hand(self) -> None:
        texts = [
            question([(None, 0, 5), ("1", 8, 12)], [("1", 8, 12)]),  # right twice
            question([(None, 0, 5)], [("3", 4, 9)]),  # a wrong link
            question([("1", 0, 5), (None, 10, 12)], []),  # missed, right
        ]
        nil = NilScores.of(texts)
        assert nil == NilScores(mentions=5, nil=3, unlinked=3, correct=2, weak=1, strong=1)
        assert (nil.precision, nil.recall, nil.f1) == (2 / 3, 2 / 3, 2 / 3)
        assert nil.to_json()["wrong_links"] == 1
        assert nil.to_json()["right"] == {"weak": 3, "strong": 3, "gold": 5}

    @given(question_lists)
    def test_by_definition(self, texts: list[Any]) -> None:
        gold = [(t, g) for t in texts for g in t.gold]
        unlinked = [g for t, g in gold if not any(p.start < g.end and g.start < p.end for p in t.predicted)]
        nil = NilScores.of(texts)
        outside = [g for _, g in gold if g.id is None]
        both = [g for g in unlinked if g.id is None]
        assert (nil.mentions, nil.nil, nil.unlinked, nil.correct) == (len(gold), len(outside), len(unlinked), len(both))
        assert nil.precision == (len(both) / len(unlinked) if unlinked else 0)
        assert nil.recall == (len(both) / len(outside) if outside else 0)
        mean = 2 * nil.precision * nil.recall / (nil.precision + nil.recall) if both else 0
        assert nil.f1 == pytest.approx(mean)
        assert nil.strong <= nil.weak <= nil.mentions - nil.nil

    def test_nothing_at_all(self) -> None:
        figures, text = nil_report([], [], [])
        assert figures["nil"]["f1"] == figures["spans"]["recall_proposed"] == 0
        assert "nan" not in text


@pytest.mark.quick
def test_span_recall() -> None:
    offsets = np.array([[0, 3], [4, 8], [8, 9], [10, 14]])
    spans = ScoredSpans(
        np.array([0, 1, 3]), np.array([1, 1, 3]), np.array([0.5, -0.5, 0.0], np.float32),
        np.zeros((3, 1), np.int64), np.zeros((3, 1), np.float32),
    )  # fmt: skip
    gold = (Mention(0, 8), Mention(4, 8, 2), Mention(10, 14), Mention(0, 3), Mention(4, 9))
    counts = SpanRecall.of([Analysis("the oslo, york", offsets, spans)], [Sample("a", "the oslo, york", gold)])
    assert counts == SpanRecall(mentions=5, proposed=3, likely=1)
    assert counts.to_json() == {"gold": 5, "proposed": 3, "likely": 1, "recall_proposed": 0.6, "recall_likely": 0.2}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blink: Callable[..., tuple[int, str, str]]) -> None:
    monkeypatch.chdir(tmp_path)
    model = toys.model(6, threshold=-3.0)
    model.save_pretrained(tmp_path / "model")
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(20))
    (linked,) = Linker(model, kb, threshold=-12.0, device="cpu", precision="fp32").link(["Oslo 7 by the Ohio river, Java 8"])
    first, second, *_ = linked.links
    end = len(linked.text)
    rows = [[first.start, first.end, first.row], [second.start, second.end, -1], [end - 1, end, -1]]
    row = {"text": linked.text, "mentions": [r[:2] for r in rows], "label_id": [r[2] for r in rows]}
    (tmp_path / "gold.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "plain.jsonl").write_text(json.dumps({"text": "Oslo"}) + "\n")
    options = (*OPEN, "--threshold", -12, "--nil")
    report = json.loads(done(blink("eval", "gold.jsonl", *options, "--json", "-", "--save-preds", "gold.npz"))[0])
    overlapped = any(link.end == end for link in linked.links)
    assert report["nil"]["gold"] == 2
    assert report["nil"]["wrong_links"] == 1 + overlapped
    assert report["spans"]["gold"] == 3
    assert report["spans"]["proposed"] >= 2
    again = json.loads(done(blink("eval", "--preds", "gold.npz", "--threshold", -12, "--nil", "--json", "-"))[0])
    assert again["nil"] == report["nil"]
    assert "outside the catalogue" in done(blink("eval", "gold.jsonl", *options))[0]
    assert "nil" not in json.loads(done(blink("eval", "gold.jsonl", *OPEN, "--json", "-"))[0])
    refused(blink("eval", "plain.jsonl", *options), "has no gold mentions to score; leave --nil out")

"""Corrections of links: their file, annotation tools, evaluation of texts labelled in part, and the update of a reranker."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.apps.cli import cli
from blink.apps.common import guarded
from blink.data.annotation import TOOLS, Skipped
from blink.data.corrections import Corrections
from blink.data.mention_files import parse_row, read_samples, row_of
from blink.data.records import Entity, Link, LinkedText, Mention, Sample
from blink.errors import DataError
from blink.evaluation.counts import evaluated_text
from blink.linking.features import FEATURES
from blink.model.reranker import RerankerNetwork
from blink.training.fit.reranker import LabelledSpans
from blink.training.fit.update import compared, fit_update

TEXTS = ("Java is an island.", "🏝️ Java is an island, Jáva too.", "a𝄞b c")


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    text = draw(st.sampled_from(TEXTS))
    bounds = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=6)))
    entity = st.sampled_from([("Q1", -1), (None, -1), (None, 7), ("own:5", -1)])
    mentions = []
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        kb_id, row = draw(entity)
        mentions.append(Mention(start, end, row, kb_id))
    return Sample(draw(st.sampled_from("abc")), text, tuple(mentions))


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=40, deadline=None)
@given(sample=samples())
def test_annotation_tools_return_what_they_were_given(
    tool: str, sample: Sample, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, skipped = tmp_path_factory.mktemp(tool) / "file.json", Skipped()
    assert TOOLS[tool].write([sample], path) == 1
    (returned,) = TOOLS[tool].read(path, skipped)
    assert (returned.text, returned.mentions, skipped.counts) == (sample.text, sample.mentions, {})


def test_label_studio_offsets_in_utf16_are_recognised_and_misfits_counted(tmp_path: Path) -> None:
    text = "🏝️ Java"
    at = len("🏝️ ".encode("utf-16-le")) // 2
    regions: list[dict[str, Any]] = []
    for name, value in (
        ("a", {"start": at, "end": at + 4, "text": "Java"}),
        ("b", {"start": 0, "end": 4, "text": "Oslo"}),
        ("c", {"start": 3, "end": 7, "text": "Java"}),
    ):
        regions.append({"id": name, "type": "labels", "value": value | {"labels": ["Mention"]}})
        if name != "c":
            regions.append({"id": name, "type": "textarea", "value": value | {"text": ["Q3757"]}})
    annotations = [{"result": regions}, {"was_cancelled": True, "result": []}]
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"data": {"text": text}, "annotations": annotations}]))
    skipped = Skipped()
    (sample,) = TOOLS["label-studio"].read(path, skipped)
    assert [text[m.start : m.end] for m in sample.mentions or ()] == ["Java"]
    assert skipped.counts == {"regions do not fit their text": 1, "regions have no entity": 1}


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"data": {}}]', '{"text": 1, "label": [[0]]}'])
@pytest.mark.parametrize("tool", TOOLS)
def test_other_files_are_refused_in_a_line(tool: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.json").write_text(content)
    arguments = ["convert", str(tmp_path / "in.json"), "--from", tool, "--out", str(tmp_path / "out.jsonl")]
    assert guarded(lambda: cli.main(arguments, prog_name="blink", standalone_mode=False), "blink") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


@settings(max_examples=40, deadline=None)
@given(sample=samples())
def test_a_row_is_read_as_it_was_written(sample: Sample) -> None:
    assert parse_row(json.loads(json.dumps(row_of(sample)))) == sample


def test_corrections_are_a_mention_file_and_the_last_word_counts(tmp_path: Path) -> None:
    path, island, language = tmp_path / "new" / "fix.jsonl", Entity(1, "Java (island)", kb_id="Q3757"), Entity(2, "Java")
    first = Corrections()
    first.add("Java or Oslo.", 0, 4, island)
    first.add("Java or Oslo.", 8, 12, None)
    first.save(path)
    second = Corrections()
    second.add("Java or Oslo.", 0, 7, language)  # overlaps the first
    second.add("Oslo.", 0, 4, None)
    second.save(path)
    second.save(path)
    saved = list(read_samples(path))
    assert [(m.start, m.end, m.row, m.kb_id) for m in saved[0].mentions or ()] == [(0, 7, 2, None), (8, 12, -1, None)]
    assert [s.text for s in saved] == ["Java or Oslo.", "Oslo."]
    assert all(sample.partial for sample in saved)
    with pytest.raises(DataError, match="outside the text"):
        second.add("Oslo.", 3, 9, None)


def test_links_that_gold_cannot_judge_do_not_count() -> None:
    """In a corrected text, links that touch no correction may be right."""
    links = tuple(Link(*span, "x", 1, None, "", 0.9) for span in ((0, 4), (8, 12), (13, 17)))
    linked = LinkedText("Java or Oslo Java", links)
    gold = (Mention(0, 4, 1), Mention(11, 14, -1))
    whole = Sample("a", linked.text, gold)
    assert len(evaluated_text(whole, linked).predicted) == 3
    in_part = Sample("a", linked.text, gold, partial=True)
    assert [p.start for p in evaluated_text(in_part, linked).predicted] == [0, 8, 13]
    elsewhere = Sample("a", linked.text, gold[:1], partial=True)
    assert [p.start for p in evaluated_text(elsewhere, linked).predicted] == [0]
    stretch = Sample("a", linked.text, gold[:1], unlabelled=((7, 10),))
    assert [p.start for p in evaluated_text(stretch, linked).predicted] == [0, 13]


def network(seed: int = 0) -> RerankerNetwork:
    random = np.random.default_rng(seed)
    sizes = (len(FEATURES), 8, 8, 1)
    layers = tuple(
        (random.normal(0, 0.3, (out, into)).astype(np.float32), np.zeros(out, np.float32))
        for into, out in itertools.pairwise(sizes)
    )
    return RerankerNetwork(FEATURES, np.zeros(sizes[0], np.float32), np.ones(sizes[0], np.float32), layers, -5.0)


def spans(n: int, seed: int) -> LabelledSpans:
    random = np.random.default_rng(seed)
    real = np.arange(4) < random.integers(1, 5, n)[:, None]
    target = np.array([random.integers(-1, width) for width in real.sum(1)])
    return LabelledSpans(random.normal(0, 1, (n, 4, len(FEATURES))).astype(np.float32), real, target)


def probabilities(network: RerankerNetwork, of: LabelledSpans) -> np.ndarray:
    scores = np.concatenate([np.zeros((len(of), 1)), network.scores(of.features, of.real)], axis=1)
    return np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))


def test_an_update_follows_corrections_as_far_as_it_may() -> None:
    old, corrected, others = network(), spans(20, 1), spans(300, 2)

    def loss(new: RerankerNetwork) -> float:
        return float(-np.log(probabilities(new, corrected)[np.arange(20), corrected.target + 1]).mean())

    def moved(new: RerankerNetwork) -> float:
        return float(np.abs(probabilities(new, others) - probabilities(old, others)).max())

    weak, strong = fit_update(old, corrected, others, 0.1), fit_update(old, corrected, others, 100.0)
    assert loss(weak) < loss(strong) < loss(old)
    assert moved(strong) < 0.05 < moved(weak)
    # Only the last layer changes, and without labels nothing does.
    assert all((a[0] == b[0]).all() for a, b in zip(old.layers[:-1], weak.layers[:-1], strict=True))
    again = fit_update(old, corrected, others, 0.1)
    np.testing.assert_array_equal(again.layers[-1][0], weak.layers[-1][0])


def test_broken_and_repaired_links_are_counted() -> None:
    sample = Sample("a", "Java or Oslo", (Mention(0, 4, 1), Mention(8, 12, 2)))

    def linked(*rows: tuple[int, int, int]) -> Any:
        return evaluated_text(sample, LinkedText(sample.text, tuple(Link(s, e, "", r, None, "", 1.0) for s, e, r in rows)))

    change = compared("x", [linked((0, 4, 1), (8, 12, 5))], [linked((8, 12, 2))])
    assert (change.right, change.wrong, change.repaired, change.broken) == ((1, 1), (1, 0), 1, 1)
    assert change.f1 == (0.5, 2 / 3)
    assert change.is_better


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A toy model with a reranker, and its knowledge base."""
    folder = tmp_path_factory.mktemp("update")
    model = toys.ranked(toys.model(cosine=True), network())
    model.save_pretrained(folder / "model")
    toys.knowledge_base(folder / "kb", model, toys.rows())
    return folder / "model", folder / "kb"


def test_an_update_is_kept_only_if_held_out_links_are_no_worse(
    stored: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, kb = stored
    corrections = Corrections()
    for row, entity in enumerate(toys.rows()[:6]):
        name = entity["title"]
        corrections.add(f"We saw {name} today.", 7, 7 + len(name), Entity(row, name))
    corrections.save(tmp_path / "fix.jsonl")
    old = (model / "ranker.safetensors").read_bytes()
    arguments = ["rank", str(model), "--update", "--kb", str(kb), "--train", str(tmp_path / "fix.jsonl")]

    def run(*more: str) -> int:
        return guarded(lambda: cli.main([*arguments, *more], prog_name="blink", standalone_mode=False), "blink")

    assert run("--out", str(tmp_path / "new")) == 0
    printed = capsys.readouterr().out
    assert "corrections (fitted to them): strong F1" in printed
    assert (model / "ranker.safetensors").read_bytes() == old
    assert (tmp_path / "new").exists() == ("the new reranker is stored" in printed)
    assert run("--out", str(model)) == 1
    assert "exists" in capsys.readouterr().err
    assert guarded(lambda: cli.main(["rank", "starter", *arguments[2:]], standalone_mode=False), "blink") == 1
    assert "not changed in place" in capsys.readouterr().err

"""Readings in a file: they come back as they were, and choosing from them equals running the model again."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.data import arrays as arrays_module
from blink.data.records import Mention, Sample
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError, ShapeError
from blink.evaluation import saved as module
from blink.evaluation.counts import evaluated_text
from blink.evaluation.report import evaluate
from blink.evaluation.saved import Provenance, SavedPredictions, model_hash, read_predictions, write_predictions
from blink.evaluation.sweep import (
    THRESHOLDS,
    best_point,
    best_scores,
    curve,
    grid,
    narrowed,
    question_at,
    sweep,
)
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis
from blink.linking.decoder import MODES, Decoder, Mode, Thresholds
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans
from blink.model.biencoder import BiEncoder
from tests import toys
from tests.damage import ARRAY_CHANGES, Damage

Run = Callable[..., tuple[int, str, str]]
TEXTS = (
    "Who governed Georgia 0 before Atlanta 2 burned?",
    "the ohio river the 3th, lake garda 4 and Mount Elbrus 6",
    "",
    "Turing 9!",
    "Java 8 or Mercury 5? Oslo 7.",
    "Tbilisi 1 is in Georgia 10, Atlanta the 12th is in Georgia",
)
"""Each fits one window."""
PROVENANCE = Provenance("dev.jsonl", "d", "m", "mm", "k", "kk", {"mode": "joint", "entities": 3, "mentions": 50}, -2.5)


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(6)


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))


def open_toy(model: BiEncoder, kb: KnowledgeBase, **options: Any) -> Linker:
    return Linker(model, kb, precision="fp32", device="cpu", **{"threshold": -3.0, **options})


@pytest.fixture(scope="module")
def readings(model: BiEncoder, kb: KnowledgeBase) -> list[Analysis]:
    return list(open_toy(model, kb).analyze(TEXTS))


@pytest.fixture(scope="module")
def samples(model: BiEncoder, kb: KnowledgeBase) -> list[Sample]:
    """Gold that is sometimes right: the linker's entity for every second span, and an entity outside the catalogue."""
    labelled = []
    for number, linked in enumerate(open_toy(model, kb, threshold=-12.0).link(TEXTS)):
        gold = [Mention(x.start, x.end, x.row + (i % 2), x.kb_id) for i, x in enumerate(linked.links[:3])]
        gold += [Mention(0, 3, -1, "Q1")] if number == 1 else []
        labelled.append(Sample(f"id {number}", linked.text, tuple(gold) if number != 3 else ()))
    return labelled


def stored(path: Path, samples: list[Sample], readings: list[Analysis], **changes: Any) -> SavedPredictions:
    write_predictions(path, SavedPredictions(samples, readings, replace(PROVENANCE, **changes)))
    return read_predictions(path)


def same_spans(one: ScoredSpans, other: ScoredSpans) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return all((a is b is None) or (a.dtype == b.dtype and np.array_equal(a, b)) for a, b in pairs)


def test_everything_comes_back(samples: list[Sample], readings: list[Analysis], tmp_path: Path) -> None:
    slices = [tuple("ambiguous" if m.row >= 0 else None for m in s.mentions or ()) for s in samples]
    write_predictions(tmp_path / "r.npz", SavedPredictions(samples, readings, PROVENANCE, slices))
    back = read_predictions(tmp_path / "r.npz")
    assert back.provenance == PROVENANCE
    assert back.samples == samples
    assert back.slices == slices
    for one, other in zip(readings, back.analyses, strict=True):
        assert one.text == other.text
        assert np.array_equal(one.offsets, other.offsets)
        assert same_spans(one.spans, other.spans)


def test_what_was_never_labelled_stays_so(readings: list[Analysis], tmp_path: Path) -> None:
    back = stored(tmp_path / "r.npz", [Sample(str(i), r.text) for i, r in enumerate(readings)], readings)
    assert not back.labelled
    assert all(s.mentions is None for s in back.samples)
    assert back.slices == []


@st.composite
def made_up(draw: st.DrawFn) -> tuple[list[Sample], list[Analysis]]:
    samples, readings = [], []
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
    for name, words in draw(st.lists(st.tuples(text, text), min_size=1, max_size=5)):
        m = draw(st.integers(0, 4))
        offsets = np.array([(i, i + 1) for i in range(len(words))])
        start = np.sort(generator.integers(len(words), size=m))
        logits = generator.normal(size=(m, 3)).astype(np.float32)
        rows = generator.integers(-1, 9, size=(m, 3))
        spans = ScoredSpans(start, start, logits[:, 0] - 1, rows, -np.sort(-logits, axis=1))
        gold = draw(st.sampled_from([None, (), (Mention(0, 1, 4, "Q5"), Mention(0, 1, -1))]))
        samples.append(Sample(name, words, gold))
        readings.append(Analysis(words, offsets, spans))
    return samples, readings


@given(made_up())
def test_any_readings_come_back(case: tuple[list[Sample], list[Analysis]]) -> None:
    import tempfile

    samples, readings = case
    with tempfile.TemporaryDirectory() as folder:
        back = stored(Path(folder) / "r.npz", samples, readings)
    assert back.samples == samples
    assert all(same_spans(a.spans, b.spans) for a, b in zip(readings, back.analyses, strict=True))
    linker = Decoder("joint", Thresholds(-2.0))
    for reading, again in zip(readings, back.analyses, strict=True):
        assert linker.decode(reading) == linker.decode(again)


MODE_CUTS = [
    *((mode, Thresholds(t)) for mode in ("joint", "joint_0") for t in (-12.0, -6.0, -3.0, -2.5, -2.0)),
    *(("top_entity_by_mention", Thresholds(0.0, t)) for t in (-1.0, 0.5)),
    *(("thresholded_entity_by_mention", Thresholds(s, t)) for s, t in ((0.0, 0.0), (3.0, -1.0))),
    *((mode, Thresholds(0.0)) for mode in ("top_joint_by_mention", "best_entity_by_mention")),
]


@pytest.mark.parametrize(("mode", "thresholds"), MODE_CUTS)
def test_the_same_links_as_running_the_model(
    model: BiEncoder,
    kb: KnowledgeBase,
    samples: list[Sample],
    readings: list[Analysis],
    tmp_path: Path,
    mode: str,
    thresholds: Thresholds,
) -> None:
    linker = open_toy(model, kb, threshold=thresholds.score, mention_threshold=thresholds.mention, mode=mode)
    ran = [evaluated_text(s, linked) for s, linked in zip(samples, linker.link(TEXTS), strict=True)]
    saved = stored(tmp_path / "r.npz", samples, readings)
    replay = Decoder(mode, thresholds)
    again = [question_at(replay, r, s) for r, s in zip(saved.analyses, saved.samples, strict=True)]
    assert again == ran
    assert any(q.predicted for q in ran)
    (point,) = curve(replay, saved.analyses, saved.samples, [thresholds.score])
    report = evaluate(ran)
    for counts, section in ((point.overall, report.overall), (point.covered, report.covered)):
        assert (counts.weak, counts.strong, counts.gold) == (section.weak.correct, section.strong.correct, section.weak.gold)


@pytest.mark.parametrize("threshold", [-6.0, -2.5])
def test_the_same_links_of_long_and_odd_texts(model: BiEncoder, kb: KnowledgeBase, tmp_path: Path, threshold: float) -> None:
    """Several windows, combining marks, symbols, blanks of all kinds."""
    texts = [
        "Java or Mercury? Oslo. " * 30,
        "Zu\u0308rich and\u2003O\u0301slo \U0001f600 Java\ufe0f",
        " \n\t ",
        "\ud55c\uad6d \u6771\u4eac",
    ]
    linker = open_toy(model, kb, threshold=threshold)
    samples = [Sample(str(i), text, ()) for i, text in enumerate(texts)]
    ran = [evaluated_text(s, linked) for s, linked in zip(samples, linker.link(texts), strict=True)]
    saved = stored(tmp_path / "r.npz", samples, list(linker.analyze(texts, min_mention_log_prob=min(THRESHOLDS))))
    replay = Decoder("joint", linker.thresholds)
    assert [question_at(replay, r, s) for r, s in zip(saved.analyses, saved.samples, strict=True)] == ran
    assert any(len(q.predicted) > 20 for q in ran) or threshold > -6


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_fewer_candidates_are_as_if_fewer_had_been_read(
    model: BiEncoder, kb: KnowledgeBase, readings: list[Analysis], k: int
) -> None:
    fewer = list(open_toy(model, kb, entities=k).analyze(TEXTS))
    for one, other in zip(narrowed(readings, entities=k), fewer, strict=True):
        assert np.array_equal(one.spans.rows, other.spans.rows)
        np.testing.assert_allclose(one.spans.entity_logits, other.spans.entity_logits, rtol=1e-5)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_fewer_mentions_are_as_if_fewer_had_been_read(model: BiEncoder, kb: KnowledgeBase, number: int) -> None:
    every, fewer = (list(open_toy(model, kb, mentions=m).analyze(TEXTS)) for m in (50, number))
    for one, other in zip(narrowed(every, mentions=number), fewer, strict=True):
        assert same_spans(one.spans, other.spans)


def test_more_candidates_than_were_read(readings: list[Analysis]) -> None:
    with pytest.raises(SettingsError, match="11 candidates asked for, but 10"):
        list(narrowed(readings, entities=11))


def test_a_low_floor_changes_nothing_above_it(
    model: BiEncoder, kb: KnowledgeBase, samples: list[Sample], readings: list[Analysis]
) -> None:
    linker = open_toy(model, kb)
    above = list(linker.analyze(TEXTS, min_mention_log_prob=min(THRESHOLDS)))
    assert curve(linker.decoder, above, samples, THRESHOLDS) == curve(linker.decoder, readings, samples, THRESHOLDS)


def test_the_curve_is_that_of_every_threshold_on_its_own(samples: list[Sample], readings: list[Analysis]) -> None:
    linker = Decoder("joint", Thresholds(0.0))
    exact = [float(s) for r in readings for s in best_scores(r.spans, "joint")]
    thresholds = [*THRESHOLDS, *exact, -np.inf, 0.0]
    for point in curve(linker, readings, samples, thresholds):
        questions = [question_at(linker, r, s, Thresholds(point.threshold)) for r, s in zip(readings, samples, strict=True)]
        report = evaluate(questions, n_resamples=1)
        for counts, section in ((point.overall, report.overall), (point.covered, report.covered)):
            assert counts.scores("weak") == replace(section.weak, f1_low=0.0, f1_high=0.0)
            assert counts.scores("strong") == replace(section.strong, f1_low=0.0, f1_high=0.0)
    weak = [p.point("weak") for p in curve(linker, readings, samples, thresholds)]
    assert weak == sweep(linker, readings, samples, thresholds)


def test_predictions_thin_out_as_the_threshold_rises(samples: list[Sample], readings: list[Analysis]) -> None:
    points = curve(Decoder("joint", Thresholds(0.0)), readings, samples, THRESHOLDS)
    predicted = [p.overall.predicted for p in points]
    assert predicted == sorted(predicted, reverse=True)
    assert predicted[0] > predicted[-1]


@pytest.mark.parametrize(("mode", "low", "high"), [("joint", -6.0, 0.0), ("best_entity_by_mention", -99.0, 99.0)])
def test_grid(readings: list[Analysis], mode: str, low: float, high: float) -> None:
    tried = grid(readings, mode, low)
    assert 25 <= len(tried) <= 65
    assert low <= tried[0] < tried[-1] <= high
    assert list(tried) == sorted(set(tried))
    assert grid([], mode) == (0.0,)


def test_best_point_is_the_middle_of_a_plateau() -> None:
    points = [p.point("weak") for p in curve(Decoder("joint", Thresholds(0.0)), [], [], [-3.0, -2.0, -1.0])]
    assert best_point(points).threshold == -2.0


@dataclass(frozen=True)
class Wider(ScoredSpans):
    """As spans may become: with a probability of the best candidate."""

    probability: np.ndarray | None = None


def test_whatever_fields_spans_have(
    samples: list[Sample], readings: list[Analysis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ScoredSpans", Wider)
    mode = Mode(lambda s: s.probability[:, None], MODES["joint"].keep)  # type: ignore[attr-defined]
    monkeypatch.setitem(MODES, "by_probability", mode)

    def widened(spans: ScoredSpans) -> Wider:
        columns = {f.name: getattr(spans, f.name) for f in fields(spans)}
        return Wider(**columns, probability=np.exp(best_scores(spans, "joint")))

    wide = [replace(r, spans=widened(r.spans)) for r in readings]
    back = stored(tmp_path / "r.npz", samples, wide)
    assert all(same_spans(a.spans, b.spans) for a, b in zip(wide, back.analyses, strict=True))
    tried = grid(back.analyses, "by_probability")
    assert tried[0] >= 0
    assert tried[-1] <= 1
    by_probability = curve(Decoder("by_probability", Thresholds(0.0)), back.analyses, back.samples, [0.05, 0.2, 0.9])
    joint = curve(Decoder("joint", Thresholds(0.0)), readings, samples, np.log([0.05, 0.2, 0.9]).tolist())
    assert [(p.overall, p.covered) for p in by_probability] == [(p.overall, p.covered) for p in joint]
    plain = [replace(r, spans=Wider(**{f.name: getattr(r.spans, f.name) for f in fields(r.spans)})) for r in readings]
    assert all(r.spans.probability is None for r in stored(tmp_path / "p.npz", samples, plain).analyses)  # type: ignore[attr-defined]
    with pytest.raises(ShapeError, match="probability"):
        stored(tmp_path / "m.npz", samples, [plain[0], *wide[1:]])
    monkeypatch.undo()
    with pytest.raises(DataError, match="probability"):
        read_predictions(tmp_path / "r.npz")


def test_no_pickles_inside(samples: list[Sample], readings: list[Analysis], tmp_path: Path) -> None:
    stored(tmp_path / "r.npz", samples, readings)
    with np.load(tmp_path / "r.npz", allow_pickle=False) as file:
        assert all(not file[name].dtype.hasobject for name in file.files)
        assert json.loads(file["metadata"].tobytes())["data"] == "dev.jsonl"
        characters = file["characters"].tolist()
    assert len(characters) == sum(len(r.spans) for r in readings)
    assert all(text.strip() for text in (TEXTS[0][s:e] for s, e in characters[: len(readings[0].spans)]))


def zipped(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no zip at all", pickle.dumps([1]), zipped(a=np.zeros(2)), zipped(metadata=np.array([{}], dtype=object)),
        zipped(metadata=np.frombuffer(b"{}", np.uint8)), zipped(metadata=np.frombuffer(b"[", np.uint8)),
    ],
)  # fmt: skip
def test_files_that_are_no_readings(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(DataError, match="holds no predictions"):
        read_predictions(tmp_path / "r.npz")


def test_a_file_cut_off_or_of_another_format(samples: list[Sample], readings: list[Analysis], tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    with pytest.raises(MissingFileError):
        read_predictions(path)
    stored(path, samples, readings)
    content = path.read_bytes()
    for size in (len(content) // 3, len(content) - 5):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="holds no predictions"):
            read_predictions(path)
    with pytest.raises(MismatchError, match="format 9"):
        stored(path, samples, readings, format=9)
    path.write_bytes(content)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    path.write_bytes(zipped(**{**arrays, "gold": arrays["gold"] + 1}))
    with pytest.raises(DataError, match="its arrays are not those that were written"):
        read_predictions(path)
    del arrays["sha256"]  # as earlier versions write them
    for name, value in (("spans_at", arrays["spans_at"][:-1]), ("gold_at", arrays["gold_at"] + 1)):
        path.write_bytes(zipped(**{**arrays, name: value}))
        with pytest.raises(DataError, match="do not fit"):
            read_predictions(path)


@pytest.mark.parametrize("kind", ARRAY_CHANGES)
def test_odd_arrays_of_an_earlier_version_end_in_one_line_or_in_scores(
    samples: list[Sample], readings: list[Analysis], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "r.npz"
    stored(path, samples, readings)
    with np.load(path) as file:
        content = zipped(**{name: file[name] for name in file.files if name != "sha256"})
    refused = list[str]()
    for seed in range(12):
        path.write_bytes(content)
        Damage(kind, seed).apply(path)
        try:
            saved = read_predictions(path)
            curve(Decoder("joint", Thresholds(-3.0)), saved.analyses, saved.samples, THRESHOLDS)
        except DataError as error:
            refused.append(str(error))
    assert not any("\n" in message for message in refused)
    assert refused or kind == "shuffled"


def test_an_archive_that_holds_far_more_than_its_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "RATIO_FROM", 1 << 16)
    monkeypatch.setenv("BLINK_LIMITS", "ratio=20")
    np.savez_compressed(tmp_path / "r.npz", texts=np.zeros(1 << 20, np.uint8))
    with pytest.raises(DataError, match=r"has more than 20 times its size .*--limits ratio=80"):
        read_predictions(tmp_path / "r.npz")


def test_provenance_that_does_not_fit() -> None:
    PROVENANCE.require("r.npz", data_sha256="d", model_sha256="mm")
    with pytest.raises(MismatchError, match=r"another mention file \(dev.jsonl\) than x.jsonl"):
        PROVENANCE.require("r.npz", of="x.jsonl", data_sha256="e")
    with pytest.raises(MismatchError, match="another model"):
        PROVENANCE.require_like("a.npz", replace(PROVENANCE, model_sha256="n"), "b.npz")
    with pytest.raises(MismatchError, match=r"entities 3, b.npz with 5"):
        PROVENANCE.require_like("a.npz", replace(PROVENANCE, parameters=PROVENANCE.parameters | {"entities": 5}), "b.npz")
    PROVENANCE.require_like("a.npz", replace(PROVENANCE, data="other", data_sha256="o", threshold=-1.0), "b.npz")


def test_a_threshold_does_not_make_a_model_another(tmp_path: Path) -> None:
    biencoder = toys.model(0)
    biencoder.save_pretrained(tmp_path / "m")
    before = model_hash(tmp_path / "m")
    biencoder.config = biencoder.config.replace(threshold=-0.7)
    biencoder.save_pretrained(tmp_path / "m")
    assert model_hash(tmp_path / "m") == before
    biencoder.config = biencoder.config.replace(max_mention_length=3)
    biencoder.save_pretrained(tmp_path / "m")
    assert model_hash(tmp_path / "m") != before
    toys.model(1).save_pretrained(tmp_path / "other")
    assert model_hash(tmp_path / "other") != before

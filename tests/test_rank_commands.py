"""``blink rank``, ``blink calibrate`` and ``blink label``: from two models that left texts out to a third that ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from outcomes import done, refused

from blink.data.mention_files import read_samples
from blink.evaluation.sweep import best_scores
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.folder import CONFIG_FILE
from blink.model.loading import load_model
from blink.model.reranker import RANKER_FILE, RerankerNetwork, Scaling
from blink.model.stored_files import store_settings

torch.set_num_threads(1)

Run = Callable[..., tuple[int, str, str]]
TRAIN = ("train", "--train", "train.jsonl", "--dev", "dev.jsonl", "--kb", "kb", "--model", "base", "--epochs", "1")
FAST = ("--learning-rate", "0.02", "--head-learning-rate", "0.02")
TRAIN_OPTIONS = (*FAST, "--batch-size", "8", "--precision", "fp32", "--device", "cpu")
FOLDS = ("--fold", "runs/a", "--fold", "runs/b")
FIT = ("--floor", "-9", "--epochs", "30", "--batch-size", "128", "--members", "1", "--absent", "0")
RANK = ("--kb", "kb", "--train", "train.jsonl", *FIT)
RELATED = ("--mix", "questions=1,related=0.5", "--triples")
MODEL = "runs/all/best"
OPEN = ("--model", MODEL, "--kb", "kb", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder, two knowledge bases (``other`` is of another encoder's vectors), and questions."""
    folder = tmp_path_factory.mktemp("home")
    encoder = load_model(toys.base_folder(folder / "base"), context=False, candidate=True)
    kb = toys.knowledge_base(folder / "kb", encoder, toys.rows(24))
    toys.model(3).save_pretrained(folder / "stranger")
    toys.knowledge_base(folder / "other", toys.model(3), toys.rows(12))
    rows = []
    for i in range(48):
        title = kb.catalogue.title(i % 24)
        rows.append({"id": str(i), "text": f"where is {title}?", "mentions": [[9, 9 + len(title)]], "label_id": [i % 24]})
    plain = [{"id": f"p{i}", "text": f"who left {row['text'][9:-1]}"} for i, row in enumerate(rows[:12])]
    cut = [{"text": "unmozartlike", "mentions": [[1, 3]], "label_id": [2]}]
    foreign = [{"text": "in Oslo", "mentions": [[3, 7]], "wikidata_id": ["/m/05l64"]}]
    files = (("train", rows), ("dev", rows[:12]), ("plain", plain), ("cut", cut), ("foreign", foreign))
    for name, lines in files:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (folder / "latin.tsv").write_bytes("Q101\té\tQ102\n".encode("latin-1"))
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture
def trained(blink: Run, home: Path) -> None:
    """Runs ``a`` and ``b``, which left a half out each, and ``all``, which has no reranker yet."""
    if not (home / "runs").exists():
        for name, more in (("a", ("--leave-out", "0/2")), ("b", ("--leave-out", "1/2")), ("all", ())):
            done(blink(*TRAIN, *TRAIN_OPTIONS, "--out", f"runs/{name}", *more))
        shutil.copytree(MODEL, "unranked")


@pytest.fixture
def ranked(blink: Run, trained: None, home: Path) -> None:
    """The reranker of ``all``, not calibrated."""
    if not (home / MODEL / RANKER_FILE).exists():
        done(blink("rank", MODEL, *RANK, *FOLDS))


@pytest.fixture
def calibrated(blink: Run, ranked: None, home: Path) -> dict[str, Any]:
    """The figures of its calibration."""
    if not (home / "figures.json").exists():
        done(blink("calibrate", MODEL, "--on", "kb", "dev.jsonl", "--json", "figures.json", "--plots", "new/plots"))
    report: dict[str, Any] = json.loads((home / "figures.json").read_text())
    return report


@pytest.fixture
def unsure(ranked: None, tmp_path: Path) -> Path:
    """The same model with probabilities that are neither 0 nor 1."""
    folder = shutil.copytree(MODEL, tmp_path / "unsure")
    reranker = RerankerNetwork.load(folder)
    assert reranker is not None
    reranker.scaled(Scaling(0.5)).save(folder)
    return folder


class TestRank:
    def test_the_ranker_lies_with_the_model_and_is_used(self, blink: Run, trained: None, home: Path) -> None:
        (home / MODEL / RANKER_FILE).unlink(missing_ok=True)
        before = json.loads(done(blink("eval", "dev.jsonl", *OPEN, "--json", "-"))[0])
        out, err = done(blink("rank", MODEL, *RANK, *FOLDS))
        assert out == ""
        assert "48 of them name an entity" in err  # each question was read by the one model that had not seen it
        assert f"blink calibrate {MODEL} --on kb" in err
        after = json.loads(done(blink("eval", "dev.jsonl", *OPEN, "--json", "-"))[0])
        assert after["threshold"] == BiEncoder.from_pretrained(MODEL).config.cutoff
        assert before["threshold"] < 0 < after["threshold"] < 1
        assert after["all"]["weak"]["f1"] > 0.5 > before["all"]["weak"]["f1"]
        assert json.loads(done(blink("eval", "dev.jsonl", *OPEN, "--no-rank", "--json", "-"))[0])["all"] == before["all"]

    def test_a_model_may_read_texts_of_its_own_and_made_ones(self, blink: Run, trained: None, tmp_path: Path) -> None:
        model = shutil.copytree("unranked", tmp_path / "model")
        _, err = done(blink("rank", model, *RANK, "--mix", "questions=1,plain=0.5,swapped=0.25"))
        assert err.startswith("no --fold is given")
        assert (model / RANKER_FILE).is_file()

    def test_a_cut_off_for_another_ranker_does_not_stay(self, blink: Run, trained: None, tmp_path: Path) -> None:
        models = [shutil.copytree("unranked", tmp_path / name) for name in ("one", "two")]
        before = json.loads((models[0] / CONFIG_FILE).read_text())
        for model in models:
            store_settings(model, BiEncoder.from_pretrained(model).config.replace(cutoff=0.16))
        done(blink("rank", *models, *RANK, *FOLDS))
        for model in models:
            after = json.loads((model / CONFIG_FILE).read_text())
            assert after == {**before, "base": after["base"], "cutoff": 0.5, "reranker": True}

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("nowhere", *RANK, *FOLDS), ("nowhere/config.json does not exist", "blink train")),
            ((MODEL, *RANK, "--fold", "runs/all"), ("runs/all left nothing out", "--leave-out 0/2")),
            ((MODEL, *RANK, "--fold", MODEL), ("settings.json", "run folder of blink train --leave-out")),
            ((MODEL, *RANK, *FOLDS, "--kb", "other"), ("other were made by another model", "blink kb build")),
            (("stranger", *RANK, *FOLDS), ("kb were made by another model",)),
            ((MODEL, *RANK, *FOLDS, "--also", "other"), ("other were made by another model",)),
            ((MODEL, *RANK, *FOLDS, "--train", "nowhere.jsonl"), ("nowhere.jsonl does not exist",)),
            ((MODEL, *RANK, *FOLDS, "--train", "plain.jsonl"), ("plain.jsonl has no gold",)),
            ((MODEL, *RANK, *FOLDS, "--repeat", "dev.jsonl", "2"), ("--repeat names dev.jsonl", "no file of --train")),
            ((MODEL, *RANK, *FOLDS, "--repeat", "train.jsonl", "0"), ("--repeat", "x>=1")),
            ((MODEL, *RANK, *FOLDS, "--train", "cut.jsonl"), ("1 of 1 gold spans begin or end inside a word",)),
            ((MODEL, *RANK, *FOLDS, "--kb", "runs"), ("runs", "not a knowledge base")),
            ((MODEL, *RANK, *FOLDS, "--members", "0"), ("members is 0",)),
            ((MODEL, *RANK, *FOLDS, "--mix", "smell=1"), ("'smell'", "questions")),
            ((MODEL, *RANK, *FOLDS, "--mix", "questions=0.5"), ("questions=0.5", "whole number of times", "questions=1")),
            ((MODEL, *RANK, *FOLDS, "--mix", "questions=1,pseudo=0.5"), ("blink rank takes no pseudo in --mix", "gold")),
            ((MODEL, *RANK, *FOLDS, *RELATED, "latin.tsv"), ("latin.tsv", "not UTF-8", "as UTF-8")),
            ((MODEL, *RANK, *FOLDS, *RELATED, "nowhere.tsv"), ("nowhere.tsv does not exist",)),
            ((MODEL, "--train", "train.jsonl"), ("--kb",)),
        ],
    )
    def test_mistakes(self, blink: Run, trained: None, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
        refused(blink("rank", *arguments), *words)


class TestCalibrate:
    def test_cut_off_and_probabilities_are_stored(self, blink: Run, calibrated: dict[str, Any], home: Path) -> None:
        model = BiEncoder.from_pretrained(MODEL)
        assert model.reranker is not None
        assert model.reranker.scaling == Scaling(**calibrated["scaling"]) != Scaling()
        assert model.config.cutoff == calibrated["cutoff"]
        report = json.loads(done(blink("eval", "dev.jsonl", *OPEN, "--json", "-"))[0])
        assert report["threshold"] == calibrated["cutoff"]
        assert report["covered"]["weak"]["f1"] == pytest.approx(calibrated["weak_f1"])
        assert {"ece", "brier", "bins", "count"} <= set(calibrated["held_out"])
        assert sum(b["count"] for b in calibrated["held_out"]["bins"]) == calibrated["held_out"]["count"]
        assert (home / "new" / "plots" / "reliability.png").stat().st_size > 5000

    def test_again_it_finds_the_same_on_several_files(self, blink: Run, calibrated: dict[str, Any], tmp_path: Path) -> None:
        model = shutil.copytree(MODEL, tmp_path / "model")
        out, _ = done(blink("calibrate", model, *("--on", "kb", "dev.jsonl") * 2, "--json", "-"))
        report = json.loads(out)
        assert report["scaling"] == pytest.approx(calibrated["scaling"], rel=0.25)
        out, _ = done(blink("calibrate", model, *("--on", "kb", "dev.jsonl") * 2))
        assert f"cut-off {report['cutoff']:g}: " in out
        assert "mean of 2 files" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("unranked", "--on", "kb", "dev.jsonl"), ("has no reranker", "blink rank")),
            (("nowhere", "--on", "kb", "dev.jsonl"), ("nowhere/config.json does not exist",)),
            ((MODEL, "--on", "other", "train.jsonl"), ("12 entities",)),
            ((MODEL, "--on", "other", "dev.jsonl"), ("other were made by another model",)),
            ((MODEL, "--on", "kb", "nowhere.jsonl"), ("nowhere.jsonl does not exist",)),
            ((MODEL, "--on", "kb", "plain.jsonl"), ("plain.jsonl has no gold",)),
            ((MODEL, "--on", "kb", "cut.jsonl"), ("cut.jsonl", "1 of 1 gold spans begin or end inside a word")),
            ((MODEL, "--on", "kb", "foreign.jsonl"), ("none of the 1 gold ids is in the catalogue", "'/m/05l64'")),
            ((MODEL, "--on", "kb"), ("--on", "2 arguments")),
            ((MODEL,), ("--on",)),
            ((MODEL, "--on", "kb", "dev.jsonl", "--json", "no/where.json"), ("no does not exist",)),
            ((MODEL, "--on", "kb", "dev.jsonl", "--json", "kb"), ("kb is a folder",)),
            ((MODEL, "--on", "kb", "dev.jsonl", "--plots", "dev.jsonl"), ("dev.jsonl is a file",)),
        ],
    )
    def test_mistakes(self, blink: Run, ranked: None, home: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
        before = {p.name: p.read_bytes() for p in (home / MODEL).iterdir()}
        refused(blink("calibrate", *arguments), *words)
        assert {p.name: p.read_bytes() for p in (home / MODEL).iterdir()} == before


class TestLabel:
    def test_what_is_labelled_can_be_trained_on(self, blink: Run, calibrated: dict[str, Any], tmp_path: Path) -> None:
        out = tmp_path / "labelled.jsonl"
        _, err = done(blink("label", "plain.jsonl", *OPEN, "--out", out))
        samples = {s.id: s for s in read_samples(out)}
        assert f"{len(samples)} of 12 texts" in err
        assert samples
        mentions = [(s.text[m.start : m.end], m) for s in samples.values() for m in s.mentions or ()]
        assert mentions
        assert all(text == mention.title for text, mention in mentions)  # titles are all that these texts name
        command = (*TRAIN, *TRAIN_OPTIONS, "--out", tmp_path / "run", "--pseudo", out, "--mix", "questions=1,pseudo=0.5")
        done(blink(*command))
        steps = [json.loads(line) for line in (tmp_path / "run" / "trace.jsonl").read_text().splitlines()]
        assert max(row.get("step", 0) for row in steps) == 9  # 48 questions and 24 labelled ones, eight at a time

    def test_spans_that_lose_to_a_link_can_be_in_doubt_too(self, blink: Run, unsure: Path) -> None:
        linker = Linker.from_pretrained(unsure, "kb", device="cpu", precision="fp32", threshold=0.0)
        readings = list(linker.analyze([s.text for s in read_samples("plain.jsonl")]))
        best = [best_scores(r.spans, linker.mode) for r in readings]
        linked = {d.span for d in linker.decoder.decode(readings[0])}
        loser = max(float(p) for i, p in enumerate(best[0]) if i not in linked)
        winner = max(float(p) for p in best[0])
        assert loser < winner  # they overlap, or the loser were linked
        min_confidence, max_uncertain = (loser + winner) / 2, loser * 0.9
        bounds = ("--min-confidence", min_confidence, "--max-uncertain", max_uncertain)
        out, _ = done(blink("label", "plain.jsonl", *OPEN, "--model", unsure, "--out", "-", *bounds))
        clear = [f"p{i}" for i, p in enumerate(best) if ((p > min_confidence) | (p <= max_uncertain)).all()]
        assert "p0" not in clear
        assert [json.loads(line)["id"] for line in out.splitlines()] == clear

    def test_texts_in_doubt_are_left_out(self, blink: Run, unsure: Path) -> None:
        ids = []
        for min_confidence, max_uncertain in (("0.9", "0.9"), ("1", "0")):
            bounds = ("--sure", min_confidence, "--doubtful", max_uncertain)
            out, _ = done(blink("label", "plain.jsonl", *OPEN, "--model", unsure, "--out", "-", *bounds))
            ids.append([json.loads(line)["id"] for line in out.splitlines()])
        assert len(ids[0]) == 12  # there is nothing between
        assert ids[1] == []  # every text holds a span of some probability

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("plain.jsonl", "--model", "unranked", "--kb", "kb", "--out", "x"), ("needs probabilities", "blink rank")),
            (("plain.jsonl", *OPEN, "--no-rank", "--out", "x"), ("needs probabilities", "--no-rank")),
            (("plain.jsonl", "--model", MODEL, "--kb", "other", "--out", "x"), ("made by another model",)),
            (("nowhere.jsonl", *OPEN, "--out", "x"), ("nowhere.jsonl does not exist",)),
            (("plain.jsonl", *OPEN, "--out", "no/where.jsonl"), ("no does not exist",)),
            (("plain.jsonl", *OPEN, "--out", "kb"), ("kb is a folder",)),
            (("plain.jsonl", *OPEN), ("--out",)),
            (("plain.jsonl", *OPEN, "--out", "x", "--without", "smell"), ("'smell'", "names", "spelling")),
            (
                ("plain.jsonl", *OPEN, "--out", "x", "--sure", "0.2", "--doubtful", "0.3"),
                ("--min-confidence 0.2 is below --max-uncertain",),
            ),
            (("plain.jsonl", *OPEN, "--out", "x", "--sure", "nan"), ("--min-confidence nan",)),
            (("plain.jsonl", *OPEN, "--out", "x", "--sure", "2"), ("--sure", "0<=x<=1")),
        ],
    )
    def test_mistakes(self, blink: Run, ranked: None, home: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
        refused(blink("label", *arguments), *words)
        assert not (home / "x").exists()


def test_evidence_can_be_left_out(blink: Run, calibrated: dict[str, Any]) -> None:
    every, few = (
        json.loads(done(blink("eval", "dev.jsonl", *OPEN, *more, "--json", "-"))[0])
        for more in ((), ("--without", "names", "--without", "spelling"))
    )
    assert few["all"]["weak"]["f1"] < every["all"]["weak"]["f1"]
    refused(blink("eval", "dev.jsonl", *OPEN, "--without", "smell"), "'smell'", "popularity")


@pytest.mark.parametrize(
    ("threshold", "words"),
    [("-1.5", "from 0 to 1, and the threshold is -1.5: every link is above it"), ("2", "2: no link is above it"), ("0.5", "")],
)
def test_a_threshold_that_is_no_probability_is_taken_with_a_word_about_it(
    blink: Run, ranked: None, threshold: str, words: str
) -> None:
    out, err = done(blink("link", "where is Oslo 7?", *OPEN, "--threshold", threshold, "--json"))
    assert words in err
    assert err.count("\n") == bool(words)
    assert bool(json.loads(out)["links"]) == (threshold != "2")


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("rank", "blink rank runs/all/best --kb kb --train train.jsonl --fold runs/a --fold runs/b\n"),
        ("calibrate", "blink calibrate experiments/mine/best --on kb dev.jsonl"),
        ("label", "--pseudo labelled.jsonl --mix questions=1,pseudo=0.5\n"),
    ],
)
def test_help_teaches_by_an_example(blink: Run, command: str, example: str) -> None:
    out, _ = done(blink(command, "--help"))
    assert "Example" in out
    assert example in out.replace(" \\\n     ", "")  # where the terminal is narrow, commands are continued

"""``blink eval``: saved predictions evaluated without the model, files without gold, plots, errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from outcomes import done, refused

from blink.data.mention_files import read_samples
from blink.linking.decoder import MODES, Mode
from blink.linking.linker import Linker
from blink.linking.scoring import joint_scores
from blink.model import biencoder

Run = Callable[..., tuple[int, str, str]]
OPEN = ("--model", "model", "--kb", "kb", "--device", "cpu", "--precision", "fp32")
TEXTS = [
    "Who governed Georgia 0 before Atlanta 2 burned?",
    "the ohio river the 3th, lake garda 4 and Mount Elbrus 6",
    "Turing 9!",
    "Java 8 or Mercury 5? Oslo 7.",
    "Tbilisi 1 is in Georgia 10, Atlanta the 12th is in Georgia",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy model, its knowledge base, and questions of whose gold the model predicts a part."""
    folder = tmp_path_factory.mktemp("home")
    model = toys.model(6, threshold=-3.0)
    model.save_pretrained(folder / "model")
    kb = toys.knowledge_base(folder / "kb", model, toys.rows(20))
    rows: list[dict[str, Any]] = []
    for i, linked in enumerate(Linker(model, kb, threshold=-12.0, device="cpu").link(TEXTS)):
        links = linked.links[:3]
        gold = {"mentions": [[x.start, x.end] for x in links], "label_id": [x.row + j % 2 for j, x in enumerate(links)]}
        rows.append({"id": f"q{i}", "text": linked.text, **gold})
    for name, lines in (("dev", rows[:3]), ("test", rows[1:]), ("plain", [{"text": t} for t in TEXTS])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture
def saved_predictions(blink: Run, home: Path) -> None:
    """``dev.npz`` and ``test.npz``."""
    for name in ("dev", "test", "plain"):
        if not (home / f"{name}.npz").exists():
            status, _, err = blink("eval", f"{name}.jsonl", *OPEN, "--save-preds", f"{name}.npz")
            assert status == 0, err
            assert f"blink eval --preds {name}.npz" in err


def figures(result: tuple[int, str, str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(done(result)[0])
    return report


@pytest.mark.parametrize("threshold", [-6, -3, -2.25, -1.75])
def test_as_the_model_would_have_it(blink: Run, saved_predictions: None, tmp_path: Path, threshold: float) -> None:
    ran = figures(blink("eval", "test.jsonl", *OPEN, "--threshold", threshold, "--json", "-"))
    again = figures(blink("eval", "--preds", "test.npz", "--threshold", threshold, "--json", "-"))
    assert ran["all"]["weak"]["predicted"] > 0
    same = ("questions", "threshold", "all", "covered", "labels", "slices")
    assert {key: again[key] for key in same} == {key: ran[key] for key in same}
    blink("eval", "test.jsonl", *OPEN, "--threshold", threshold, "--rows", tmp_path / "ran")
    blink("eval", "--preds", "test.npz", "--threshold", threshold, "--rows", tmp_path / "again")
    assert (tmp_path / "ran").read_bytes() == (tmp_path / "again").read_bytes()


def test_the_model_does_not_run(blink: Run, saved_predictions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(biencoder.BiEncoder, "from_pretrained", refuse)
    monkeypatch.setattr(Linker, "from_pretrained", refuse)
    assert blink("eval", "--preds", "test.npz", "--dev", "dev.npz")[0] == 0


def test_the_threshold_comes_from_dev(blink: Run, saved_predictions: None) -> None:
    dev = figures(blink("eval", "--preds", "dev.npz", "--json", "-"))
    test = figures(blink("eval", "--preds", "test.npz", "--dev", "dev.npz", "--json", "-"))
    assert dev["choice"]["same_file"] is True
    assert test["choice"] == {**dev["choice"], "source": "dev.npz", "same_file": False}
    top = max(point["covered"]["weak"]["f1"] for point in dev["sweep"])
    assert dev["covered"]["weak"]["f1"] >= top - 0.002
    at_choice = [p for p in test["sweep"] if p["threshold"] == test["threshold"]]
    assert at_choice[0]["covered"]["strong"]["f1"] == pytest.approx(test["covered"]["strong"]["f1"])
    _, out, _ = blink("eval", "--preds", "dev.npz")
    assert "chosen on the same file it is reported on" in out
    _, out, _ = blink("eval", "--preds", "test.npz", "--dev", "dev.npz", "--choose-by", "strong")
    assert "chosen on dev.npz" in out
    assert "->" in out


def test_fewer_candidates_and_mentions(blink: Run, saved_predictions: None) -> None:
    report = figures(blink("eval", "--preds", "test.npz", "--entities", 2, "--threshold", -3, "--json", "-"))
    ran = figures(blink("eval", "test.jsonl", *OPEN, "--entities", 2, "--threshold", -3, "--json", "-"))
    assert report["all"] == ran["all"]
    rows = figures(blink("eval", "--preds", "test.npz", "--json", "-"))["top_k"]
    assert [(row["entities"], row["mentions"]) for row in rows] == [
        *((n, 50) for n in (1, 2, 3, 5, 10)),
        *((10, n) for n in (1, 2, 3, 5, 10, 20, 50)),
    ]
    assert {row["all"]["weak"]["f1"] for row in rows if (row["entities"], row["mentions"]) == (10, 50)} == {
        rows[-1]["all"]["weak"]["f1"]
    }


def test_another_mode(blink: Run, home: Path, tmp_path: Path) -> None:
    keep = ("eval", "test.jsonl", *OPEN, "--mode", "thresholded_entity_by_mention", "--mention-threshold", 0)
    assert blink(*keep, "--threshold", 1, "--save-preds", tmp_path)[0] == 0
    ran = figures(blink(*keep, "--threshold", 3, "--json", "-"))
    again = figures(blink("eval", "--preds", tmp_path, "--threshold", 3, "--json", "-"))
    assert again["all"] == ran["all"]
    assert again["predictions"]["floor"] is None
    joint = figures(blink("eval", "--preds", tmp_path / "predictions.npz", "--mode", "joint", "--threshold", -2, "--json", "-"))
    assert joint["all"] == figures(blink("eval", "test.jsonl", *OPEN, "--threshold", -2, "--json", "-"))["all"]


def test_pictures(blink: Run, saved_predictions: None, tmp_path: Path) -> None:
    from matplotlib.image import imread

    assert blink("eval", "--preds", "test.npz", "--dev", "dev.npz", "--plots", tmp_path / "new" / "pictures")[0] == 0
    for name in ("precision_recall.png", "threshold.png"):
        picture = imread(tmp_path / "new" / "pictures" / name)
        assert min(picture.shape[:2]) > 400
        assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50
        assert 0.01 < (picture[..., :3].min(2) < 0.9).mean() < 0.5


def test_calibration_of_a_mode_that_ranks_by_probability(
    blink: Run, saved_predictions: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = Mode(lambda spans: np.exp(joint_scores(spans)), MODES["joint"].keep)
    monkeypatch.setitem(MODES, "joint_chances", chances)
    arguments = ("eval", "--preds", "test.npz", "--mode", "joint_chances", "--threshold", 0.05)
    report = figures(blink(*arguments, "--json", "-", "--plots", tmp_path))
    assert report["all"] == figures(blink("eval", "--preds", "test.npz", "--threshold", np.log(0.05), "--json", "-"))["all"]
    assert report["calibration"]["count"] == report["all"]["weak"]["predicted"]
    assert 0 < report["calibration"]["ece"] < 1
    assert (tmp_path / "reliability.png").stat().st_size > 5000
    assert "ECE" in blink(*arguments)[1]
    assert "calibration" not in figures(blink("eval", "--preds", "test.npz", "--json", "-"))


def test_a_file_without_gold(blink: Run, saved_predictions: None, tmp_path: Path) -> None:
    status, out, _ = blink("eval", "plain.jsonl", *OPEN)
    assert status == 0
    assert "links per question" in out
    assert "questions per second" in out
    report = figures(blink("eval", "plain.jsonl", *OPEN, "--json", "-"))
    assert report["questions"] == len(TEXTS)
    assert 0 < report["share_linked"] <= 1
    assert report["links_per_question"] == report["links"] / len(TEXTS)
    assert report["mean_score"] < 0
    again = figures(blink("eval", "--preds", "plain.npz", "--json", "-"))
    same = ("questions", "links", "linked", "mean_score", "median_score", "threshold")
    assert {key: again[key] for key in same} == {key: report[key] for key in same}
    blink("eval", "--preds", "plain.npz", "--rows", tmp_path / "rows")
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert sum(len(row["predicted"]) for row in rows) == report["links"]
    dev = figures(blink("eval", "--preds", "plain.npz", "--dev", "dev.npz", "--json", "-"))
    assert dev["threshold"] == figures(blink("eval", "--preds", "dev.npz", "--json", "-"))["threshold"]


def test_slices_and_clusters(blink: Run, saved_predictions: None) -> None:
    report = figures(blink("eval", "test.jsonl", *OPEN, "--cluster", "paraphrase", "--json", "-"))
    gold = sum(len(s.mentions or ()) for s in read_samples("test.jsonl"))
    assert sum(stratum["gold"] for stratum in report["slices"].values()) == gold
    assert set(report["slices"]) == {"unambiguous", "ambiguous", "not_listed", "only_others"}
    assert report["cluster"] == "paraphrase"
    _, out, _ = blink("eval", "--preds", "test.npz", "--threshold", -3)
    assert "a name of other entities only" in out


def test_what_was_made_with_something_else(blink: Run, saved_predictions: None, home: Path, tmp_path: Path) -> None:
    same = ("eval", "--preds", "test.npz", "--json", "/dev/null")
    assert blink(*same[:1], "test.jsonl", *same[1:], *OPEN)[0] == 0
    refused(blink("eval", "dev.jsonl", "--preds", "test.npz"), "another mention file", "dev.jsonl", "--save-preds")
    toys.model(7).save_pretrained(tmp_path / "other")
    refused(blink("eval", "--preds", "test.npz", "--model", tmp_path / "other"), "another model")
    shutil.copytree(home / "kb", tmp_path / "kb")
    toys.change_manifest(tmp_path / "kb", entities=21)
    refused(blink("eval", "--preds", "test.npz", "--kb", tmp_path / "kb"), "another knowledge base")
    blink("eval", "dev.jsonl", *OPEN, "--entities", 5, "--save-preds", tmp_path / "few.npz")
    refused(blink("eval", "--preds", "test.npz", "--dev", tmp_path / "few.npz"), "entities 10", "does not carry over")


def test_texts_under_another_key(blink: Run, saved_predictions: None, home: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (home / "test.jsonl").read_text().splitlines()]
    other = [row | {"text": "x" * len(row["text"]), "text_cased": row["text"]} for row in rows]
    file = tmp_path / "cased.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in other))
    same = ("questions", "threshold", "all", "covered", "labels")
    report = figures(blink("eval", file, "--text-key", "text_cased", *OPEN, "--json", "-", "--save-preds", tmp_path / "x.npz"))
    plain = figures(blink("eval", "test.jsonl", *OPEN, "--json", "-"))
    assert {key: report[key] for key in same} == {key: plain[key] for key in same}
    again = figures(blink("eval", file, "--preds", tmp_path / "x.npz", "--threshold", "-3", "--json", "-"))
    assert again["all"] == report["all"]
    assert again["predictions"]["parameters"]["text_key"] == "text_cased"
    refused(blink("eval", "--preds", tmp_path / "x.npz", "--dev", "dev.npz"), "text_key", "does not carry over")
    refused(blink("eval", "test.jsonl", "--text-key", "text_cased", *OPEN), "test.jsonl, line 1", "'text_cased' must be")
    refused(blink("eval", "--preds", "test.npz", "--text-key", "text_cased"), "leave it out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("nothing to evaluate",)),
        (("dev.jsonl", "--dev", "dev.npz"), ("--dev belongs to --preds",)),
        (("dev.jsonl", "--plots", "x"), ("--plots belongs to --preds",)),
        (("--preds", "test.npz", "--save-preds", "x"), ("one of them",)),
        (("--preds", "nowhere.npz"), ("does not exist",)),
        (("--preds", "dev.jsonl"), ("holds no predictions",)),
        (("--preds", "kb"), ("predictions.npz",)),
        (("--preds", "test.npz", "--dev", "plain.npz"), ("has no gold",)),
        (("--preds", "plain.npz", "--mode", "joint_0"), ("no gold", "give --threshold")),
        (("--preds", "test.npz", "--threshold", "-9"), ("complete only down to -6",)),
        (("--preds", "test.npz", "--threshold", "-3", "--dev", "dev.npz"), ("give one of them",)),
        (("--preds", "plain.npz", "--plots", "pictures"), ("no gold",)),
        (("--preds", "test.npz", "--threshold", "nan"), ("not a number",)),
        (("--preds", "test.npz", "--entities", "11"), ("10 were read",)),
        (("--preds", "test.npz", "--mentions", "51"), ("50 were read",)),
        (("--preds", "test.npz", "--mode", "nonsense"), ("nonsense", "joint")),
        (("--preds", "test.npz", "--mode", "best_entity_by_mention"), ("write it again with --mode",)),
        (("--preds", "test.npz", "--plots", "dev.jsonl"), ("is a file",)),
        (("--preds", "test.npz", "--model", "nowhere"), ("nowhere", "does not exist")),
        (("dev.jsonl", *OPEN, "--save-preds", "no/where.npz"), ("does not exist",)),
        (("dev.jsonl", *OPEN, "--save-preds", "test.jsonl"), ("ends in .npz",)),
    ],
)
def test_mistakes(blink: Run, saved_predictions: None, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(blink("eval", *arguments), *words)


def test_gold_that_cannot_be_right(blink: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "😀😀 Oslo and Java again and again"
    words = [(text[: text.index(word)], text[: text.index(word) + 4]) for word in ("Oslo", "Java")]
    spans = {
        "characters": [[len(a), len(b)] for a, b in words],
        "bytes": [[len(a.encode()), len(b.encode())] for a, b in words],
    }
    reports = {}
    for unit, mentions in spans.items():
        row = {"text": text, "mentions": mentions, "wikidata_id": ["wd:Q107", "http://www.wikidata.org/entity/Q109"]}
        (tmp_path / f"{unit}.jsonl").write_text(json.dumps(row) + "\n")
        caplog.clear()
        out, _ = done(blink("eval", tmp_path / f"{unit}.jsonl", *OPEN, "--json", "-"))
        reports[unit] = json.loads(out)["all"]
        assert reports[unit]["weak"]["gold"] == 2
        assert json.loads(out)["labels"]["gold"]["not_in_catalogue"] == 0
        assert ("offsets are bytes of UTF-8" in caplog.text) == (unit == "bytes")
    assert reports["bytes"] == reports["characters"]
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": "oslo " * 60, "mentions": [[0, 299]], "label_id": [7]}) + "\n")
    refused(blink("eval", tmp_path / "long.jsonl", *OPEN), "1 of 1 gold spans are longer than 5 tokens", "long.jsonl")


def test_a_threshold_above_all_log_probabilities(blink: Run) -> None:
    _, err = done(blink("eval", "dev.jsonl", *OPEN, "--threshold", 0.5))
    assert err == "scores are log-probabilities, at most 0, and the threshold is 0.5: no link is above it\n"


def test_a_failed_run_leaves_what_was_there(
    blink: Run, saved_predictions: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (home / "dev.npz").read_bytes()

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    refused(blink("eval", "dev.jsonl", *OPEN, "--save-preds", "dev.npz"), "No space")
    assert (home / "dev.npz").read_bytes() == before

"""The original's six commands, and sentences of several runs side by side."""

from __future__ import annotations

import gzip
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blink.compat.kglm.commands import ABOUT, command, main
from blink.compat.kglm.flags import settings_from
from blink.kglm.run import KglmRun
from tests.kglm.lm_toys import write_world

pytest.importorskip("yaml", reason="the extra 'kglm' is not installed")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
TINY = "--words.width 8 --train.lines 4 --vocab_size 1 --lstm_layer [6] --epochs 2 --seed 3".split()  # noqa: SIM905
LAYERS = "--hidden_units_1 8 --hidden_units_2 6 --hidden_units_3 5"
TINY_TRIPLES = f"{LAYERS} --train.triples 8 --steps_per_epoch_kge 2".split()
ALL = {
    "model_name": "NAM_NER", "exp_num": "99", "exp_info": "NAM NER experiments", "epochs": 30, "lstm_layer": "[256]",
    "layer_type": "BiLSTM", "keep_prob": 0.6, "vocab_size": 30,
}  # fmt: skip
OF_TRIPLES = {
    "dataset_kge": "FB13", "data_location_kge": None, "data_location_lm": None, "learning_rate_kge": 1e-4, "option": 1,
    "steps_per_epoch_kge": 1000, "balance": 3.0, "hidden_units_1": 1024, "hidden_units_2": 512, "hidden_units_3": 512,
    "hidden_units_4": 1,
}  # fmt: skip
DEFAULTS = {
    "lm": {**ALL, "data_location": None, "learning_rate_lm": 1e-3, "option": 5, "steps_per_epoch_lm": 100},
    "kge": {**ALL, **OF_TRIPLES, "task": "KGE"},
    "kge_lm": {**ALL, **OF_TRIPLES, "learning_rate_lm": 1e-3, "steps_per_epoch_lm": 1000, "joint_opt": "False", "task": "INIT"},
}
"""What the original's commands take, with their defaults."""


@pytest.fixture(autouse=True)
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take as long as a tiny run; they are tested with runs."""
    monkeypatch.setattr(KglmRun, "draw", lambda folder, losses, scores: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the original's: text by its names, triples and their names in the same folder."""
    world = write_world(tmp_path_factory.mktemp("world"))
    folder = world / "data"
    folder.mkdir()
    lines = (world / "lm" / "train.txt").read_text().splitlines(keepends=True)
    for name, selected in (("train", lines[:12]), ("dev", lines[12:16]), ("test", lines[16:])):
        (folder / f"{name}_selected.txt.gz").write_bytes(gzip.compress("".join(selected).encode()))
    (world / "kg" / "train.txt").rename(folder / "train.tsv")
    (world / "names.tsv").rename(folder / "names.tsv")
    (world / "relations.json").rename(folder / "relations.json")
    return folder


@pytest.mark.parametrize("kind", DEFAULTS)
@pytest.mark.parametrize("verb", ["train", "test"])
def test_every_flag_is_taken_in_either_spelling(kind: str, verb: str) -> None:
    options = {p.name: p for p in command(f"{verb}_{kind}").params}
    for name, default in DEFAULTS[kind].items():
        spellings = options[name].opts
        assert {f"--{name}", f"--{name.replace('_', '-')}"} <= set(spellings)
        assert options[name].default == default
    assert {"--keep_probs", "--keep_prob", "--keep-probs", "--keep-prob"} <= set(options["keep_prob"].opts)


def test_flags_become_settings() -> None:
    changed = {"task": "LM", "joint_opt": "sum", "option": 3, "vocab_size": 70, "layer_type": "lstm", "lstm_layer": "[64, 32]"}
    flags = {**DEFAULTS["kge_lm"], **changed, "keep_prob": 0.5}
    settings = settings_from("kge_lm", flags)
    expected = {
        "joint.alpha": 0.0, "joint.mode": "sum", "joint.every": 3, "vocabulary.size": 70_000, "cells.kind": "LSTM",
        "cells.layers": [64, 32], "cells.keep": 0.5, "classifier.hidden": [1024, 512, 512], "classifier.balance": 3.0,
    }  # fmt: skip
    assert expected.items() <= settings.items()


def test_training_and_testing_of_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--data_location", f"{folder}/", "--model-name", "NAM", "--exp_num", "7"]
    words = [*flags, *TINY, "--steps-per-epoch-lm", "3", "--keep_probs", "0.8"]
    assert main("train_lm", words) == 0
    run = KglmRun.open(folder / "model_LM" / "NAM_7")
    assert (run.settings.cells.keep, run.settings.seed, run.settings.cells.kind) == (0.8, 3, "BiLSTM")
    assert run.settings.data.text_valid.endswith("dev_selected.txt.gz")
    log = (folder / "run_logs_LM" / "NAM_train_7.log").read_text()
    assert "NAM NER experiments" in log
    assert "perplexity" in log
    capsys.readouterr()
    assert main("test_lm", ["--data_location_lm", str(folder), *flags[2:]]) == 0
    out = capsys.readouterr().out
    assert out.startswith("perplexity ")
    assert out.splitlines()[-1].startswith("issa serge coelo born 1967 ")
    assert out.splitlines()[-1] in (folder / "run_logs_LM" / "NAM_test_7.log").read_text()
    assert main("train_lm", words) == 1  # there is a run already
    assert "holds a run already" in capsys.readouterr().err
    assert main("train_lm", [*words, "--resume"]) == 0


def test_training_and_testing_of_triples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--data_location_kge", str(folder), "--exp_num", "8"]
    assert main("train_kge", [*flags, *TINY, *TINY_TRIPLES, "--layer_type", "LSTM"]) == 0
    settings = KglmRun.open(folder / "model_kge" / "NAM_NER_8").settings
    assert (settings.joint.alpha, settings.vocabulary.count, settings.data.text) == (1.0, "names", "")
    assert settings.data.entity_names.endswith("names.tsv")
    capsys.readouterr()
    assert main("test_kge", flags) == 0
    out = capsys.readouterr().out
    assert out.startswith("easy false triples: accuracy ")
    assert "perplexity" not in out
    assert (folder / "run_log_kge" / "NAM_NER_test_KGE_8.log").is_file()


def as_script(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The command run as a script, without the time of a new process; its exit status."""
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "blink" / "kglm" / name), run_name="__main__")
    return int(ended.value.code or 0)


def test_training_and_testing_of_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data_location_lm", str(folder), "--data_location_kge", str(folder), "--joint_opt", "sum"]
    steps = ["--steps_per_epoch_lm", "2"]
    assert as_script("train_kge_lm", [*flags, *TINY, *TINY_TRIPLES, *steps], monkeypatch) == 0
    capsys.readouterr()
    assert as_script("test_kge_lm", flags, monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("perplexity ")
    assert any(line.startswith("easy false triples: accuracy") for line in lines)
    assert lines[-1].startswith("issa serge coelo born 1967")
    settings = KglmRun.open(folder / "model_kge_lm" / "NAM_NER_99").settings
    assert (settings.joint.mode, settings.joint.order) == ("sum", "blocks")
    assert (folder / "run_log_kge_lm" / "NAM_NER_train_99.log").is_file()


@pytest.mark.parametrize("kind", DEFAULTS)
@pytest.mark.parametrize("verb", ["train", "test"])
def test_each_is_a_script_that_tells_its_name(
    kind: str, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_script(f"{verb}_{kind}", ["--help"], monkeypatch) == 0
    out = capsys.readouterr().out
    assert f"Usage: python -m blink.kglm.{verb}_{kind} " in out
    assert ABOUT[f"{verb}_{kind}"] in " ".join(out.split())


def test_a_script_tells_mistakes_to_the_shell() -> None:
    """Once as a process of its own."""
    words = [sys.executable, "-m", "blink.kglm.test_lm", "--data_location", "/nowhere/at/all"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("test_lm: ")
    assert "there is no" in done.stderr
    assert done.stderr.count("\n") == 1


def test_facts_and_summaries_of_the_original_are_read(tmp_path: Path) -> None:
    for number, trade in enumerate(["painter", "sailor", "baker", "smith"] * 6):
        town = ("ulm", "bonn", "kiel")[number % 3]
        (tmp_path / f"p{number}.en").write_text(
            f"person_{number} profession {trade}\nperson_{number} born_in {town}\nno fact here now\n"
        )
        (tmp_path / f"p{number}.sm").write_text(f"@Person_{number}/m.{number} is a {trade} .\n")
    flags = ["--data_location_lm", str(tmp_path), "--data_location_kge", str(tmp_path), "--data.apart", "false"]
    assert main("train_kge_lm", [*flags, *TINY, *TINY_TRIPLES, "--steps_per_epoch_lm", "2"]) == 0
    metrics = json.loads((tmp_path / "model_kge_lm" / "NAM_NER_99" / "metrics.json").read_text())
    assert metrics["valid"]["language"]["lines"] == 1
    assert metrics["test"]["triples"]["easy"]["true"] == 4  # a tenth of what is left of 48


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("train_lm", [], "--data_location is not given"),
        ("train_lm", ["--data_location", "{folder}/none"], "holds no training text"),
        ("train_lm", ["--data_location", "/nowhere/at/all"], "there is no folder"),
        ("train_lm", ["--data_location", "{folder}", "--lstm_layer", "__import__('os')"], "--lstm_layer is"),
        ("train_lm", ["--data_location", "{folder}", "--layer_type", "GRU"], "--layer_type is 'GRU'"),
        ("train_lm", ["--data_location", "{folder}", "--epochz", "3"], "epochz"),
        ("train_kge", ["--data_location_kge", "{folder}/pickles"], "blink.kglm.train_kge --help"),
        ("train_kge", ["--data_location_kge", "{folder}", "--hidden_units_4", "2"], "--hidden_units_4 is 2"),
        ("train_kge", ["--data_location_kge", "{folder}", "--task", "INIT"], "take train_kge_lm"),
        ("train_kge_lm", ["--data_location_kge", "{folder}"], "--data_location_lm is not given"),
        (
            "train_kge_lm",
            ["--data_location_kge", "{folder}", "--data_location_lm", "{folder}", "--joint_opt", "often"],
            "--joint_opt",
        ),
        ("test_lm", ["--data_location", "{folder}", "--exp_num", "none"], "there is no run"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, words: list[str], message: str
) -> None:
    (folder / "pickles").mkdir(exist_ok=True)
    (folder / "pickles" / "Sample_data_lm_24.pkl").write_bytes(b"never read")
    assert main(name, [word.replace("{folder}", str(folder)) for word in words]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_prefix_serves_as_a_location(folder: Path) -> None:
    """The original glues location and file name together."""
    for file in folder.glob("*_selected.txt.gz"):
        (folder / f"wiki_{file.name}").write_bytes(file.read_bytes())
    words = ["--data_location", f"{folder}/wiki_", "--out", str(folder / "own"), "--steps_per_epoch_lm", "1", *TINY]
    assert main("train_lm", words) == 0
    assert KglmRun.open(folder / "own").settings.data.text.endswith("wiki_train_selected.txt.gz")


def test_sentences_of_two_runs_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from blink.apps.cli import cli

    runs = []
    for seed in ("3", "4"):
        runs.append(str(folder / f"run{seed}"))
        words = ["--data_location", str(folder), "--out", runs[-1], *TINY, "--seed", seed, "--steps_per_epoch_lm", "2"]
        assert main("train_lm", words) == 0
    capsys.readouterr()

    def sample(*words: str) -> list[dict[str, str]]:
        cli.main(["kglm", "generate", *words, "--json"], standalone_mode=False)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    rows = sample(*runs, "--prompt", "ada moor", "--samples", "2", "--words", "5")
    assert [(row["run"], row["how"]) for row in rows] == [
        (run, method) for method in ("greedy", "sample 1 of 2", "sample 2 of 2") for run in runs
    ]
    assert rows == sample(*runs, "--prompt", "ada moor", "--samples", "2", "--words", "5")
    assert rows[2]["text"] != sample(*runs, "--prompt", "ada moor", "--samples", "2", "--words", "5", "--seed", "9")[2]["text"]
    cli.main(["kglm", "generate", *runs, "--prompt", "ada zorro"], standalone_mode=False)
    output = capsys.readouterr()
    assert "has no zorro in its vocabulary" in output.err
    assert all(Path(run).name in output.out for run in runs)


# -- test commands measure what is named


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """A folder with a folder of data and runs in it, as in the original's pairs of commands."""
    location = folder.parent / "pair"
    inside = location / "data_limt_1"
    inside.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file():
            (inside / file.name).write_bytes(file.read_bytes())
    where = ["--data_location_lm", f"{inside}/", "--data_location_kge", f"{inside}/"]
    assert main("train_kge_lm", [*where, *TINY, *TINY_TRIPLES, "--steps_per_epoch_lm", "2", "--layer_type", "LSTM"]) == 0
    return location


def perplexity(capsys: pytest.CaptureFixture[str], name: str, words: list[str]) -> str:
    capsys.readouterr()
    assert main(name, words) == 0
    return capsys.readouterr().out.splitlines()[0]


def test_a_run_below_a_folder_of_the_location_is_measured(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = [f"--data_location_{name}={pair}/data_limt_1/" for name in ("lm", "kge")]
    above = [f"--data_location_{name}={pair}/" for name in ("lm", "kge")]
    same = ["--layer_type", "lstm", "--lstm_layer", "[6]", "--vocab_size", "1", "--hidden_units_1", "8"]
    lines = perplexity(capsys, "test_kge_lm", inside)
    assert perplexity(capsys, "test_kge_lm", [*above, *same]) == lines
    other = pair / "other" / "model_kge_lm" / "NAM_NER_99"
    other.mkdir(parents=True)
    assert main("test_kge_lm", above) == 1
    assert "2 folders have a run NAM_NER_99" in capsys.readouterr().err
    other.rmdir()
    for folder in (other.parent, other.parent.parent):
        folder.rmdir()


def test_data_that_is_named_is_measured(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--out", str(pair / "data_limt_1" / "model_kge_lm" / "NAM_NER_99")]
    before = (Path(run[1]) / "metrics.json").read_bytes()
    first = perplexity(capsys, "test_kge_lm", run)
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("one two three\nfour five\n")
    other = perplexity(capsys, "test_kge_lm", [*run, "--data_location_lm", str(tmp_path)])
    assert other != first
    assert "(7 words predicted" in other
    assert json.loads((Path(run[1]) / "metrics.json").read_bytes()) == json.loads(before)
    (tmp_path / "test.txt").unlink()
    mistakes = {
        "/nonexistent/at/all/": "there is no folder",
        str(tmp_path): "holds no test text",
        str(pair / "none"): "no training",
    }
    for location, message in mistakes.items():
        assert main("test_kge_lm", [*run, "--data_location_lm", location]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer_type", "BiLSTM"], "--layer_type is BiLSTM, and the run was trained with cells.kind LSTM"),
        (["--lstm_layer", "[7]"], "cells.layers [6]"),
        (["--hidden_units_2", "7"], "classifier.hidden [8, 6, 5]"),
        (["--vocab_size", "70"], "vocabulary.size 1000"),
        (["--task", "LM"], "joint.alpha 0.5"),
    ],
)
def test_another_network_than_that_of_the_run_is_refused(
    pair: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    where = [f"--data_location_kge={pair}/", *words]
    assert main("test_kge_lm", where) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_flags_of_training_change_nothing_and_that_is_said(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("test_kge_lm", [f"--data_location_kge={pair}/", "--epochs", "25", "--exp_info", "x"]) == 0
    assert (
        "--epochs is 25, and the run was trained with train.epochs 2: the flag changes nothing here" in capsys.readouterr().err
    )

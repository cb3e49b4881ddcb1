"""Pre-training through the command line: from the dump to a model; stopped, killed, gone on with; mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_toys import ROOT, TINY_DUMP, Examples, roberta_folder
from safetensors.torch import load_file

from examples.pretraining.dataset import PackedDataset


def trace(run: Path, kind: str) -> list[dict[str, Any]]:
    return [row for line in (run / "trace.jsonl").read_text().splitlines() if (row := json.loads(line))["kind"] == kind]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(run / "model" / "model.safetensors"))


def train(run: Path, dataset: PackedDataset, roberta: Path, *more: object) -> list[object]:
    """Arguments of a short run."""
    return [
        "--output-dir", run, "pretraining", "train", "--dataset-dir", dataset.folder, "--bert-model-name", roberta,
        "--entity-emb-size", 16, "--batch-size", 16, "--warmup-steps", 2, "--learning-rate", "3e-3", "--cpu", *more,
    ]  # fmt: skip


def test_from_the_dump_to_a_model_that_knows_its_entities(examples: Examples, tmp_path: Path) -> None:
    """The learning check: the loss falls, and hidden entities of the tiny dump are nearly all known."""
    roberta = roberta_folder(tmp_path / "roberta", hidden_size=64, intermediate_size=128, num_hidden_layers=1)
    assert examples("pretraining", "build-dump-db", TINY_DUMP, tmp_path / "db")[0] == 0
    status, _, err = examples(
        "pretraining", "build-entity-vocab", tmp_path / "db", tmp_path / "vocab.jsonl", "--vocab-size", 500
    )
    assert (status, "37 entities, first United States, Mercury (planet), Sun" in err) == (0, True)
    result = examples(
        "pretraining",
        "build-dataset",
        tmp_path / "db",
        roberta,
        tmp_path / "vocab.jsonl",
        tmp_path / "data",
        "--max-seq-length",
        32,
    )
    assert result[0] == 0, result
    common = [
        "--dataset-dir", tmp_path / "data", "--masked-entity-prob", 0.5, "--masked-lm-prob", 0.1, "--batch-size", 15, "--cpu",
        "--learning-rate", "8e-3", "--max-grad-norm", 1,
    ]  # fmt: skip
    first = examples(
        "--output-dir", tmp_path / "stage1", "pretraining", "train", *common, "--fix-bert-weights", "--num-epochs", 4,
        "--bert-model-name", roberta, "--entity-emb-size", 32, "--warmup-steps", 1,
    )  # fmt: skip
    assert first[0] == 0, first
    second = examples(
        "--output-dir", tmp_path / "stage2", "--model-file", tmp_path / "stage1" / "model", "pretraining", "train", *common,
        "--num-epochs", 60, "--warmup-steps", 10, "--eval-windows", 0,
    )  # fmt: skip
    assert second[0] == 0, second
    rows = trace(tmp_path / "stage2", "losses")
    early, late = rows[:10], rows[-10:]
    means = {
        k: [sum(r[k] for r in records) / 10 for records in (early, late)]
        for k in ("word_loss", "entity_loss", "entity_accuracy")
    }
    assert means["word_loss"][1] < 0.8 * means["word_loss"][0]
    assert means["entity_loss"][1] < 0.2 * means["entity_loss"][0]
    assert means["entity_accuracy"][1] > 0.97


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.pretraining.steps import PretrainStepper

    more = ["--num-epochs", 2, "--save-interval-steps", 2, "--gradient-accumulation-steps", 2]
    assert examples(*train(tmp_path / "whole", dataset, roberta, *more))[0] == 0
    step = PretrainStepper.step
    stops = {3}

    def stop_once(self: PretrainStepper, number: int, features: Any) -> float:
        if number in stops:
            stops.discard(number)
            raise MemoryError  # a run that dies between checkpoints
        return step(self, number, features)

    monkeypatch.setattr(PretrainStepper, "step", stop_once)
    assert examples(*train(tmp_path / "stopped", dataset, roberta, *more))[0] == 1
    assert len(trace(tmp_path / "stopped", "step")) == 3
    assert examples(*train(tmp_path / "stopped", dataset, roberta, *more, "--resume"))[0] == 0
    uninterrupted, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(uninterrupted[name], stopped[name]) for name in uninterrupted)
    for kind in ("losses", "validation"):
        assert trace(tmp_path / "whole", kind) == trace(tmp_path / "stopped", kind)
    results = [json.loads((tmp_path / run / "results.json").read_text()) for run in ("whole", "stopped")]
    assert results[0] == results[1]
    status, _, err = examples(*train(tmp_path / "stopped", dataset, roberta, *more, "--resume", "--masked-lm-prob", 0.2))
    assert (status, "masked_lm_prob" in err) == (1, True)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(
    examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path
) -> None:
    more = ["--num-epochs", 6, "--save-interval-steps", 1]
    assert examples(*train(tmp_path / "whole", dataset, roberta, *more))[0] == 0
    words = [str(a) for a in train(tmp_path / "killed", dataset, roberta, *more)]
    process = subprocess.Popen([sys.executable, "-m", "examples.cli", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "checkpoints"
    while not (checkpoints.is_dir() and any(checkpoints.glob("step-00000000[4-9]*"))):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert examples(*train(tmp_path / "killed", dataset, roberta, *more, "--resume"))[0] == 0
    uninterrupted, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(uninterrupted[name], killed[name]) for name in uninterrupted)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path) -> None:
    more = ["--num-epochs", 1]
    assert examples(*train(tmp_path / "one", dataset, roberta, *more))[0] == 0
    words = [str(a) for a in train(tmp_path / "two", dataset, roberta, *more)]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "examples.cli",
        *words,
    ]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (trace(tmp_path / name, "losses") for name in ("one", "two"))
    assert len(one) == len(two) > 1
    for a, b in zip(one, two, strict=True):
        assert {k: v for k, v in a.items() if k != "kind"} == pytest.approx(
            {k: v for k, v in b.items() if k != "kind"}, rel=1e-3
        )
    after = [weights(tmp_path / name) for name in ("one", "two")]
    for name, value in after[0].items():
        torch.testing.assert_close(value, after[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_accumulation_and_the_first_stage_through_the_command_line(
    examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path
) -> None:
    runs = []
    for split in (1, 4):
        run = tmp_path / str(split)
        more = ["--num-epochs", 1, "--gradient-accumulation-steps", split, "--fix-bert-weights", "--cls-entity-prediction"]
        assert examples(*train(run, dataset, roberta, *more))[0] == 0
        runs.append((trace(run, "losses"), weights(run)))
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        assert {k: v for k, v in one.items() if k != "kind"} == pytest.approx(
            {k: v for k, v in other.items() if k != "kind"}, rel=1e-4
        )
    before = load_file(roberta / "model.safetensors")
    for _, after in runs:
        words = before["roberta.embeddings.word_embeddings.weight"]
        assert torch.equal(after["luke.embeddings.word_embeddings.weight"][: len(words)], words)


def test_bf16_trains_too(examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path) -> None:
    result = examples(*train(tmp_path / "run", dataset, roberta, "--num-epochs", 1, "--bf16", "--word-only-training"))
    assert result[0] == 0, result
    assert set(json.loads((tmp_path / "run" / "results.json").read_text())) == {"steps", "word_loss", "word_accuracy"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["build-dump-db", "none.xml", "out"], 1, "none.xml does not exist; give a dump"),
        (["build-dump-db", __file__, "out"], 1, "is no MediaWiki XML dump"),
        (["build-entity-vocab", "none", "out"], 1, "none does not exist; make it with"),
        (["build-dataset", "none", "roberta-base", "vocab", "out"], 1, "none does not exist; make it with"),
        (["train", "--dataset-dir", "none"], 1, "give --output-dir"),
        (["train", "--dataset-dir", "none", "--output-dir", "out"], 1, "the dataset none does not exist; make it with"),
        (["train", "--dataset-dir", "x", "--fp16", "--bf16"], 2, "two precisions"),
        (["train", "--dataset-dir", "x", "--random-word-prob", "0.9", "--unmasked-word-prob", "0.9"], 1, "at most 1"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], status: int, message: str, examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    got, out, err = examples("pretraining", *arguments)
    assert (got, out, err.count("\n")) == (status, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", 15, "--gradient-accumulation-steps", 2], "does not split evenly"),
        (["--warmup-steps", 100], "--warmup-steps is 100"),
        (["--learning-rate", 0], "learning_rate"),
        (["--fix-bert-weights", "--bert-model-name", "/none/such"], "cannot load the model"),
    ],
)
def test_mistakes_of_a_run(
    more: list[object], message: str, examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path
) -> None:
    status, _, err = examples(*train(tmp_path / "run", dataset, roberta, *more))
    assert (status, err.count("\n"), message in err) == (1, 1, True), err


def test_a_run_begins_with_one_model(examples: Examples, dataset: PackedDataset, roberta: Path, tmp_path: Path) -> None:
    status, _, err = examples("--model-file", "x", *train(tmp_path / "run", dataset, roberta))
    assert (status, "one of them" in err) == (1, True)


def test_several_gpus_are_left_to_a_launcher_that_hands_signals_on(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[list[str]] = []
    monkeypatch.setattr("examples.pretraining.running.gpu_count", lambda: 2)
    monkeypatch.setattr("examples.pretraining.running.launch", lambda command: launched.append(command) or 7)
    words = ("--num-gpus", 2, "pretraining", "train", "--output-dir", tmp_path / "run", "--dataset-dir", "data")
    assert examples(*words)[0] == 7
    [command] = launched
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert "examples.cli" in command


@pytest.mark.parametrize("name", ["", "build-dump-db", "build-entity-vocab", "build-dataset", "train"])
def test_help_teaches_by_examples(name: str, examples: Examples) -> None:
    status, out, _ = examples("pretraining", *([name] if name else []), "--help")
    assert status == 0
    assert "python -m examples.cli" in out

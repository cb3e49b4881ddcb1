"""The README lines of the original, verbatim, on a real Slurm: each to its end, with toy data and sizes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from real_slurm import ROOT, Slurm, ask

from tests.compat.launcher_toys import ToyCluster
from tests.compat.script_lines import LARGE, LINES

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

EPOCHS = {"train-webqsp": "2", "train-large-22": "24", "train-base-10": "12"}
"""Epochs of the whole training: one or two are left to be trained."""
EPOCH_FOLDERS = {"train-webqsp": {"epoch_0", "epoch_1"}, "train-large-22": {"epoch_15", "epoch_22", "epoch_23"},
        "train-base-10": {"epoch_10", "epoch_11"}}  # fmt: skip
RUNS = {
    "train-webqsp": "webqsp_all_ents/all_mention_biencoder_all_avg_true_20_true_true_bert_large_qa_linear",
    "train-large-22": f"wiki_all_ents/{LARGE}",
    "train-base-10": "wiki_all_ents/all_mention_biencoder_all_avg_true_128_false_false_bert_base_qa_linear",
}
TARGETS = {
    "encode-base-10": ("wiki_all_ents_all_avg_true_128_false_false_bert_base_qa_linear", "9"),
    "encode-large-3": ("wiki_all_ents_all_avg_true_128_false_false_bert_large_qa_linear", "24"),
}
"""Where vectors go, and rows of a shard: three shards, and one."""
PREDICTIONS = {
    "eval-webqsp": f"WebQSP_EL_test_wiki_all_ents;{LARGE};15_joint0.0_top50cands_final_joint_0",
    "eval-graphquestions": f"graphquestions_EL_test_wiki_all_ents;{LARGE};15_joint0.0_top50cands_final_joint_0",
    "eval-nq": "nq_dev_finetuned_webqsp_all_ents;all_mention_biencoder_all_avg_true_20_true_true_bert_large_qa_linear"
    "_joint0.25_top100cands_final_joint_0",
}


@pytest.fixture(scope="module")
def toy(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> ToyCluster:
    return ToyCluster(tmp_path_factory.mktemp("lines"))


@dataclass(frozen=True)
class RunningJobs:
    """What runs at the same time.

    Attributes:
        jobs: trainings: line -> id of the job.
        encodings: line -> the process that waits for its jobs.
    """

    jobs: dict[str, str]
    encodings: dict[str, subprocess.Popen[str]]


@pytest.fixture(scope="module")
def running(slurm: Slurm, toy: ToyCluster) -> Iterator[RunningJobs]:
    """All lines that need no other."""
    jobs = {
        name: slurm.submit(LINES[name], toy.environment, BLINK_FLAGS_TRAIN=f"--num_train_epochs {epochs} --precision fp32")
        for name, epochs in EPOCHS.items()
    }
    encodings = {name: slurm.start(LINES[name], toy.environment, BLINK_SHARD_ROWS=rows) for name, (_, rows) in TARGETS.items()}
    yield RunningJobs(jobs, encodings)
    for process in encodings.values():
        process.kill()


@pytest.mark.parametrize("name", EPOCHS)
def test_train(name: str, slurm: Slurm, toy: ToyCluster, running: RunningJobs) -> None:
    logs = [ROOT / "log" / f"{running.jobs[name]}.{end}" for end in ("out", "err")]
    try:
        assert slurm.wait(running.jobs[name]) == "COMPLETED", logs[1].read_text()
        assert "best epoch: " in logs[1].read_text()
    finally:
        for log in logs:
            log.unlink(missing_ok=True)
    run = toy.experiments / RUNS[name]
    assert {p.name for p in run.glob("epoch_*")} == EPOCH_FOLDERS[name]
    assert (run / "best" / "model.safetensors").is_file()
    parameters = json.loads((run / "training_params.txt").read_text())
    assert parameters["bert_model"] == str(toy.folder / ("base" if "base" in name else "large"))


@pytest.mark.parametrize("name", TARGETS)
def test_encode(name: str, slurm: Slurm, toy: ToyCluster, running: RunningJobs) -> None:
    _, err = running.encodings[name].communicate(timeout=600)
    assert running.encodings[name].returncode == 0, err
    target, rows = TARGETS[name]
    starts = range(0, 24, int(rows))
    submitted = re.search(rf"submitted {len(starts)} of {len(starts)} shards as job (\d+);", err)
    assert submitted is not None, err  # not run on this machine by itself
    assert slurm.show(f"{submitted[1]}_0")["JobState"] == "COMPLETED"
    folder = toy.models / "entity_encodings" / target
    shards = [torch.load(folder / f"{start}_{start + int(rows)}.t7", weights_only=True) for start in starts]
    vectors = torch.load(folder / "all.t7", weights_only=True)
    assert torch.equal(torch.cat(shards), vectors)
    assert vectors.shape == (24, 32)
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("name", PREDICTIONS)
def test_evaluate(name: str, slurm: Slurm, toy: ToyCluster, running: RunningJobs) -> None:
    if name == "eval-nq":
        slurm.wait(running.jobs["train-webqsp"])  # which trains its model
    done = slurm.run(LINES[name], toy.environment)
    assert done.returncode == 0, done.stderr
    folder = toy.folder / "saved_preds" / PREDICTIONS[name]
    rows = [json.loads(line) for line in (folder / "biencoder_outs.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(i) for i in range(24)]
    assert ("WEAK MATCHING" in done.stdout) == (name != "eval-nq")  # which has no gold


def test_evaluate_as_a_batch_job(slurm: Slurm, toy: ToyCluster, tmp_path: Path) -> None:
    line = LINES["eval-webqsp"].replace("bash", "sbatch", 1) + " 1"
    log = tmp_path / "a log.out"
    job = slurm.submit(line, toy.environment, SBATCH_OUTPUT=str(log), SBATCH_ERROR=str(log))
    assert slurm.wait(job) == "COMPLETED", log.read_text()
    folder = toy.folder / "saved_preds" / f"{PREDICTIONS['eval-webqsp']}_realtime_test"
    assert (folder / "biencoder_outs.jsonl").is_file()


def test_a_training_whose_time_is_up_goes_on_to_the_same_end(slurm: Slurm, toy: ToyCluster, tmp_path: Path) -> None:
    """USR1 reaches the script: the training saves, the job is queued again, and ends where one ends that bash ran."""
    words = "examples/train_biencoder.sh webqsp_all_ents all_avg train 8 true 20 true true base qa_linear"
    flags = {"BLINK_FLAGS_TRAIN": "--num_train_epochs 10 --learning_rate 0.01 --precision fp32 --save-steps 1"}
    folders = [tmp_path / name for name in ("with Slurm", "without")]
    undisturbed = slurm.start(f"bash {words}", toy.environment, BLINK_EXPERIMENTS_DIR=str(folders[1]), **flags)
    log = tmp_path / "log.out"
    to_log = {"SBATCH_OUTPUT": str(log), "SBATCH_ERROR": str(log), "BLINK_EXPERIMENTS_DIR": str(folders[0])}
    job = slurm.submit(f"sbatch {words}", toy.environment, **to_log, **flags)
    run, other = (f / "webqsp_all_ents/all_mention_biencoder_all_avg_true_20_true_true_bert_base_qa_linear" for f in folders)
    slurm.until(lambda: list((run / "checkpoints").glob("step-*.pt")))
    ask("scancel", "--batch", "--signal=USR1", job)
    slurm.until(lambda: slurm.show(job)["Restarts"] == "1")
    assert slurm.wait(job) == "COMPLETED", log.read_text()
    assert "time is up: what is done is kept, and the job is queued again" in log.read_text()
    assert f"{run} holds a run: going on from its newest checkpoint" in log.read_text()
    assert undisturbed.wait(timeout=600) == 0
    for name in ("best", "last", "epoch_9"):
        assert (run / name / "model.safetensors").read_bytes() == (other / name / "model.safetensors").read_bytes()

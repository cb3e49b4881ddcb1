"""Training, encoding, index and evaluation as jobs of a real Slurm: killed jobs resume, damaged files are named.

All of it equals, bit for bit, what comes of the same work without Slurm.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_slurm import Slurm, ask
from toys import base_folder, knowledge_base, rows, write_catalogue

from blink.model.loading import load_model

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

ROWS, SHARD_ROWS = 30, 10
RECIPE = "--epochs 30 --batch-size 8 --learning-rate 0.02 --precision fp32 --device cpu --save-steps 1"
DISTURBED = {"run": ("scontrol", "requeue"), "short-run": ("scancel", "--signal=USR1")}
"""Folder of a run -> what is done to its job while it trains."""
INDEXED = "--index hnsw --precision fp32"


class Work:
    """What the jobs work on, and how they are called, in a folder whose name has a space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalogue = write_catalogue(folder / "entity.jsonl", rows(ROWS))
        encoder = load_model(base_folder(folder / "base"), context=False, candidate=True)
        kb = knowledge_base(folder / "kb", encoder, rows(ROWS))
        lines = []
        for i in range(ROWS):
            title = kb.catalogue.title(i)
            mention = {"mentions": [[9, 9 + len(title)]], "label_id": [i]}
            lines.append(json.dumps({"id": str(i), "text": f"where is {title}?", **mention}) + "\n")
        for name, lines_of_set in (("train", lines), ("dev", lines[::3])):
            (folder / f"{name}.jsonl").write_text("".join(lines_of_set))
        (folder / "cluster.ini").write_text("[slurm]\npartition = learnfair\n")

    @property
    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("BLINK_")}
        return {**env, "BLINK_CLUSTER": str(self.folder / "cluster.ini"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def path(self, name: str) -> str:
        return shlex.quote(str(self.folder / name))

    def line(self, words: str, **paths: str) -> str:
        """A command; ``{name}`` in it is a path below the folder."""
        return f"{shlex.quote(sys.executable)} -m blink.apps.cli " + re.sub(r"\{([^}]+)\}", lambda m: self.path(m[1]), words)

    def train(self, out: str, start: str = "") -> str:
        return self.line(
            f"{start} train --train {{train.jsonl}} --dev {{dev.jsonl}} --kb {{kb}} --model {{base}} --out {{{out}}} {RECIPE}"
        )

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))


@pytest.fixture(scope="module")
def work(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("a chain"))


@pytest.fixture(scope="module")
def undisturbed(slurm: Slurm, work: Work) -> Iterator[subprocess.Popen[str]]:
    """The same work without Slurm, at the same time: local-run, local-kb, local.json, local.rows.jsonl."""
    line = " && ".join((
        work.train("local-run"),
        work.line(f"kb build {{entity.jsonl}} --model {{local-run/best}} --out {{local-kb}} {INDEXED} --chunk-rows 10"),
        work.line("eval {dev.jsonl} --model {local-run/best} --kb {local-kb} --json {local.json} --rows {local.rows.jsonl}"),
    ))  # fmt: skip
    process = slurm.start(line, work.environment)
    yield process
    process.kill()


def begin(slurm: Slurm, work: Work, line: str, folder: str) -> tuple[subprocess.Popen[str], str]:
    """Start a command that submits one job with its logs below a folder; returns it, and the job's id."""
    process = slurm.start(line, work.environment)
    submitted = work.folder / folder / "slurm" / "submitted.jsonl"
    slurm.until(lambda: process.poll() or (submitted.is_file() and submitted.read_text().endswith("\n")))
    assert not process.poll(), process.communicate()[1]
    return process, str(json.loads(submitted.read_text())["id"])


def checkpoints(work: Work, run: str) -> list[Path]:
    return list((work.folder / run / "checkpoints").glob("step-*.pt"))


@pytest.fixture(scope="module")
def trained(slurm: Slurm, work: Work, undisturbed: subprocess.Popen[str]) -> dict[str, str]:
    """Two runs that were disturbed in their middle, at the same time: folder -> job.

    One was queued again by the cluster. The other got USR1, which Slurm sends to the steps of a job before its time is up.
    """
    processes = {name: begin(slurm, work, work.train(name, "slurm"), name) for name in DISTURBED}
    for name, (_, job) in processes.items():
        slurm.until(lambda name=name: checkpoints(work, name))
        ask(*DISTURBED[name], job)
    for process, _ in processes.values():
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    return {name: job for name, (_, job) in processes.items()}


@pytest.mark.parametrize("name", DISTURBED)
def test_a_training_is_queued_again_and_goes_on(
    name: str, slurm: Slurm, work: Work, trained: dict[str, str], undisturbed: subprocess.Popen[str]
) -> None:
    job = slurm.show(trained[name])
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    starts = [row for row in map(json.loads, work.read(f"{name}/trace.jsonl").splitlines()) if row["kind"] == "run"]
    last = json.loads(work.read(f"{name}/trace.jsonl").splitlines()[-1])
    assert len(starts) == 2
    assert 0 < starts[1]["step"] < last["step"]
    log = work.read(f"{name}/slurm/log/{trained[name]}_0.out").decode()
    assert log.count("best epoch: ") == 1
    assert ("time is up: what is done is kept, and the job is queued again" in log) == (name == "short-run")
    undisturbed.wait(timeout=600)
    assert work.read(f"{name}/last/adapters.safetensors") == work.read("local-run/last/adapters.safetensors")


def test_encoding_is_checked_and_mended(slurm: Slurm, work: Work, trained: dict[str, str]) -> None:
    encode = work.line(
        f"slurm encode {{entity.jsonl}} --model {{run/best}} --out {{kb-of-jobs}} {INDEXED} --shard-rows {SHARD_ROWS}"
    )
    job = _encode_with_a_kill(slurm, work, f"{encode} --no-merge")
    assert [slurm.show(f"{job}_{shard}")["Restarts"] for shard in range(3)] == ["0", "1", "0"]

    chunk = work.folder / "kb-of-jobs" / ".build" / "chunks" / "00000010_00000020.npy"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    merge = slurm.run(encode, work.environment)
    assert merge.returncode == 1
    last = merge.stderr.splitlines()[-1]
    assert "shard 1 (entities 10 to 20)" in merge.stderr
    assert str(chunk) in merge.stderr
    assert last.startswith("blink: ")
    assert not (work.folder / "kb-of-jobs" / "manifest.json").exists()

    again = slurm.run(encode, work.environment)
    assert again.returncode == 0, again.stderr
    assert "submitted 1 of 3 shards" in again.stderr


def _encode_with_a_kill(slurm: Slurm, work: Work, line: str) -> str:
    """Run an array of three, of which the second is queued again as soon as it runs; returns its id."""
    process, job = begin(slurm, work, line, "kb-of-jobs")
    slurm.wait(f"{job}_1", "RUNNING")
    ask("scontrol", "requeue", f"{job}_1")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return job


def test_evaluation(slurm: Slurm, work: Work, trained: dict[str, str]) -> None:
    done = slurm.run(work.line("slurm eval {dev.jsonl} --model {run/best} --kb {kb-of-jobs} --out {scores}"), work.environment)
    assert done.returncode == 0, done.stderr
    assert work.json("scores/scores.json")["dev"] == work.json("scores/dev.json")


def test_all_of_it_equals_what_comes_without_slurm(work: Work, undisturbed: subprocess.Popen[str]) -> None:
    _, err = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, err
    for ours, local in (
        ("run/best/adapters.safetensors", "local-run/best/adapters.safetensors"),
        ("run/last/adapters.safetensors", "local-run/last/adapters.safetensors"),
        ("kb-of-jobs/vectors.npy", "local-kb/vectors.npy"),
        ("kb-of-jobs/index.faiss", "local-kb/index.faiss"),
        ("kb-of-jobs/manifest.json", "local-kb/manifest.json"),
        ("scores/dev.rows.jsonl", "local.rows.jsonl"),
    ):
        assert work.read(ours) == work.read(local), ours
    figures = [work.json(name) for name in ("scores/dev.json", "local.json")]
    for report in figures:
        report.pop("questions_per_s")
    assert figures[0] == figures[1]

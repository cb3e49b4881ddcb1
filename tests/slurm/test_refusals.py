"""Errors on a cluster: one line, and for a failed job the end of its log."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_slurm import Slurm
from toys import model, rows, write_catalogue

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, a model and texts."""
    where = tmp_path_factory.mktemp("refusals")
    write_catalogue(where / "entity.jsonl", rows(12))
    model(1).save_pretrained(where / "model")
    (where / "texts.txt").write_text("where is Oslo?\n")
    return where


def run(slurm: Slurm, words: str, folder: Path, **also: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BLINK_")}
    line = f"cd {shlex.quote(str(folder))} && {shlex.quote(sys.executable)} -m blink.apps.cli slurm {words}"
    return slurm.run(line, {**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, **also)


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("blink: ")
    for word in words:
        assert word in done.stderr


ENCODE = "encode entity.jsonl --model model --precision fp32"


def test_a_partition_that_does_not_exist(slurm: Slurm, folder: Path) -> None:
    done = run(slurm, f"{ENCODE} --out out-1", folder, BLINK_PARTITION="nowhere")
    assert_one_line(done, "partition is 'nowhere' (from BLINK_PARTITION), there are: learnfair")


def test_gpus_that_are_not_there(slurm: Slurm, folder: Path) -> None:
    assert_one_line(run(slurm, f"{ENCODE} --out out-1 --gpus 8", folder), "gpus is 8 (from --gpus)")


def test_a_missing_checkpoint(slurm: Slurm, folder: Path) -> None:
    done = run(slurm, "encode entity.jsonl --model experiments/nothing/best --out out-2", folder)
    assert_one_line(done, "experiments/nothing/best is no model folder")
    assert not list(folder.glob("out-2/slurm/submitted*"))


def test_a_job_that_fails_shows_the_end_of_its_log(slurm: Slurm, folder: Path) -> None:
    words = "train --train nothing.jsonl --dev nothing.jsonl --kb nothing --out run --device cpu"
    done = run(slurm, words, folder)
    assert done.returncode == 1
    log_tail = [line.removeprefix("  | ") for line in done.stderr.splitlines() if line.startswith("  | ")]
    (log,) = (folder / "run" / "slurm" / "log").glob("*.out")
    assert log_tail
    assert log_tail == log.read_text().splitlines()[-len(log_tail) :]
    assert any("nothing is not a knowledge base" in line for line in log_tail)
    assert str(log) in done.stderr.splitlines()[-1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for logs, and no vectors."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", disk], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk(slurm: Slurm, folder: Path, small_disk: Path) -> None:
    write_catalogue(folder / "many.jsonl", [{"title": f"name {i}"} for i in range(2000)])
    done = run(slurm, f"encode many.jsonl --model model --precision fp32 --out {shlex.quote(str(small_disk / 'kb'))}", folder)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"blink: shard 0 \(entities 0 to 2000\).* failed .*: the disk of .*{small_disk}.* is full", last)
    assert "Traceback" not in done.stderr

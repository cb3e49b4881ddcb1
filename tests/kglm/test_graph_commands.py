"""``blink kglm train | resume | eval | export`` on a graph: what they leave, what they print, what they say of mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graph_toys import TRAIN, family, rows, write_triples

pytest.importorskip("pykeen", reason="needs the extra kglm")

Blink = Callable[..., tuple[int, str, str]]
TOY = "kind: graph\ndevice: cpu\ndata: {graph: family}\nmodel: {dim: 16}\ntrain: {epochs: 40, lr: 0.05}\nstop: {every: 20}\n"


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    family(tmp_path / "data" / "family")
    write_triples(tmp_path / "data" / "family" / "valid_negatives.txt", [(t, r, h) for h, r, t in TRAIN])
    write_triples(tmp_path / "data" / "family" / "test_negatives.txt", [(t, r, h) for h, r, t in TRAIN])
    file = tmp_path / "run.yaml"
    file.write_text(TOY)
    return file


def test_a_run_from_its_file_to_vectors_for_the_linker(tmp_path: Path, run_file: Path, blink: Blink) -> None:
    run, out = tmp_path / "run", tmp_path / "vectors"
    status, printed, err = blink("kglm", "train", run_file, "--out", run, "--data", tmp_path / "data", "--train.log_steps", 5)
    assert (status, printed) == (0, "")
    assert f"the best state is in {run / 'best'}: mrr 1," in err
    assert len(rows(run, "step")) == 8
    first = rows(run, "run")[0]
    assert {"git", "versions", "host", "command", "files", "settings", "seed", "graph"} <= set(first)
    assert {"settings.yaml", "trace.jsonl", "metrics.json", "curves.png", "best", "checkpoints"} <= {
        p.name for p in run.iterdir()
    }

    status, printed, err = blink("kglm", "eval", run)
    assert (status, err) == (0, "")
    assert "mrr 1 " in printed
    status, printed, _ = blink("kglm", "eval", run, "--json")
    metrics = json.loads(printed)
    assert metrics["ranking"]["mrr"] == 1.0
    assert metrics["ranking"]["questions"] == 2 * len(TRAIN)
    assert 0 < metrics["relation_frequency"]["mrr"] < 1
    assert metrics["classification"]["hard"]["accuracy"] == 1.0
    assert set(metrics["classification"]["hard"]["by_relation"]) == {"parent", "knows", "likes"}
    stored = json.loads((run / "metrics.json").read_text())
    assert stored["test"] == metrics
    assert {"wall_seconds", "cpu_seconds", "threads", "host_cores", "seed", "graph", "mrr"} <= set(stored["train"])
    lines = (run / "ranks-test.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["head", "relation", "tail", "asked", "rank", "optimistic", "equal"]
    assert [line.split("\t")[:4] for line in lines[1:]] == [[*t, side] for side in ("tail", "head") for t in TRAIN]
    assert {line.split("\t")[4] for line in lines[1:]} == {"1"}

    status, _, err = blink("kglm", "export", run, "--out", out)
    assert status == 0
    assert "entities 5, dim 16, relations 6" in err
    vectors, ids = np.load(out / "entity_vectors.npy"), (out / "entity_ids.txt").read_text().split()
    assert (vectors.shape, vectors.dtype) == ((5, 16), np.float32)
    assert (out / "relation_ids.txt").read_text().split() == ["parent", "knows", "likes", "parent^-1", "knows^-1", "likes^-1"]
    relations = np.load(out / "relation_vectors.npy")
    assert dict(zip(ids, np.load(out / "degrees.npy").tolist(), strict=True))["ada"] == sum("ada" in t for t in TRAIN)
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["layout"], meta["dim"], meta["rows"], meta["model"]) == ("re_im", 16, 5, "complex")
    # The vectors alone, by the formula and joined by id, put a child of ada's first.
    z = {name: v[:8] + 1j * v[8:] for name, v in zip(ids, vectors.astype(float), strict=True)}
    parent = relations[0, :8] + 1j * relations[0, 8:]
    scores = {name: (z["ben"] * parent * tail.conj()).sum().real for name, tail in z.items()}
    assert max(scores, key=scores.__getitem__) == "dan"


def test_a_run_goes_on(tmp_path: Path, run_file: Path, blink: Blink) -> None:
    options = ("--data", tmp_path / "data")
    assert blink("kglm", "train", run_file, "--out", tmp_path / "whole", *options)[0] == 0
    assert blink("kglm", "train", run_file, "--out", tmp_path / "run", *options, "--train.epochs", 20)[0] == 0
    status, _, err = blink("kglm", "resume", tmp_path / "run", "--train.epochs", "40")
    assert status == 0, err
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text())["train"] for name in ("whole", "run")]
    assert metrics[0]["mrr"] == metrics[1]["mrr"]
    assert [row["loss"] for row in rows(tmp_path / "whole", "epoch")] == [
        row["loss"] for row in rows(tmp_path / "run", "epoch")
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "err"),
    [
        (["train", "none.yaml", "--out", "o"], 1, "none.yaml does not exist"),
        (["train", "RUN"], 2, "Missing option '--out'"),
        (["train", "RUN", "--out", "o", "--train.lrr", "1"], 1, "did you mean train.lr?"),
        (["train", "RUN", "--out", "o", "--train.type", "all"], 1, "train.type is 'all'"),
        (["train", "RUN", "--out", "o", "--data.graph", "nope"], 1, "there is no nope nor"),
        (["train", "RUN", "--out", "o", "--model.name", "complecks"], 1, "allowed are complex, distmult, rotate, transe"),
        (["train", "RUN", "--out", "o", "--model.vectors", "nope"], 1, "there is no nope"),
        (["train", "RUN", "--out", "o", "--device", "tpu"], 1, "device is 'tpu'"),
        (["resume", "nowhere"], 1, "nowhere holds no run"),
        (["eval", "nowhere"], 1, "nowhere holds no run"),
        (["export", "nowhere", "--out", "o"], 1, "nowhere holds no run"),
        (["evaluate"], 2, "there is no command"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, run_file: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, err: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINK_DATA", str(tmp_path / "data"))
    result = blink("kglm", *(run_file if a == "RUN" else a for a in arguments))
    assert result[0] == status
    assert err in result[2]
    assert len(result[2].strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_finished_run_is_not_trained_over(tmp_path: Path, run_file: Path, blink: Blink) -> None:
    options = ("--out", tmp_path / "run", "--data", tmp_path / "data", "--train.epochs", 1, "--stop.every", 1)
    assert blink("kglm", "train", run_file, *options)[0] == 0
    status, _, err = blink("kglm", "train", run_file, *options)
    assert (status, "holds a run already" in err) == (1, True)
    status, _, err = blink("kglm", "eval", tmp_path / "run", "--split", "dev")
    assert (status, "no dev triples (only train, valid, test)" in err) == (1, True)
    status, _, err = blink("kglm", "resume", tmp_path / "run", "--train.lr", "1")
    assert (status, "was started with another train.lr" in err) == (1, True)


@pytest.mark.parametrize("command", ["train", "resume", "eval", "export"])
def test_help_teaches_by_an_example(blink: Blink, command: str) -> None:
    status, printed, _ = blink("kglm", command, "--help")
    assert status == 0
    assert f"blink kglm {command} " in printed
    assert "Example" in printed

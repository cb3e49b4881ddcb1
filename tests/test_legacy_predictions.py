"""The original's folders of predictions: swept without the model, with the counts that the original recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blink.errors import DataError, MissingFileError
from blink.evaluation.legacy import ARRAYS, is_legacy, read_legacy
from blink.evaluation.sweep import curve, predicted_at
from blink.linking.decoder import Decoder, Thresholds

pytestmark = pytest.mark.quick

Run = Callable[..., tuple[int, str, str]]


def joint_runs(parity: Path) -> list[dict[str, Any]]:
    runs = json.loads((parity / "golden" / "summary.json").read_text())
    return [
        r for r in runs if r["set"] == "labelled" and r["run"] in [f"joint_thr{t}" for t in ("-2.9", "-1.5", "-0.5", "0.0")]
    ]


@pytest.fixture
def golden(parity: Path, tmp_path: Path) -> Path:
    """The original's answers at its lowest threshold, laid out as its script would have."""
    with np.load(parity / "golden" / "labelled_base.npz") as base:
        arrays = {
            "offsets": base["mention_offsets"], "mention_bounds": base["mention_bounds"],
            "mention_scores": base["mention_logits"], "nns": base["cand_ids"], "cand_scores": base["cand_logits"],
        }  # fmt: skip
    np.savez(tmp_path / "predictions.npz", **arrays)
    outs = parity / "golden" / "pred_labelled_joint_thr-4.5.jsonl"
    (tmp_path / "biencoder_outs.jsonl").write_bytes(outs.read_bytes())
    (tmp_path / "runtime.txt").write_text("2.5")
    return tmp_path


def test_a_sweep_has_the_counts_that_the_original_recorded(parity: Path, golden: Path) -> None:
    saved = read_legacy(golden)
    linker = Decoder("joint", Thresholds(0.0))
    runs = joint_runs(parity)
    assert len(runs) == 4
    points = curve(linker, saved.analyses, saved.samples, [float(r["threshold"]) for r in runs])
    for run, point in zip(runs, points, strict=True):
        counts = point.overall
        columns = ("num_correct_weak", "num_correct_strong", "num_predicted", "num_gold")
        assert (counts.weak, counts.strong, counts.predicted, counts.gold) == tuple(run[name] for name in columns), run["run"]


def test_the_same_links_as_the_original(parity: Path, golden: Path) -> None:
    saved = read_legacy(golden)
    linker = Decoder("joint", Thresholds(-1.5))
    text = (parity / "golden" / "pred_labelled_joint_thr-1.5.jsonl").read_text()
    for reading, line in zip(saved.analyses, text.splitlines(), strict=True):
        links = {(p.id, (p.start or 0) - 1, (p.end or 0) - 1) for p in predicted_at(linker, reading)}
        assert links == {tuple(triple) for triple in json.loads(line)["pred_triples"]}


def test_the_command(blink: Run, golden: Path) -> None:
    status, out, err = blink("eval", "--preds", golden, "--json", "-")
    assert status == 0, err
    assert json.loads(out)["questions"] == 40
    assert json.loads(out)["questions_per_s"] == 16


def write_rows(folder: Path, n: int) -> None:
    row = {"text": "", "scores": [], "pred_triples": [], "gold_triples": [["3", 1, 2]], "tokens": [7] * 4}
    (folder / "biencoder_outs.jsonl").write_text("".join(json.dumps({"id": i} | row) + "\n" for i in range(n)))


def write_dense(folder: Path, n: int = 3, m: int = 2) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "mention_bounds": np.tile(np.array([[1, 1], [2, 3]])[:m], (n, 1, 1)),
        "mention_scores": generator.normal(size=(n, m)),
        "nns": np.tile(np.arange(10), (n, m, 1)),
        "cand_scores": generator.normal(size=(n, m, 10)),
    }
    for name, values in arrays.items():
        np.save(folder / ARRAYS[name], values)
    write_rows(folder, n)


def test_dense_arrays(tmp_path: Path) -> None:
    assert not is_legacy(tmp_path)
    write_dense(tmp_path)
    assert is_legacy(tmp_path)
    saved = read_legacy(tmp_path)
    assert [len(r.spans) for r in saved.analyses] == [2, 2, 2]
    assert all((np.diff(r.spans.entity_logits, axis=1) <= 0).all() for r in saved.analyses)
    assert [[(m.start, m.end, m.row) for m in s.mentions or ()] for s in saved.samples] == [[(2, 3, 3)]] * 3


def test_pickles_are_not_opened(blink: Run, tmp_path: Path) -> None:
    write_dense(tmp_path)
    ragged = np.empty(3, dtype=object)
    ragged[:] = [np.zeros((i + 1, 2), int) for i in range(3)]
    np.save(tmp_path / "biencoder_mention_bounds.npy", ragged, allow_pickle=True)
    with pytest.raises(DataError, match="pickled objects"):
        read_legacy(tmp_path)
    status, out, err = blink("eval", "--preds", tmp_path)
    assert (status, out) == (1, "")
    assert "--save_preds_dir" in err
    assert len(err.splitlines()) == 1


def test_folders_that_are_incomplete(tmp_path: Path) -> None:
    write_dense(tmp_path)
    write_rows(tmp_path, 2)
    with pytest.raises(DataError, match="2 rows"):
        read_legacy(tmp_path)
    (tmp_path / "biencoder_mention_scores.npy").unlink()
    with pytest.raises(MissingFileError, match="older versions"):
        read_legacy(tmp_path)
    (tmp_path / "predictions.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="damaged"):
        read_legacy(tmp_path)
    np.savez(tmp_path / "predictions.npz", offsets=np.zeros(3, int))
    with pytest.raises(DataError, match="lacks 'mention_bounds'"):
        read_legacy(tmp_path)
    write_dense(tmp_path)
    (tmp_path / "predictions.npz").unlink()
    (tmp_path / "biencoder_outs.jsonl").write_text('{"id": 1}\n' * 3)
    with pytest.raises(DataError, match="malformed"):
        read_legacy(tmp_path)

"""``main_dense_all_ents.py`` over a starter that ranks: without the original's flags its scores are probabilities."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import toys
from shell_toys import weighing

from blink.compat.elq.run import main
from blink.linking import starter
from blink.linking.linker import Linker

QUESTION = {"id": "q", "text": "is Oslo 7 old?", "mentions": [[3, 9]], "label_id": [7]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter with a tiny model."""
    folder = tmp_path_factory.mktemp("home")
    model = toys.model(11)
    model.reranker = weighing(-6.0, title=12.0)
    model.config = model.config.replace(cutoff=0.4)
    model.save_pretrained(folder / "starter")
    toys.knowledge_base(folder / "starter-kb", model, toys.rows(20))
    return folder


@pytest.fixture(autouse=True)
def starter_of_toys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "HOMES", (home,))


def dialogue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *typed: str, flags: tuple[str, ...] = ()
) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in typed).encode())))
    assert main(["-i", *flags]) == 0
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1, captured.err
    assert "using the starter" in captured.err
    return captured.out


def test_the_dialogue_speaks_of_probabilities(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = dialogue(
        monkeypatch, capsys, "is Oslo 7 old?", "c", "often", "0.9999", "c", "-4.5", ":threshold 0.4", ":explain 1", "n"
    )
    assert out.startswith(
        "insert text: is Oslo 7 old?\nis [Oslo 7] old?\n\nOslo 7\n  Wikidata ID: Q107\n  Title: Oslo 7\n  Score: 0.9"
    )
    prompts = "Next question [n] / change threshold [c]: c\nthe threshold is 0.4; scores are probabilities, from 0 to 1\n"
    assert f"{prompts}new threshold: often\n" in out
    assert "'often' is not a number; give one such as 0.5, or 0 to see everything\nnew threshold: 0.9999\n" in out
    assert "no links above 0.9999; the best guess below it:" in out
    assert "from 0 to 1, and the threshold is -4.5: every link is above it\n" in out
    assert re.search(r"^ {4}score +0\.9\d\d  their product", out, re.M)
    assert "      Oslo 7: its title, and of nothing else; fits the context" in out
    assert not re.search(r"Score: -", out)


def test_a_threshold_of_the_original_is_a_log_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = dialogue(monkeypatch, capsys, "is Oslo 7 old?", "c", "x", "-1", flags=("--threshold", "-4.5"))
    assert "the threshold is -4.5\n" in out
    assert "such as -2.5, or -inf" in out
    assert re.search(r"Score: -\d", out)


@pytest.mark.parametrize("detector", ["joint", "none"])
def test_a_file_is_linked_as_everywhere_else(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], detector: str
) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(QUESTION) + "\n")
    flags = ["--test_mentions", str(tmp_path / "in.jsonl"), "--save_preds_dir", str(tmp_path / "out"), "--precision", "fp32"]
    assert main([*flags, "-n", detector]) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "biencoder_outs.jsonl").read_text().splitlines()]
    linker = Linker.from_pretrained(home / "starter", home / "starter-kb", precision="fp32", device="cpu")
    assert linker.mode == "probability"
    linked = linker(QUESTION["text"], spans=[(3, 9)] if detector == "none" else None)
    assert row["pred_tuples_string"][0][0] == "Oslo 7"
    np.testing.assert_allclose(sorted(row["scores"]), sorted(link.score for link in linked.links), atol=1e-5)
    assert 0 < row["scores"][0] <= 1

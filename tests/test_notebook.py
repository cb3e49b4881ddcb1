"""The notebook of the documentation runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("pandas")

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"


def texts_of(notebook: Any) -> list[str]:
    """What each cell of code prints or shows, HTML before plain text."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = []
    for cell in cells:
        outputs = [output.get("data", {"text/plain": output.get("text", "")}) for output in cell.outputs]
        shown.append("".join(data.get("text/html", data.get("text/plain", "")) for data in outputs))
    return shown


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []


def test_it_runs(tmp_path: Path, starter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("BLINK_BACKEND", "onnx")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=dict(os.environ))
    _, linked, printed, candidates, frame, thresholds, own, added, undone = texts_of(notebook)
    assert "Q254" in linked
    assert "<mark" in linked or "<a " in linked
    assert printed.startswith("4 10 Mozart Wolfgang Amadeus Mozart Q254")
    assert "Wolfgang Amadeus Mozart" in candidates
    assert "<table" in frame
    assert "Java (programming language)" in frame
    counts = [line.count("'") // 2 for line in thresholds.split("\n") if line]
    assert counts == sorted(counts, reverse=True)
    assert "Quillbeam" in own
    assert "Kepler" not in own
    assert "Kepler" in added
    assert "Zorblax" not in undone

"""The pages of results are what their scripts write from the stored figures, to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import serving
from scripts import (
    ablation_page,
    document_figures,
    harness,
    joined_texts,
    nil_figures,
    prior_ablation_page,
    resolve_figures,
    trap_figures,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
KGLM = ROOT / "examples" / "kglm"


def stored(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_ablation() -> None:
    page = ablation_page.markdown(stored(RESULTS / "ablation.json"))
    assert page == (RESULTS / "ablation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("stem", ["prior", "prior_no_question"])
def test_what_a_prior_is_worth(stem: str) -> None:
    page = prior_ablation_page.table_of(stored(RESULTS / f"{stem}.json"))
    assert page == (RESULTS / f"{stem}.md").read_text(encoding="utf-8")


def test_teams_lookalikes_and_traps() -> None:
    assert trap_figures.markdown(stored(RESULTS / "traps.json")) == (RESULTS / "traps.md").read_text(encoding="utf-8")


def test_joined_texts() -> None:
    page = joined_texts.markdown(stored(RESULTS / "joined_texts.json"))
    assert page == (RESULTS / "joined_texts.md").read_text(encoding="utf-8")


def test_documents_and_long_texts() -> None:
    page = document_figures.markdown(stored(RESULTS / "document.json"))
    assert page == (RESULTS / "document.md").read_text(encoding="utf-8")


def test_the_server_under_load() -> None:
    page = serving.markdown(stored(RESULTS / "serving.json"))
    assert page == (RESULTS / "serving.md").read_text(encoding="utf-8")


def test_names_that_the_catalogue_lacks() -> None:
    assert nil_figures.markdown(stored(RESULTS / "nil.json")) == (RESULTS / "nil.md").read_text(encoding="utf-8")


def test_language_models_and_triple_classifiers() -> None:
    pytest.importorskip("yaml", reason="needs the extra kglm")
    from scripts import kglm_table

    files = {name: KGLM / "metrics" / f"{name}.json" for name in kglm_table.ROWS}
    figures = {name: stored(file)["seeds"] if file.is_file() else {} for name, file in files.items()}
    page = kglm_table.markdown(figures, stored(KGLM / "metrics" / "sentences.json"))
    assert page == (KGLM / "table.md").read_text(encoding="utf-8")


def test_the_page_of_learning_checks_begins_as_written() -> None:
    from scripts import learning_checks

    assert (ROOT / "examples" / "learning.md").read_text(encoding="utf-8").startswith(learning_checks.HEAD)


class TestHarness:
    def test_rows_behind_one_that_fails_are_made_and_written(self) -> None:
        calls: list[str] = []
        writes: list[int] = []

        def make(row: Any, progress: str) -> None:
            if row.name == "b":
                raise harness.RowFailed("out of luck")
            calls.append(f"{row.name}: {progress}")

        rows = [Line(name) for name in "abc"]
        for jobs in (0, 2):
            calls.clear()
            with pytest.raises(harness.RowFailed, match=r"1 of 3 rows failed \(b\)"):
                harness.make_rows(rows, make, lambda: writes.append(len(calls)), jobs=jobs)
            assert sorted(calls) == ["a: row 1 of 3", "c: row 3 of 3"]
        assert len(writes) == 4

    @pytest.mark.parametrize("jobs", [0, 1])
    def test_another_error_ends_the_work(self, jobs: int) -> None:
        calls: list[str] = []

        def make(row: Any, progress: str) -> None:
            calls.append(row.name)
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            harness.make_rows([Line(name) for name in "abc"], make, lambda: None, jobs=jobs)
        assert calls[0] == "a"
        assert len(calls) < 3

    def test_tables(self) -> None:
        assert harness.markdown_table(["a", "b"], [["x", "1"]], 1) == "| a | b |\n| --- | ---: |\n| x | 1 |"
        assert harness.mean_and_deviation([1.0, 3.0], 1) == "2.0 ± 1.4"
        assert harness.mean_and_deviation([], 1) == "-"

    def test_sides_run_in_turn_and_the_first_run_does_not_count(self) -> None:
        calls: list[str] = []
        times = iter(range(100))
        seconds = harness.alternate(
            {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}, 2, lambda: float(next(times))
        )
        assert calls == ["one", "two"] * 3
        assert seconds == {"one": [1.0, 1.0], "two": [1.0, 1.0]}


class Line:
    def __init__(self, name: str) -> None:
        self.name = name


def test_resolving() -> None:
    page = resolve_figures.markdown(stored(RESULTS / "resolve.json"))
    assert page == (RESULTS / "resolve.md").read_text(encoding="utf-8")

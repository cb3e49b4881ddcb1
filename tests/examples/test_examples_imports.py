"""Who imports whom: nothing of ``blink`` the tasks, the tasks little of ``blink``, shared modules only those before them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

TASKS = (
    *("entity_typing", "relation_classification", "ner", "entity_span_qa", "reading_comprehension"),
    *("entity_disambiguation", "pretraining"),
)
ALLOWED = re.compile(
    r"blink\.(errors|files|input_files|decompression|work_folders|left_overs|replacing|cells|stopping|apps\.(common|options)|data\.arrays|model\.(precision|pretrained)|(runs|training)\.\w+)"
)
BETWEEN_TASKS = {("reading_comprehension", "pretraining")}
"""Imports between tasks that are allowed: links of SQuAD's articles come from the parsed dump."""


def imported(file: Path) -> Iterator[str]:
    """Modules that a file imports, at its head or inside its functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_nothing_of_blink_imports_the_examples(root: Path) -> None:
    files = sorted((root / "blink").rglob("*.py"))
    assert files
    assert [f"{f}: {m}" for f in files for m in imported(f) if m.split(".")[0] == "examples"] == []


def test_the_examples_import_little_of_blink(tasks: Path) -> None:
    files = sorted(tasks.rglob("*.py"))
    assert {f.parent.name for f in files} >= {"luke", *TASKS}
    wrong = [f"{f}: {m}" for f in files for m in imported(f) if m.split(".")[0] == "blink" and not ALLOWED.fullmatch(m)]
    assert wrong == []


def test_tasks_do_not_know_each_other(tasks: Path) -> None:
    imports = {(name, other) for name in TASKS for f in (tasks / name).glob("*.py") for other in _tasks_of(f)}
    assert {pair for pair in imports if pair[0] != pair[1]} == BETWEEN_TASKS


def _tasks_of(file: Path) -> set[str]:
    module_paths = [module.split(".") for module in imported(file)]
    return {p[1] for p in module_paths if p[0] == "examples" and len(p) > 1 and p[1] in TASKS}


def test_shared_modules_import_those_before_them(tasks: Path) -> None:
    page = (tasks / "luke" / "__init__.py").read_text(encoding="utf-8")
    order = re.findall(r"``(\w+)``", page[page.index("The modules") :])
    assert {f.stem for f in (tasks / "luke").glob("*.py")} - {"__init__"} == set(order)
    for name in order:
        for module in imported(tasks / "luke" / f"{name}.py"):
            package, _, other = module.rpartition(".")
            if package == "examples.luke":
                assert order.index(other) < order.index(name), f"{name} imports {other}"


def test_shared_modules_know_no_task(tasks: Path) -> None:
    assert {f.name: _tasks_of(f) for f in (tasks / "luke").glob("*.py") if _tasks_of(f)} == {}

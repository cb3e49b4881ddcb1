"""A package imports only from those above it, as ARCHITECTURE.md says, in no circle; and help does not wait for torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ORDER = re.findall(r"`blink\.(\w+)`", "\n".join(re.findall(r"^\| (`blink\.[^|]*)\|", PAGE, re.MULTILINE)))
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("blink", "elq", "examples")
    for file in sorted((ROOT / package).rglob("*.py"))
}
FILES = [file for name, file in MODULES.items() if name.startswith("blink.") and file.name != "__main__.py"]
"""Without the entry points of commands, which nothing imports."""
LAZY = re.compile(r"(?:blink|elq|examples)(?:\.\w+)+(?=:\w+$)")
"""The module of a lazy import, as tables of commands write it: ``"module:attribute"``."""
UPWARDS = {("blink.apps.cli", "blink.compat.elq.training")}
"""The table of all commands names ``blink train``, which takes the flags of the original too."""
MAX_LINES = 450
MAX_APPS_LINES = 5_750
ASSIGNED = re.compile(r"^\s*\w*linker\.[\w.]+ = ", re.MULTILINE)
"""An assignment to an attribute of a linker from outside."""

pytestmark = pytest.mark.quick


@cache
def imported(file: Path) -> tuple[str, ...]:
    """Modules of ours that a file imports: at its head, in its functions, by name or by a lazy table; not for types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    types_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    nodes = (node for node in ast.walk(tree) if id(node) not in types_only)
    names = (name for node in nodes for name in _imported_by(node, file))
    return tuple(dict.fromkeys(name for name in names if name.split(".")[0] in ("blink", "elq", "examples")))


def _imported_by(node: ast.AST, file: Path) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{file} imports relatively"
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            yield submodule if submodule in MODULES else str(node.module)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if lazy := LAZY.match(node.value):
            yield lazy[0]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        yield from (str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant))


def lines_of(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: {m for m in imported(file) if m in MODULES and m != name} for name, file in MODULES.items()}
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_circles_are_seen_in_functions_and_lazy_tables(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from blink.files import sha256\n"
        "def f():\n    from blink.kb import vectors\n    import_module('blink.errors')\n"
        "TABLE = {'x': ('blink.apps.link:link', 'text: blink.apps.cli:no')}\n"
    )
    assert sorted(imported(file)) == ["blink.apps.link", "blink.errors", "blink.kb.vectors"]


def test_every_lazy_import_leads_somewhere() -> None:
    lazy = {(m, file) for file in MODULES.values() for m in imported(file) if m.startswith("blink.") and m not in MODULES}
    assert lazy == set()


def test_modules_are_short() -> None:
    files = [f for folder in ("blink", "elq", "examples", "scripts", "benchmarks") for f in (ROOT / folder).rglob("*.py")]
    assert [str(f.relative_to(ROOT)) for f in files if lines_of(f) > MAX_LINES] == []
    assert sum(map(lines_of, (ROOT / "blink" / "apps").rglob("*.py"))) < MAX_APPS_LINES


def test_tests_stand_outside_of_the_package() -> None:
    assert list((ROOT / "blink").rglob("test_*.py")) == []


def test_no_default_leads_out_of_the_project() -> None:
    pages = [
        ROOT / "Makefile",
        *ROOT.glob("*.md"),
        *ROOT.glob("*.sh"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
    code = [f for folder in ("blink", "elq", "examples", "scripts", "benchmarks") for f in (ROOT / folder).rglob("*.py")]
    assert [str(f.relative_to(ROOT)) for f in (*pages, *code) if "../shared" in f.read_text(encoding="utf-8")] == []


def test_nothing_reaches_into_a_linker() -> None:
    code = [f for folder in ("blink", "elq", "examples", "scripts", "benchmarks") for f in (ROOT / folder).rglob("*.py")]
    assert [str(f.relative_to(ROOT)) for f in code if ASSIGNED.search(f.read_text(encoding="utf-8"))] == []


def test_the_page_names_every_package() -> None:
    assert {p.name for p in (ROOT / "blink").iterdir() if (p / "__init__.py").exists()} <= set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_upwards(package: str) -> None:
    files = [f for f in FILES if f.relative_to(ROOT / "blink").with_suffix("").parts[0] == package]
    assert files
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files
        for module in imported(file)
        if module.startswith("blink.")
        and ORDER.index(module.split(".")[1]) > ORDER.index(package)
        and (".".join(file.relative_to(ROOT).with_suffix("").parts), module) not in UPWARDS
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ["apps/shell", "compat/elq"])
def test_modules_import_in_the_order_they_are_listed(folder: str) -> None:
    package = ROOT / "blink" / folder
    page = (package / "__init__.py").read_text(encoding="utf-8")
    order = re.findall(r"``(\w+)``", page[page.index("The modules") :])
    assert {f.stem for f in package.glob("*.py")} - {"__init__"} == set(order)
    for name in order:
        for module in imported(package / f"{name}.py"):
            if module.startswith(f"blink.{folder.replace('/', '.')}."):
                assert order.index(module.rsplit(".", 1)[1]) < order.index(name), f"{name} imports {module}"


def test_the_page_names_every_module() -> None:
    modules = {f.stem for f in FILES if f.stem != "__init__" and f.parent.parent == ROOT / "blink"}
    assert sorted(m for m in modules if f"`{m}`" not in PAGE) == []


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom blink.apps.cli import cli\n"
        "for words in ([], ['kb'], ['slurm'], ['kglm'], ['--help'], ['kglm', '--help']):\n"
        "    assert 'Commands:' in CliRunner().invoke(cli, words, catch_exceptions=False).output\n"
        "print([m for m in ('torch', 'transformers', 'faiss', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

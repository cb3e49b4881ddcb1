"""A package imports only from those above it, as ARCHITECTURE.md says; and help does not wait for torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ORDER = re.findall(r"`blink\.(\w+)`", "\n".join(re.findall(r"^\| (`blink\.[^|]*)\|", PAGE, re.MULTILINE)))
FILES = sorted(file for file in (ROOT / "blink").rglob("*.py") if file.name != "__main__.py")
"""Without the entry points of commands, which nothing imports."""

pytestmark = pytest.mark.quick


def imported(file: Path) -> Iterator[str]:
    """Modules of ours that a file imports, at its head or inside its functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from [node.module or ""] if (node.module or "").startswith("blink.") else []
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("blink."))


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
        if ORDER.index(module.split(".")[1]) > ORDER.index(package)
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
    code = "import sys, blink.apps.cli; print([m for m in ('torch', 'transformers', 'faiss', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

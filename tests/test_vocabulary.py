"""Names say what they hold: words of everyday speech are counted, see the vocabulary in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("blink", "examples", "scripts", "benchmarks", "tests")
MOST_PER_THOUSAND_LINES = 3.0
EVERYDAY = frozenset(
    re.findall(
        r"\w+",
        """apart asked begun chosen each found gathered given heard held kept left made mine own part parts place placed places
        said seen settled shown taken there told wanted way ways anew beside""",
    )
)
"""Words that do not say what a name holds."""
REPLACED = frozenset(
    re.findall(
        r"\w+",
        """fame standing go_on refiner refine evidence word_pieces floor settle scores_id weighed_for free_to_change most_named
        work_off notice_s""",
    )
)
"""Names that have a term of the field instead."""

pytestmark = pytest.mark.quick


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every function, class, parameter, variable and attribute that is defined."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def in_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_")


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_are_terms_of_the_field(folder: str) -> None:
    lines, everyday, replaced = 0, [], []
    for file in sorted((ROOT / folder).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        lines += len(text.splitlines())
        for line, name in bound_names(ast.parse(text)):
            where = f"{file.relative_to(ROOT)}:{line} {name}"
            everyday += [where] if in_snake_case(name) in EVERYDAY else []
            replaced += [where] if in_snake_case(name) in REPLACED else []
    assert replaced == []
    assert 1000 * len(everyday) / lines < MOST_PER_THOUSAND_LINES, everyday

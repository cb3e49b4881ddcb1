"""Every command in the READMEs under examples/ is one that the command line understands, and the files it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from examples.cli import cli

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for p in (ROOT / "examples").rglob("README.md") if p.parent.name != "kglm")
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
VARIABLE = re.compile(r'(\w)=("[^"]*"|\S+)')


def commands(page: Path) -> list[str]:
    """Commands of the page that call the examples, their variables filled in."""
    variables: dict[str, str] = {}
    found = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if given := VARIABLE.fullmatch(line.strip()):
                variables[given.group(1)] = given.group(2).strip('"')
                continue
            line = re.sub(r"\$(\w)\b", lambda m: variables[m.group(1)], line)
            if line.startswith("python -m examples.cli "):
                found.append(line.removeprefix("python -m examples.cli "))
    return found


CASES = [pytest.param(line, id=f"{page.parent.name}-{i}") for page in PAGES for i, line in enumerate(commands(page))]


def test_every_task_has_a_page_with_commands() -> None:
    tasks = {p.parent for p in (ROOT / "examples").glob("*/command*.py")}
    assert {page.parent for page in PAGES} >= tasks
    assert all(len(commands(page)) >= 2 for page in PAGES)


@pytest.mark.parametrize("line", CASES)
def test_a_command_is_understood(line: str) -> None:
    words = shlex.split(line)
    if "MODEL" in line and "TASK" in line:  # the form of all of them
        return
    context, command = _reach(words)
    assert not isinstance(command, click.Group), "a group alone does nothing"
    assert context.params
    ours = [word.rpartition("=")[2] for word in words if word.rpartition("=")[2].startswith("examples/")]
    assert [path for path in ours if not (ROOT / path).exists()] == []


def _reach(words: list[str]) -> tuple[click.Context, click.Command]:
    """Read the words as the command line does, without running anything."""
    command: click.Command = cli
    context = cli.make_context("examples", list(words))
    while isinstance(command, click.Group):
        held = vars(context).get("_protected_args", vars(context).get("protected_args", []))  # click before 8.2
        name, command_found, rest = command.resolve_command(context, [*held, *context.args])
        assert command_found is not None
        command, context = command_found, command_found.make_context(name, rest, parent=context)
    return context, command

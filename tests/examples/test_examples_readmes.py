"""Every command in the READMEs under examples/ is one that the command line understands, and the files it names are there.

And the script that runs those under "Try it" for real does what it says.
"""

from __future__ import annotations

import importlib.util
import random
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from blink.errors import SettingsError
from examples.cli import cli

ROOT = Path(__file__).resolve().parents[2]
DATA = ("kglm", "places")
"""Folders without commands of the examples."""
PAGES = sorted(p for p in (ROOT / "examples").rglob("README.md") if p.parent.name not in DATA)
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
VARIABLE = re.compile(r'(\w)=("[^"]*"|\S+)')


def commands(page: Path) -> list[str]:
    """Commands of the page that call the examples, their variables filled in."""
    variables: dict[str, str] = {}
    calls = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if assignment := VARIABLE.fullmatch(line.strip()):
                variables[assignment.group(1)] = assignment.group(2).strip('"')
                continue
            line = re.sub(r"\$(\w)\b", lambda m: variables[m.group(1)], line)
            if line.startswith("python -m examples.cli "):
                calls.append(line.removeprefix("python -m examples.cli "))
    return calls


CASES = [pytest.param(line, id=f"{page.parent.name}-{i}") for page in PAGES for i, line in enumerate(commands(page))]


@pytest.mark.quick
def test_every_task_has_a_page_with_commands() -> None:
    tasks = {p.parent for p in (ROOT / "examples").glob("*/command*.py")}
    assert {page.parent for page in PAGES} >= tasks
    assert all(len(commands(page)) >= 2 for page in PAGES)


@pytest.mark.quick
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
        protected = vars(context).get("_protected_args", vars(context).get("protected_args", []))  # click before 8.2
        name, command_found, rest = command.resolve_command(context, [*protected, *context.args])
        assert command_found is not None
        command, context = command_found, command_found.make_context(name, rest, parent=context)
    return context, command


@pytest.fixture(scope="module")
def script() -> Any:
    """The script that runs the pages' commands for real."""
    spec = importlib.util.spec_from_file_location("learning_checks", ROOT / "scripts" / "learning_checks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class TestLearningChecks:
    def test_it_knows_every_page(self, script: Any) -> None:
        assert {task.replace("-", "_") for task in script.SCORES} == {p.parent.name for p in PAGES} - {"examples"}
        assert all("--output-dir" in script.try_it(task) for task in script.SCORES)

    def test_calls_are_noted_with_their_words_and_folders(self, script: Any, tmp_path: Path) -> None:
        lines = 'E="python -c"\n$E "pass" --output-dir out/a\npython -c "pass" --output-dir=out/b run \\\n    x\n'
        (one, _), (other, seconds) = script.run_lines(lines, tmp_path)
        assert one == ["-c", "pass", "--output-dir", f"{tmp_path}/a"]
        assert other == ["-c", "pass", f"--output-dir={tmp_path}/b", "run", "x"]
        assert 0 < seconds < 60
        assert script.output_of(one) == tmp_path / "a"
        assert script.output_of(script.with_output(other, tmp_path / "c")) == tmp_path / "c"
        assert script.with_output(one, tmp_path / "c")[2:] == ["--output-dir", str(tmp_path / "c")]

    def test_a_command_that_fails_is_named(self, script: Any, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="ended with status 3: for this reason"):
            script.run_lines("python -c 'import sys; print(\"for this reason\", file=sys.stderr); sys.exit(3)'", tmp_path)

    def test_other_weights_or_scores_after_kills_are_wrong(self, script: Any, tmp_path: Path) -> None:
        """A command that writes its steps and weights, with chance that it should not have."""
        program = tmp_path / "run.py"
        program.write_text(
            "import pathlib, sys, time\n"
            "out = pathlib.Path(sys.argv[1].partition('=')[2]); out.mkdir(exist_ok=True)\n"
            "begun = (out / 'trace.jsonl').exists()\n"
            "for i in range(20):\n"
            "    with (out / 'trace.jsonl').open('a') as f: f.write('\"kind\": \"step\"\\n')\n"
            "    time.sleep(0.02)\n"
            "time.sleep(0.5)\n"
            "(out / 'model.safetensors').write_text(sys.argv[2] if begun else '')\n"
            "(out / 'results.json').write_text('{}')\n"
        )
        for chance, wrong in (("", []), ("other", ["killed and resumed, it has other weights"])):
            words = [str(program), f"--output-dir={tmp_path / 'first'}{chance}", chance]
            assert script.start(words).wait() == 0
            folder = tmp_path / f"checked{chance}"
            folder.mkdir()
            assert script.same_after_kills(words, folder, [], random.Random(0)) == wrong

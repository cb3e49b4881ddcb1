"""Every block of README and docs is run, in a folder with a reader's files; outputs are compared with what the pages show."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs_blocks import (
    PAGES,
    ROOT,
    RUN,
    SHOWN,
    Block,
    Server,
    blocks_of,
    commands_of,
    differences,
    outside_fences,
    readers_folder,
    run_in,
    same_line,
)

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = list(dict.fromkeys(command for block in BLOCKS if block.language == "sh" for command in commands_of(block)))
HEAVY = {
    "blink --install-completion": "changes start files of the reader's shell",
    "blink bench": "takes minutes",
    "blink calibrate": "needs a model that was trained before",
    "blink doctor --fast": "takes minutes",
    "blink export --onnx my-model": "needs a model of the reader",
    "blink kb build entity.jsonl --out my-kb --index qdrant": "needs a service",
    "blink kglm eval experiments": "needs a run",
    "blink kglm export experiments": "needs a run",
    "blink kglm sweep": "takes hours",
    "blink kglm train examples/kglm": "takes a quarter of an hour",
    "blink rank": "needs models that were trained before",
    "blink serve": "runs until it is stopped",
    "curl": "needs a server",
    "blink slurm encode": "submits jobs, or takes all cores",
    "blink slurm eval": "submits jobs, or takes all cores",
    "blink slurm link": "submits jobs, or takes all cores",
    "blink slurm train": "submits jobs, or takes all cores",
    "blink train": "takes minutes",
    "blink eval dev.jsonl --model experiments": "needs a model that was trained before",
    "blink link --file kore50": "needs a benchmark of ELEVANT",
    "blink convert links": "needs a benchmark of ELEVANT",
}
"""Commands of which only the options are read, by what they start with, and why."""
WHOLE = ("docs/training.md",)
"""Pages whose heavy commands run too, in a slow test."""
ELSEWHERE = ("make ", "python blink/", "python benchmarks/", "python scripts/", "python -m examples.cli ", "sbatch ", "bash ",
             "pip install", "pip download", "docker ", "python -m build", "python -m twine", "git tag")  # fmt: skip
"""Commands that other tests run, and those that install, publish or need Docker."""


RECIPES = ("langchain_core", "llama_index", "ray")
"""Libraries of blocks that run where `make recipes` has installed them."""


def library_of(block: Block) -> str | None:
    """The library of `RECIPES` that a block imports."""
    imported = re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE) if block.language == "python" else []
    return next((name for name in imported if name in RECIPES), None)


def is_heavy(command: str) -> bool:
    return command.startswith(tuple(HEAVY)) or "$BLINK_DATA" in command


def runnable(command: str, whole: bool = False, *, served: bool = False) -> str:
    """A line of a block as the test runs it. ``served``: a server of the page runs, whose answers must be no errors."""
    if served and command.startswith("curl -s "):
        return command.replace("curl -s ", "curl -sS --fail-with-body ", 1)
    if command.startswith(ELSEWHERE) or "| make" in command:
        return ":"
    if is_heavy(command) and not whole:
        return f"{re.split(r' [|>] ', command)[0].replace('$BLINK_DATA', 'data')} --help >/dev/null"
    return command


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language in RUN for block in blocks_of(page))])
def test_blocks_of_a_page_run(page: str, folders: Path) -> None:
    folder = readers_folder(folders / re.sub(r"\W", "-", page))
    server = Server(folder)
    try:
        for block in blocks_of(page):
            if block.language in RUN and library_of(block) is None:
                run_block(block, server)
    finally:
        server.stop()


@pytest.mark.parametrize("block", [block for block in BLOCKS if library_of(block)], ids=lambda block: library_of(block))
def test_recipes(block: Block, tmp_path: Path) -> None:
    library = str(library_of(block))
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed; make recipes installs it")
    run_block(block, Server(readers_folder(tmp_path / "reader")))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", WHOLE)
def test_heavy_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    server = Server(readers_folder(tmp_path / "reader"))
    for block in blocks_of(page):
        if block.language in RUN:
            run_block(block, server, whole=True)


def run_block(block: Block, server: Server, whole: bool = False) -> None:
    """Run a block as a reader would; what it serves stays for the blocks after it."""
    if block.language == "sh":
        printed = "".join(run_commands(block, server, whole))
    else:
        done = run_in(server.folder, [sys.executable, "-c", server.moved(block.text)])
        assert done.returncode == 0, f"{block}: {done.stdout}\n{done.stderr}"
        assert done.stdout, f"{block} prints nothing"
        printed = done.stdout
    if block.output is not None:
        assert differences(block.output, printed) == [], f"{block} prints {printed}"


def run_commands(block: Block, server: Server, whole: bool) -> Iterator[str]:
    """Run the lines of a block, up to each `blink serve` together, and yield what they print."""
    script: list[str] = []
    in_docker = any(command.startswith("docker ") for command in commands_of(block))
    for command in [*commands_of(block), ""]:
        if in_docker and command.startswith("curl "):
            continue  # asks the container
        serves = command.startswith("blink serve")
        if serves or not command:
            done = run_in(
                server.folder, ["bash", "-c", "\n".join(["set -eu -o pipefail", *script])], timeout_s=1700 if whole else 280
            )
            assert done.returncode == 0, f"{block}: {done.stdout}\n{done.stderr}"
            yield done.stdout
            script = []
        if serves:
            server.start(command)
        else:
            script.append(server.moved(runnable(command, whole, served=server.process is not None)))


def test_every_block_has_a_language_that_the_tests_know() -> None:
    assert [f"{block} {block.language!r}" for block in BLOCKS if block.language not in (*RUN, *SHOWN)] == []


def test_no_block_hides_from_the_tests() -> None:
    """Outputs follow what prints them, commands are in blocks of shell, and code is in fences."""
    stray = [str(block) for block in BLOCKS if block.language == "output"]
    typed = re.compile(r"^(\$ )?(blink|python|pip|make|docker|curl|import blink|from blink)\b", re.MULTILINE)
    stray += [str(block) for block in BLOCKS if block.language in ("text", "csv") and typed.search(block.text)]
    code = re.compile(r"^(?: {4,}|\t)(blink|import|from|pip|>>>) ", re.MULTILINE)
    stray += [page for page in PAGES if code.search(outside_fences(page))]
    stray += [page for page in PAGES if "~~~" in outside_fences(page) or "```" in outside_fences(page)]
    assert stray == []


def test_blocks_of_json_are_json() -> None:
    for block in BLOCKS:
        if block.language == "json":
            try:
                json.loads(block.text)
            except ValueError:
                assert [json.loads(line) for line in block.text.splitlines()], str(block)


def test_every_heavy_command_is_there() -> None:
    assert [prefix for prefix in HEAVY if not any(command.startswith(prefix) for command in COMMANDS)] == []


def test_outputs_are_compared_by_line_and_number() -> None:
    printed = "a 0.501\nb\nc\n"
    assert differences("a 0.50\nb\nc\n", printed) == []
    assert differences("a 0.50\n...\n", printed) == []
    assert differences("...\nc\n", printed) == []
    assert differences("a 0.60\nb\nc", printed)
    assert differences("a 0.50\nb\n", printed)
    assert differences("a 0.50\nc\n", printed)
    assert same_line("x ... z", "x y z")
    assert not same_line("x 1", "x 2")


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert README.index("make demo") < 40


def run_here(command: list[str], typed: str = "") -> subprocess.CompletedProcess[str]:
    return run_in(ROOT, command, typed)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python blink/")])
def test_the_original_script(command: str) -> None:
    done = run_here([sys.executable, *shlex.split(command)[1:]], "Where is Paris?\n")
    if "--biencoder_model" not in command:
        assert done.returncode == 0, done.stderr
        assert "Q90" in done.stdout
    else:  # its files are not here: the first that lacks is named, with the command that gets it
        assert done.returncode != 0
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "download_models.sh" in done.stderr


SCRIPTS = sorted({shlex.split(c)[1] for c in COMMANDS if c.startswith(("python benchmarks/", "python scripts/"))})


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(script: str) -> None:
    """They need data sets or take long: that they start, and have a help."""
    done = run_here([sys.executable, script, "--help"])
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python -m examples.cli ")])
def test_the_tiny_example(command: str) -> None:
    """Up to the reading of options; tests/examples runs the whole."""
    done = run_here([sys.executable, *shlex.split(command)[1:], "--help"])
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(("sbatch ", "bash "))])
def test_scripts_of_the_original(command: str) -> None:
    done = run_here(["env", "BLINK_DRY_RUN=1", "bash", *shlex.split(command)[1:]])
    assert done.returncode == 0, done.stderr
    assert "writes " in done.stdout
    assert "blink" in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if "| make -s demo" in c])
def test_demo_through_a_pipe(command: str) -> None:
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("the environment of `make demo` is not made")
    done = run_here(["bash", "-c", command])
    assert done.returncode == 0, done.stderr
    assert '"kb_id": "Q254"' in done.stdout


def test_installs_name_extras_that_there_are() -> None:
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = re.findall(r"^(\w+) = \[", section, re.MULTILINE)
    named = {
        extra
        for page in PAGES
        for names in re.findall(r"blink-linker\[([\w,-]+)\]", (ROOT / page).read_text(encoding="utf-8"))
        for extra in names.split(",")
    }
    assert named - set(extras) == set()

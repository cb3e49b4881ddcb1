"""Every command of README and docs is run: the light ones for real, the heavy ones up to the parsing of their options."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
BLOCKS = [block for page in PAGES.values() for block in re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)]
EXAMPLES = [block for language, block in BLOCKS if language == "python"]
COMMANDS = list(
    dict.fromkeys(
        line.split("  #")[0].strip()
        for language, block in BLOCKS
        if language == "sh"
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    )
)
HEAVY = (
    "blink train", "blink link --file corpus", "blink rank", "blink calibrate", "blink label", "blink compare", "blink shrink",
    "blink slurm", "blink export", "blink doctor --fast", "blink bench",
    "blink kb build entity", "blink kb build $", "blink kglm", "blink eval $", "blink eval dev.jsonl", "blink eval --preds",
    'blink link "Java is an island of Indonesia." --kb my-kb --prior',
)  # fmt: skip
"""They take minutes, or files that a reader brings: only their options are read."""


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLINK_BACKEND")} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False, **options)  # type: ignore[call-overload, no-any-return]


def blink(arguments: str) -> list[str]:
    return [sys.executable, "-m", "blink.apps.cli", *shlex.split(arguments)]


def test_the_two_commands_come_first() -> None:
    assert [c.split("  ")[0] for c in COMMANDS[:2]] == ["make demo", "make test"]
    assert README.index("make demo") < 40


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("blink ")])
def test_blink_commands(command: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    arguments = command.removeprefix("blink ").replace("my-kb", str(tmp_path_factory.getbasetemp() / "readme-kb"))
    done = run(blink(arguments + " --help" if command.startswith(HEAVY) else arguments), input="Rome\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python blink/")])
def test_the_original_script(command: str) -> None:
    done = run([sys.executable, *shlex.split(command)[1:]], input="Where is Paris?\n")
    if "--biencoder_model" not in command:
        assert done.returncode == 0, done.stderr
        assert "Q90" in done.stdout
    else:  # its files are not here: the first that lacks is named, with the command that gets it
        assert done.returncode != 0
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "download_models.sh" in done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(("./", "python benchmarks/", "python scripts/"))])
def test_scripts(command: str) -> None:
    words = shlex.split(command)
    done = run(words if command.startswith("./") else [sys.executable, words[1], "--help"])
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python -m examples.cli ")])
def test_the_tiny_example(command: str) -> None:
    """Up to the reading of options; tests/examples runs the whole."""
    done = run([sys.executable, *shlex.split(command)[1:], "--help"])
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(("sbatch ", "bash "))])
def test_scripts_of_the_original(command: str) -> None:
    done = run(["env", "BLINK_DRY_RUN=1", "bash", *shlex.split(command)[1:]])
    assert done.returncode == 0, done.stderr
    assert "writes " in done.stdout
    assert "blink" in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if "make -s demo" in c])
def test_demo_through_a_pipe(command: str) -> None:
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("the environment of `make demo` is not made")
    done = run(["bash", "-c", command])
    assert done.returncode == 0, done.stderr
    assert '"kb_id": "Q254"' in done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=[block.strip().splitlines()[-1][:40] for block in EXAMPLES])
def test_the_python_examples(example: str) -> None:
    done = run([sys.executable, "-c", example])
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if "Michael Jordan played" in example:
        assert "0 14 Michael Jordan Michael Jordan Q41421" in done.stdout


def test_links_between_pages_lead_somewhere() -> None:
    dead = []
    for name, page in PAGES.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
            if not (folder / target).exists():
                dead.append(f"{name}: {target}")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page):
            text = ((folder / target) if target else folder / name).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}:
                dead.append(f"{name}: {target}#{anchor}")
    assert dead == []


def test_every_command_has_a_test() -> None:
    scripts = ("python -m examples.cli ", "python blink/", "python benchmarks/", "python scripts/")
    prefixes = ("blink ", *scripts, "./", "echo ", "make ", "sbatch ", "bash ")
    assert [c for c in COMMANDS if not c.startswith(prefixes)] == []

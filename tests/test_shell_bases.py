"""``:kb`` of the shell: what the knowledge base is, and another one in its place; and the word before anything is opened."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import toys
from shell_toys import Script

from blink.apps.shell.bases import Bases
from blink.apps.shell.command import LOADING
from blink.apps.shell.session import Session
from blink.errors import MissingFileError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    return toys.model(3)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model: BiEncoder) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    toys.knowledge_base(folder / "one", model, toys.rows(12))
    toys.knowledge_base(folder / "two", model, toys.rows(20))
    return folder


def session(home: Path, model: BiEncoder, *lines: str) -> Script:
    def open_(folder: str) -> Linker:
        if not (home / folder).is_dir():
            raise MissingFileError(f"{folder} is not a knowledge base")
        return Linker(model, KnowledgeBase.open(home / folder), threshold=-12.0, precision="fp32", device="cpu")

    console = Script(*lines, width=200)
    Session(open_("one"), console, bases=Bases(open_, "a model")).run()
    return console


def test_it_says_what_it_is(home: Path, model: BiEncoder) -> None:
    (out,) = session(home, model, ":kb").output
    facts = dict(line.strip().split("  ", 1) for line in out.splitlines()[:-1])
    assert facts["knowledge base"].strip() == str(home / "one")
    assert facts["entities"].strip() == "12"
    assert facts["edits"].strip() == "none since its files were made"
    assert facts["model"].strip() == "a model"
    assert facts["prior"].strip() == "none"
    assert ":kb FOLDER" in out


def test_edits_are_counted(home: Path, model: BiEncoder, tmp_path: Path) -> None:
    toys.knowledge_base(home / "edited", model, toys.rows(12))
    console = session(home, model, ":kb edited", ":add Zorblax | a moon", ":kb", ":undo", ":kb")
    assert "1 added, 0 removed, 0 changed; :undo takes the last one back" in console.output[2]
    assert "  entities        13\n" in console.output[2]


def test_another_one_takes_its_place_and_the_last_text_is_linked_again(home: Path, model: BiEncoder) -> None:
    console = session(home, model, "is Georgia 15 old?", ":kb two", ":kb", ":kb nowhere", ":kb")
    assert "linking to 20 entities of two" in console.output[1]
    assert "Georgia 15" in console.output[1]
    assert str(home / "two") in console.output[2]
    assert "nowhere is not a knowledge base" in console.output[3]
    assert console.output[4] == console.output[2]


def test_a_dialogue_without_others_says_so(home: Path, model: BiEncoder) -> None:
    linker = Linker(model, KnowledgeBase.open(home / "one"), precision="fp32", device="cpu")
    console = Script(":kb two", ":kb", width=200)
    Session(linker, console).run()
    assert "blink shell --kb FOLDER" in console.output[0]
    assert "knowledge base" in console.output[1]


def test_a_word_comes_before_anything_heavy_is_imported() -> None:
    """What is imported when the first word is out, and that nothing of the linker is."""
    code = (
        "import sys\nfrom blink.apps.shell import command\n"
        "def say(text):\n    names = ('numpy', 'torch', 'onnxruntime', 'prompt_toolkit', 'blink.linking.linker')\n"
        "    print(text, [name for name in names if name in sys.modules], flush=True)\n    raise SystemExit(0)\n"
        "command.say = say\nfrom blink.apps.cli import main\nmain(['shell'])\n"
    )
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=follower, capture_output=True, text=True, check=True, timeout=60, cwd=toys.ROOT
        )
    finally:
        os.close(leader)
        os.close(follower)
    assert done.stdout == f"{LOADING} []\n"

"""No code point of data that would change a terminal reaches one, from any command."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from blink.apps.shell.terminal import TerminalConsole
from blink.explaining.render import ESCAPE
from blink.kb.building import build_knowledge_base
from blink.terminal import TerminalCodes, TerminalStream, escaped, escaped_line
from tests import toys

ROOT = Path(__file__).resolve().parents[1]
RANGES = [
    *((0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F)),
    *((0x061C, 0x061C), (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069)),
    *((0x2028, 0x2029), (0x2060, 0x2064), (0xFEFF, 0xFEFF), (0xD800, 0xDFFF), (0xE0000, 0xE00FF)),
]
"""First and last code points that may not leave."""
HOSTILE = frozenset(chr(code) for first, last in RANGES for code in range(first, last + 1))
ALLOWED = "\n\t é 中 \u200c\u200d \U0001f469\u200d\U0001f52c \ufe0f ﷽"
TITLE = "Zor\x1b[31mblax\x07\x9b2J\u202ecba\u2066\u200f\u2028\U000e0041\x7f"
NAME = "no\x1b]0;title\x07\u202e\x9bsuch"
any_text = st.text(st.one_of(st.characters(), st.sampled_from(sorted(HOSTILE)), st.sampled_from('\r\n\t\\"')))


def written(*texts: str, bars: bool = False) -> str:
    """What a terminal gets of what is written."""
    raw = io.BytesIO()
    stream = TerminalStream(io.TextIOWrapper(raw, encoding="utf-8", newline=""), bars=bars)
    for text in texts:
        assert stream.write(text) == len(text)
    stream.flush()
    return raw.getvalue().decode("utf-8")


def hostile_in(text: str) -> set[str]:
    return HOSTILE & set(text.replace("\r\n", "\n"))


def test_each_code_point_is_an_escape_that_json_reads_back() -> None:
    for character in HOSTILE:
        assert not hostile_in(escaped(character))
        assert json.loads(f'"{escaped(character)}"') == character
    assert escaped(ALLOWED) == ALLOWED
    assert escaped_line(" a\x1b \n\t b  c\u2028") == r"a\u001b b  c"


@given(st.lists(any_text, max_size=4))
def test_a_terminal_gets_nothing_hostile(texts: list[str]) -> None:
    assert not hostile_in(written(*texts))
    assert not hostile_in("".join(map(escaped_line, texts)))


@given(st.recursive(any_text, lambda values: st.dictionaries(any_text, values, max_size=2) | st.lists(values, max_size=2)))
def test_json_on_a_terminal_is_the_same_json(value: object) -> None:
    assert json.loads(written(json.dumps(value, ensure_ascii=False))) == json.loads(json.dumps(value))


def test_only_our_codes_and_the_moves_of_bars_pass() -> None:
    assert written(TerminalCodes("\x1b[1mbold\x1b[0m")) == "\x1b[1mbold\x1b[0m"
    assert written("\r50% \x1b[2J\r", "\n\x1b[A", "\x1b[A!", bars=True) == "\r50% \\u001b[2J\\u000d\n\x1b[A\\u001b[A!"
    assert written("\rover", "\x1b[A") == "\\u000dover\\u001b[A"


COMMANDS = [
    ["link", TITLE, "--kb", NAME],
    ["link", "--file", NAME],
    ["link", "x", "--model", NAME],
    ["link", "x", f"--{NAME}"],
    [NAME],
    ["kb", NAME],
    ["kb", "show", "KB", "0"],
    ["kb", "show", "KB", "0", "--json"],
    ["kb", "show", "KB", TITLE],
    ["kb", "search", "KB", "zor"],
    ["kb", "search", "KB", "zor", "--json"],
    ["kb", "list", "KB"],
    ["kb", "list", "KB", "--json"],
    ["kb", "history", "KB"],
    ["kb", "history", "KB", "--json"],
    ["kb", "add", "KB", "--title", TITLE, "--id", TITLE, "--text", TITLE],
    ["kb", "remove", "KB", TITLE],
    ["kb", "undo", NAME],
    ["kb", "snapshot", "KB", NAME],
    ["kb", "rollback", "KB", NAME],
    ["kb", "check", "KB"],
    ["kb", "check", "KB", "--json"],
    ["kb", "check", "BAD"],
    ["kb", "search", "BAD", "zor"],
    ["kb", "build", NAME, "--out", "out"],
    ["kb", "build", "CATALOGUE", "--out", "KB", "--model", NAME],
    ["kb", "index", "KB", "--kind", NAME],
    ["eval", "MENTIONS", "--kb", NAME],
    ["eval", NAME],
    ["compare", NAME, NAME],
    ["train", "--train", NAME],
    ["rank", NAME],
    ["calibrate", NAME],
    ["export", NAME],
    ["label", NAME],
    ["convert", "MENTIONS", "--to", NAME],
    ["convert", NAME, "out", "--to", "doccano"],
    ["resolve", "fit", NAME],
    ["resolve", "records", NAME, "--kb", "KB"],
    ["shrink", NAME],
    ["slurm", "link", NAME, "--out", NAME, "--dry-run"],
    ["slurm", "settings", "--cluster", NAME],
    ["kglm", "train", NAME],
    ["kglm", "train", "SETTINGS", "--out", NAME],
    ["kglm", "eval", NAME],
    ["kglm", "generate", NAME, "--prompt", NAME],
]
RUN = """
import json, sys
from blink.apps.cli import cli
from blink.apps.common import guarded
for number, arguments in enumerate(json.loads(sys.argv[1])):
    try:
        status = guarded(lambda: cli.main(arguments, prog_name="blink", standalone_mode=False), "blink")
    except SystemExit as end:
        status = end.code
    print(f"== {number} {status}", flush=True)
"""


def on_a_terminal(command: list[str], folder: Path) -> Iterator[bytes]:
    """What a command writes to its terminal, on both streams."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, cwd=folder, env={**os.environ, "COLUMNS": "200", "BLINK_RETRY_WAIT_S": "0"}
    ):
        os.close(its)
        try:
            while content := os.read(ours, 1 << 16):
                yield content
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017 - the end of a terminal
    os.close(ours)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files whose contents are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    entity = {
        "title": TITLE,
        "kb_idx": f"Q1{TITLE}",
        "text": TITLE,
        "aliases": [f"zor {TITLE}"],
        "types": [TITLE],
        "url": TITLE,
    }
    catalogue = toys.write_catalogue(folder / "entity.jsonl", [entity, {"title": "Zora"}])
    for name in ("KB", "BAD"):
        build_knowledge_base(catalogue, folder / name, toys.letter_counts(), "none")
    manifest = json.loads((folder / "BAD" / "manifest.json").read_text())
    (folder / "BAD" / "manifest.json").write_text(json.dumps(manifest | {TITLE: TITLE, "format": TITLE, "index": TITLE}))
    row = {"text": "zor", "id": TITLE, "label_title": [TITLE], "mentions": [[0, 3]], "kb_id": [TITLE]}
    (folder / "mentions.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "run.yaml").write_text(f'"kind": graph\n"{NAME.encode("unicode_escape").decode()}": 1\n')
    names = {"CATALOGUE": "entity.jsonl", "MENTIONS": "mentions.jsonl", "SETTINGS": "run.yaml", "KB": "KB", "BAD": "BAD"}
    return {"": folder} | {key: folder / name for key, name in names.items()}


def test_no_command_sends_a_hostile_code_point_to_a_terminal(files: dict[str, Path]) -> None:
    commands = [[str(files.get(argument, argument)) if argument else "" for argument in command] for command in COMMANDS]
    output = b"".join(on_a_terminal([sys.executable, "-c", RUN, json.dumps(commands)], files[""])).decode("utf-8")
    statuses = re.findall(r"^== (\d+) (\d+)\r$", output, re.MULTILINE)
    assert [int(number) for number, _ in statuses] == list(range(len(COMMANDS))), output[-2000:]
    assert {status for _, status in statuses} <= {"0", "1", "2"}
    assert "Traceback" not in output
    for number, screen_text in enumerate(re.split(r"^== .*$", output, flags=re.MULTILINE)[:-1]):
        assert not hostile_in(screen_text.replace("\r\n", "\n")), (commands[number], screen_text)
    assert output.count(r"\u202e") >= len(COMMANDS)


PROGRAMS = [
    ["bash", "download_models.sh", "--only", NAME],
    ["bash", "download_models.sh", f"--{NAME}"],
    ["bash", "download_models.sh", "--list"],
    [sys.executable, "blink/main_dense_all_ents.py", f"--{NAME}", NAME],
    [sys.executable, "blink/main_dense.py", "--entity_catalogue", NAME],
    [sys.executable, "-m", "examples.cli", NAME],
    [sys.executable, "-m", "examples.cli", "ner", "run", NAME],
    [sys.executable, "-m", "blink.kglm.train_kge", f"--{NAME}", NAME],
    ["bash", "run_slurm.sh", *[NAME] * 8],
    ["bash", "run_eval_all_ents_slurm.sh", *[NAME] * 9],
]
"""Programs besides ``blink``."""


@pytest.mark.parametrize("command", PROGRAMS, ids=lambda command: " ".join(command[-3:])[:30].split("\x1b")[0])
def test_no_other_program_sends_one_either(command: list[str], tmp_path: Path) -> None:
    if command[1] == "download_models.sh":
        for name in (
            "download_models.sh",
            "blink/__init__.py",
            "blink/terminal.py",
            "blink/stopping.py",
            "blink/apps/__init__.py",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
        for name in ("blink/downloads", "blink/apps/download"):
            shutil.copytree(ROOT / name, tmp_path / name)
        files = [{"name": NAME, "path": NAME, "target": NAME, "groups": [NAME], "purpose": TITLE}]
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "MANIFEST.json").write_text(json.dumps({"base_url": "http://127.0.0.1:9", "files": files}))
    folder = tmp_path if command[1] == "download_models.sh" else ROOT
    screen_text = b"".join(on_a_terminal(command, folder)).decode("utf-8").replace("\r\n", "\n")
    assert "Traceback" not in screen_text
    assert screen_text
    assert not hostile_in(re.sub(r"\r[^\n]*\x1b\[K", "", screen_text)), screen_text


def test_the_shell_shows_nothing_hostile() -> None:
    screen = io.StringIO()
    output = Vt100_Output(screen, lambda: Size(40, 100), "xterm", ColorDepth.DEPTH_24_BIT)
    with create_pipe_input() as typed, create_app_session(input=typed, output=output):
        console = TerminalConsole()
        console.show([("class:title", TITLE), ("", "\r\x9b2Jover\n"), (ESCAPE, "\x1b]8;;https://x.org\x1b\\")])
    screen_text = screen.getvalue()
    assert not (HOSTILE - {"\x1b", "\r"}) & set(screen_text)
    assert "\x1b[31m" not in screen_text
    assert "\rover" not in screen_text
    assert "\x1b]8;;https://x.org\x1b\\" in screen_text

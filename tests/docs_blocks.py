"""Fenced blocks of README and docs, and the folder in which a reader would run them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.dump_toys import item, page, texts, wikidata, wikipedia

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
RUN = ("sh", "python")
SHOWN = ("output", "json", "text", "math", "csv", "yaml", "ini", "toml", "html")
"""Languages of blocks that are not run; `output` is what the block before prints, and is compared with it."""
NUMBER = re.compile(r"(?<![\w.])-?\d*\.\d+(?![\w.])")
TOLERANCE = 0.03
"""Of scores: processors with and without bfloat16 differ by as much."""

DEFAULT_PORT = "8765"
"""Of `blink serve`."""

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>```+|~~~+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=mark) *$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``output`` is the text of the block of that language that follows it."""

    page: str
    line: int
    language: str
    text: str
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, those of outputs joined to the blocks that print them."""
    source = (ROOT / page).read_text(encoding="utf-8")
    blocks: list[Block] = []
    for fence in _FENCE.finditer(source):
        line = source[: fence.start()].count("\n") + 1
        block = Block(page, line, fence["language"].strip(), fence["text"])
        if block.language == "output" and blocks and blocks[-1].language in RUN:
            last = blocks.pop()
            block = Block(page, last.line, last.language, last.text, block.text)
        blocks.append(block)
    return blocks


def outside_fences(page: str) -> str:
    """The text of a page without its fenced blocks."""
    return _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))


def commands_of(block: Block) -> list[str]:
    """The lines of a block of shell, continued ones joined, without comments."""
    text = re.sub(r"\\\n\s*", "", block.text)
    lines = (re.split(r"(?:^|\s)#\s", line)[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def differences(expected: str, printed: str) -> list[str]:
    """Lines of the expected output that are not printed, in order.

    A line ``...`` stands for any lines, ``...`` within a line for any text; decimal fractions may differ by `TOLERANCE`.
    """
    lines, missing = [line.rstrip() for line in printed.splitlines()], []
    at, anywhere = 0, False
    for wanted in (line.rstrip() for line in expected.strip("\n").splitlines()):
        if wanted == "...":
            anywhere = True
            continue
        matches = [i for i, line in enumerate(lines[at:], at) if same_line(wanted, line)]
        if not matches or (not anywhere and matches[0] != at):
            missing.append(f"{wanted!r} where there is {lines[at : at + 1]}")
        at, anywhere = (matches[0] if matches else at) + 1, False
    if not anywhere and at < len(lines) and not missing:
        missing.append(f"more is printed: {lines[at]!r}")
    return missing


def same_line(wanted: str, line: str) -> bool:
    """Whether a line is as the page shows it."""
    parts = NUMBER.split(wanted)
    pattern = r"(-?\d*\.\d+)".join(re.escape(part).replace(r"\.\.\.", ".*") for part in parts)
    match = re.fullmatch(pattern, line)
    return match is not None and all(
        abs(float(a) - float(b)) <= TOLERANCE for a, b in zip(NUMBER.findall(wanted), match.groups(), strict=True)
    )


def lines(values: list[dict[str, object]]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def readers_files() -> dict[str, bytes]:
    """Small files of the names that the pages use for what a reader brings."""
    places = ROOT / "examples" / "places"
    entities, gold = (places / "entity.jsonl").read_bytes(), (places / "labelled.jsonl").read_bytes()
    facts = [item(60, "New York City", 9, {"P31": [515]}, descriptions=texts(en="city of the United States")),
             item(90, "Paris", 8, {"P31": [515], "P17": [142]}, descriptions=texts(en="capital of France")),
             item(142, "France", 8, descriptions=texts(en="country in western Europe"))]  # fmt: skip
    articles = [page(12, "Paris", "'''Paris''' is the capital of [[France]]."),
                page(13, "France", "'''France''' is a country in Europe; its capital is [[Paris]].")]  # fmt: skip
    return {
        "entity.jsonl": entities,
        "train.jsonl": gold, "dev.jsonl": gold, "test.jsonl": gold, "labelled.jsonl": gold,
        "questions.txt": "".join(json.loads(line)["text"] + "\n" for line in gold.splitlines()).encode(),
        "corpus.jsonl.gz": gzip.compress((places / "documents.jsonl").read_bytes()),
        "document.ttl": (
            b"@prefix nif: <http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#> .\n"
            b'<http://example.org/doc> a nif:Context ; nif:isString "The Nile flows through Egypt." .\n'
        ),
        "mentions.jsonl": lines([
            {"name": "A. Merkel", "type": "person", "description": "chancellor of Germany until 2021", "source": "doc-17"},
            {"name": "Angela Merkel", "type": "person", "context": "Chancellor Angela Merkel met the president in Paris."},
        ]),
        "enwiki-latest-page_props.sql.gz": gzip.compress(
            b"INSERT INTO `page_props` VALUES (12,'wikibase_item','Q90',NULL),(13,'wikibase_item','Q142',NULL);\n"
        ),
        "latest-all.json.bz2": bz2.compress(wikidata(facts)),
        "enwiki-latest-pages-articles-multistream.xml.bz2": bz2.compress(wikipedia(articles)),
    }  # fmt: skip


def readers_folder(folder: Path) -> Path:
    """A folder as of somebody who has cloned the repository and brings files, with `blink` and `python` of these tests."""
    folder.mkdir(parents=True)
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("build", "experiments", "output", "saved_preds"):
            (folder / entry.name).symlink_to(entry)
    (folder / "experiments").mkdir()
    (folder / ".bin").mkdir()
    for name, command in (("blink", f'{sys.executable} -m blink.apps.cli "$@"'), ("python", f'{sys.executable} "$@"')):
        script = folder / ".bin" / name
        script.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    for name, content in readers_files().items():
        (folder / name).write_bytes(content)
    return folder


class Server:
    """The `blink serve` of a page, on a free port that takes the place of the one in its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.written = folder, ""
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])

    def moved(self, text: str) -> str:
        """A command or a program that calls this server."""
        return text.replace(self.written, self.port) if self.process is not None else text

    def start(self, command: str) -> None:
        """Start what a page serves, in place of what it served before, and wait until it answers.

        Raises:
            RuntimeError: it ends, or does not answer within two minutes.
        """
        self.stop()
        port = re.search(r"--port[ =](\d+)", command)
        self.written = port[1] if port else DEFAULT_PORT
        command = command.rstrip("& ").replace(self.written, self.port) + ("" if port else f" --port {self.port}")
        with (self.folder / "serve.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=environment(self.folder), stdout=log, stderr=log
            )
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"{command}: {(self.folder / 'serve.log').read_text(encoding='utf-8')}")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self.process = None


def environment(folder: Path) -> dict[str, str]:
    """Variables of a reader's commands, without those that would change what they do."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLINK_DATA")}
    # With one backend the figures are the same on all processors; PyTorch also takes five seconds to start.
    return env | {
        "OMP_NUM_THREADS": "1",
        "BLINK_BACKEND": "onnx",
        "PATH": f"{folder / '.bin'}:{env['PATH']}",
        "SHELL": "/bin/bash",
    }


def run_in(folder: Path, command: list[str], typed: str = "Rome\n", timeout_s: int = 280) -> subprocess.CompletedProcess[str]:
    """Run a command there."""
    how = {"capture_output": True, "text": True, "timeout": timeout_s, "check": False, "input": typed}
    return subprocess.run(command, cwd=folder, env=environment(folder), **how)  # type: ignore[call-overload, no-any-return]

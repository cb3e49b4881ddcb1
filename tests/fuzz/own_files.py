"""Kinds for files of a user: recognised by name and content, copied, and damaged."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.kinds import Kind


@dataclass(frozen=True)
class Guess:
    """How a path is recognised.

    Attributes:
        name: of the kind.
        fits: whether a path is of it.
        uses: as of `Kind`, ``{own}`` being the copy of the path.
        verified: as of `Kind`, below the copy.
        needs: as of `Kind`.
    """

    name: str
    fits: Callable[[Path], bool]
    uses: tuple[str, ...]
    verified: tuple[str, ...] = ()
    needs: str = "torch"


def _holds(name: str) -> Callable[[Path], bool]:
    return lambda path: (path / name).is_file()


def _first_bytes(pattern: bytes) -> Callable[[Path], bool]:
    def fits(path: Path) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as f:
            return re.search(pattern, f.read(4096)) is not None

    return fits


def _ends(*ends: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.name.endswith(ends)


TEXT = "'Paris and the Nile'"
KNOWLEDGE_BASE = ("blink kb check {own}", "blink kb verify {own}", "blink kb search {own} a")
PRIOR = "blink kglm prior --graph {own} --vectors signature --out {}/p"
GUESSES = (
    Guess("linker", _holds("linker.json"), (f"blink link {TEXT} --json --model {{own}}",), ("*",)),
    Guess("knowledge base", _holds("manifest.json"), KNOWLEDGE_BASE, ("*",)),
    Guess("run of kglm", _holds("settings.yaml"), ("blink kglm eval {own} --json",), ("best/*",), "graph"),
    Guess("model", _holds("config.json"), ("blink doctor --model {own}",), ("*",)),
    Guess("predictions", _ends(".npz"), ("blink eval --preds {own} --json -",), ("*",)),
    Guess("run file", _ends(".yaml", ".yml"), ("blink kglm train {own} --out {}/run --train.epochs 1",), (), "graph"),
    Guess("cluster", _ends(".ini"), ("blink slurm settings --settings {own}",), (), "light"),
    Guess("Wikipedia", _ends(".xml", ".xml.bz2"), ("blink kb from-wikipedia {own} --out {}/out --workers 1",), (), "light"),
    Guess("triples", _first_bytes(rb"\A[^\t\n]+\t[^\t\n]+\t[^\t\n]+\n"), (PRIOR,),
          (), "graph"),
    Guess("mentions", _first_bytes(rb'"(mentions|tokenized_text_ids|context_left|utterance)"'),
          ("blink convert {own} --to doccano --out {}/out",), (), "light"),
    Guess("catalogue", _ends(".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".bz2", ".xz", ".zst"),
          ("blink kb build {own} --out {}/kb",)),
    Guess("texts", lambda path: path.is_file(), ("blink link --file {own} --json",)),
)  # fmt: skip
"""The first that fits counts. Models and encoders that the commands need besides are those that come with BLINK."""


def kinds_of(paths: Sequence[Path]) -> dict[str, Kind]:
    """A kind for each path.

    Raises:
        SystemExit: a path is neither a file nor a folder of a kind that is known.
    """
    kinds = {}
    for path in paths:
        guess = next((guess for guess in GUESSES if guess.fits(path)), None)
        if guess is None:
            raise SystemExit(f"fuzz: {path} is none of: {', '.join(guess.name for guess in GUESSES)}")
        kinds[path.name] = _kind(path.absolute(), guess)
    return kinds


def _kind(path: Path, guess: Guess) -> Kind:
    def make(folder: Path) -> None:
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy(path, folder / path.name)

    def below(pattern: str) -> str:
        return f"{path.name}/{pattern}" if path.is_dir() else path.name

    targets = tuple(f"{path.name}{'/*' * depth}" for depth in range(4)) if path.is_dir() else (path.name,)
    uses = tuple(use.replace("{own}", shlex.quote(f"{{}}/{path.name}")) for use in guess.uses)
    return Kind(path.name, make, uses, targets, tuple(map(below, guess.verified)), guess.needs)

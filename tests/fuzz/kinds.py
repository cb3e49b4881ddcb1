"""The kinds of files: how a sample is made, which commands read it, and which of its bytes are verified."""

from __future__ import annotations

import fnmatch
import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TARGETS = ".fuzz-targets"
"""File of a sample that lists which of its files are damaged, as a pattern of `Kind.targets`."""
OTHER = "BLINK_FUZZ_OTHER"
"""Variable that is set where a sample of other content is made; see `variation`."""
Use = Callable[[Path, Path], int | None]
"""Reads files: given the folder, and the file in it that is damaged first; the exit status."""


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        name: as users give it.
        make: writes a sound sample into a folder.
        uses: ways to read it, one of which a case takes; a text has a command a line, ``{}`` being the folder, ``{file}`` the
            file that is damaged, ``{shared}`` the parent of the folders of `shared`. What they print is the result.
        targets: patterns of the files that are damaged, below the folder.
        verified: patterns of the files of which no change may go unnoticed; a change of others is by design unverified.
        unverified: patterns of files, by name, that are not verified though ``verified`` has them.
        needs: the server that runs it, by name in `SERVERS`.
        weight: how many of a number of cases it gets.
        optional: patterns of files that only grow: nobody can notice that one, or its last lines, are missing.
        environment: variables of its processes, ``{}`` being the folder.
    """

    name: str
    make: Callable[[Path], object]
    uses: tuple[str | Use, ...]
    targets: tuple[str, ...] = ("*",)
    verified: tuple[str, ...] = ()
    needs: str = "light"
    weight: float = 1.0
    unverified: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def files(self, folder: Path) -> list[Path]:
        """The files of a sample that are damaged, in order."""
        matches = {path for pattern in self.targets for path in folder.glob(pattern) if path.is_file()}
        named = {folder / name for path in matches if path.name == TARGETS for name in json.loads(path.read_text())}
        return sorted(named or matches)

    def is_verified(self, file: Path, *, is_lost: bool = False) -> bool:
        """Whether no change of a file, relative to the folder, may go unnoticed; ``is_lost``: that it, or its end, is gone."""
        if is_lost and any(file.match(pattern) for pattern in self.optional):
            return False
        is_verified = any(fnmatch.fnmatch(str(file), pattern) for pattern in self.verified)
        return is_verified and not any(file.match(pattern) for pattern in self.unverified)


SERVERS: dict[str, tuple[str, ...]] = {
    "light": (
        "blink.apps.cli",
        "blink.apps.convert",
        "blink.kb.building",
        "blink.kb.live.editing",
        "blink.data.mention_files",
        "blink.bulk.run",
        "blink.resolve.resolver",
        "blink.evaluation.run",
        "blink.evaluation.legacy",
        "blink.dumps.wikidata",
        "blink.dumps.wikipedia",
        "blink.linking.linker",
        "pyarrow.parquet",
        "yaml",
        "onnxruntime",
        "blink.cluster.settings",
        "zstandard",
        "mwparserfromhell",
        "blink.apps.kb",
        "blink.apps.compare",
    ),
    "torch": (
        "torch",
        "transformers",
        "tests.toys",
        "blink.model.original",
        "blink.linking.linker",
        "blink.apps.cli",
        "blink.training.trainer",
        "matplotlib.pyplot",
    ),
    "graph": (
        "torch",
        "pykeen.models",
        "blink.kglm.config",
        "blink.kglm.kinds",
        "blink.kglm.graph.learner",
        "blink.kglm.lm.model",
        "blink.apps.kglm",
        "blink.apps.cli",
        "sklearn.decomposition",
        "matplotlib.pyplot",
    ),
    "luke": ("torch", "transformers", "accelerate", "examples.cli", "examples.luke.loading", "blink.apps.cli"),
}
"""Servers -> the modules that they load before they fork."""


def run_use(use: str | Use, folder: Path, file: Path) -> int | None:
    """Read the files of a folder, as `Kind.uses` says; the exit status."""
    from blink.apps.common import guarded

    if callable(use):
        status = 0

        def call() -> None:
            nonlocal status
            status = use(folder, file) or 0

        return guarded(call, "blink") or status
    for line in use.strip().splitlines():
        name, *arguments = [_filled(word, folder, file) for word in shlex.split(line)]
        status = COMMANDS[name](arguments)
        if status:
            return status
    return 0


def _filled(word: str, folder: Path, file: Path) -> str:
    return word.replace("{}", str(folder)).replace("{file}", str(file)).replace("{shared}", os.environ["BLINK_FUZZ_SHARED"])


def _blink(arguments: list[str]) -> int:
    from blink.apps.cli import main

    return _exit_status(lambda: main(arguments))


def _examples(arguments: list[str]) -> int:
    from blink.apps.common import guarded
    from examples.cli import cli

    return _exit_status(lambda: guarded(lambda: cli.main(arguments, prog_name="examples", standalone_mode=False), "examples"))


def _kglm_original(name: str) -> Callable[[list[str]], int]:
    def run(arguments: list[str]) -> int:
        from blink.compat.kglm.commands import main

        return _exit_status(lambda: main(name, arguments))

    return run


def _compat(arguments: list[str]) -> int:
    from blink.compat.elq.run import main

    return _exit_status(lambda: main(arguments))


def _exit_status(command: Callable[[], object]) -> int:
    try:
        status = command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    return status if isinstance(status, int) else 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {"blink": _blink, "examples": _examples, "main_dense": _compat}
"""First word of a line -> the command."""


def variation() -> int:
    """What a sample is seeded with: 1 for another sample of the same kind, else 0."""
    return int(bool(os.environ.get(OTHER)))


def shared(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that several samples use and no case damages, made at its first use."""
    folder = Path(os.environ["BLINK_FUZZ_SHARED"]) / name
    if not folder.exists():
        new = folder.with_name(f"{name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        make(new)
        new.rename(folder)
    return folder

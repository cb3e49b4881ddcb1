"""Installs into fresh virtual environments outside the project, and what is measured of them: disk, imports, first results."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.harness import RowFailed

RUNS = 5
"""Runs of which an import's time is the median."""
TOOLS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack")
"""What an environment has before anything is installed."""
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_EXTRA_INDEX_URL",
)
"""Variables that a user of the machine has too; others, such as PYTHONPATH, would leak into what is measured."""


@dataclass(frozen=True)
class Finished:
    """A command that ended.

    Attributes:
        status: of its exit.
        output: standard output.
        errors: standard error.
        cpu_s: of the process and its children.
        wall_s: by the clock.
        peak_mib: largest resident memory of a process of it.
    """

    status: int
    output: str
    errors: str
    cpu_s: float
    wall_s: float
    peak_mib: float

    def require(self, what: str) -> Finished:
        """The same command, if it ended well.

        Raises:
            RowFailed: it did not; ``what`` names it.
        """
        if self.status:
            lines = (self.errors.strip() or self.output.strip()).splitlines() or ["no output"]
            raise RowFailed(f"{what} ended with status {self.status}: {lines[-1]}")
        return self


@dataclass(frozen=True)
class Environment:
    """A virtual environment, with a home of its own for caches.

    Attributes:
        folder: of the environment.
        cache: folder that stands for the user's cache.
    """

    folder: Path
    cache: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where it installs."""
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    def run(self, *command: str | Path, timeout_s: float = 3600) -> Finished:
        """Run a command outside the project, without its variables."""
        inherited = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment = {**inherited, "XDG_CACHE_HOME": str(self.cache), "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            began = time.monotonic()
            options: dict[str, Any] = {"cwd": self.folder, "env": environment, "stdin": subprocess.DEVNULL}
            process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err, **options)
            usage = _wait(process, began + timeout_s)
            wall_s = time.monotonic() - began
            out.seek(0)
            err.seek(0)
            cpu_s = usage.ru_utime + usage.ru_stime
            return Finished(process.returncode, out.read(), err.read(), cpu_s, wall_s, usage.ru_maxrss / 1024)

    def code(self, code: str) -> Finished:
        """Run Python code."""
        return self.run(self.python, "-c", code)

    def install(self, *requirements: str | Path) -> Finished:
        """Install with pip.

        Raises:
            RowFailed: it failed.
        """
        command = (self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
        return self.run(*command, timeout_s=7200).require(f"pip install {' '.join(map(str, requirements))}")

    def installed_mb(self) -> float:
        """Disk of what is installed beyond the tools of every environment, in MB."""
        return sum(_size(entry) for entry in self.packages.iterdir() if not _is_tool(entry.name)) / 1e6

    def distributions(self) -> int:
        """Number of packages beyond those tools."""
        return sum(entry.suffix == ".dist-info" and not _is_tool(entry.name) for entry in self.packages.iterdir())

    def import_s(self, code: str, runs: int = RUNS) -> float:
        """CPU seconds of an import beyond those of the bare interpreter: median of runs that alternate with it."""
        self.code(code).require(code)
        imports, bare = [], []
        for _ in range(runs):
            imports.append(self.code(code).require(code).cpu_s)
            bare.append(self.code("pass").cpu_s)
        return max(0.0, statistics.median(imports) - statistics.median(bare))


def _wait(process: subprocess.Popen[bytes], deadline_s: float) -> resource.struct_rusage:
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > deadline_s:
            process.kill()
        time.sleep(0.02)


def _is_tool(name: str) -> bool:
    return name.partition("-")[0].lower() in TOOLS or name in ("distutils-precedence.pth", "__pycache__")


def _size(path: Path) -> int:
    """Bytes of a file, or of the files of a folder; compiled files, which are made at an import, do not count."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir() and file.suffix != ".pyc")


@contextmanager
def fresh(python: str) -> Iterator[Environment]:
    """A new virtual environment of an interpreter, removed at the end.

    Raises:
        RowFailed: it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="blink-release-"))
    try:
        command = [python, "-m", "venv", "--clear", str(folder / "env")]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise RowFailed(f"{python} makes no virtual environment: {(made.stderr or made.stdout).strip()}")
        (folder / "cache").mkdir(exist_ok=True)
        yield Environment(folder / "env", folder / "cache")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(root: Path, out: Path, *, sdist: bool = True) -> list[Path]:
    """Build a wheel, and a source distribution, with what builds them in an environment of its own.

    Raises:
        RowFailed: it failed.
    """
    command = [sys.executable, "-m", "build", "--outdir", str(out), "--wheel", *(["--sdist"] if sdist else []), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        raise RowFailed(f"the build failed: {lines[-1]}")
    return sorted(out.iterdir())


def figures(finished: Finished) -> dict[str, Any]:
    """Time and memory of a command, rounded."""
    return {"cpu_s": round(finished.cpu_s, 2), "wall_s": round(finished.wall_s, 2), "peak_mib": round(finished.peak_mib)}


def names(lines: Sequence[str]) -> str:
    """Up to three of several names."""
    return ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")

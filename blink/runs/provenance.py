"""Provenance of a run, the first line of its trace: all that is needed to repeat the run."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

import blink
from blink.files import sample_hash, sha256
from blink.machine import processor

MAX_HASHED_BYTES = 1 << 30
"""Larger files are compared by hashes of sampled blocks."""


def provenance(files: Sequence[Path], device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Revision, versions, host, device, and hashes of the input files."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git": git_revision(Path(blink.__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "versions": {"blink": blink.__version__, **{n: _version(n) for n in ("torch", "transformers", "accelerate")}},
        "host": socket.gethostname(),
        "device": device_name(device),
        "processes": processes,
        "command": sys.argv,
        "files": {str(path): file_hash(path) for path in files},
    }


def differing_data(first: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Inputs that differ between a run and its continuation: files (by content and order, not by path) and the catalogue.

    Traces of older releases lack one or the other, which is then not compared.

    Args:
        first: the first row of the run's trace.
        about: that of the continuation.
    """
    current: dict[str, str] = about.get("files", {})
    stored: dict[str, str] = first.get("files", current)
    common = set(stored.values()) & set(current.values())
    names = [name for files in (stored, current) for name, digest in files.items() if digest not in common]
    if not names:  # the same files; the order tells their purpose
        moved = zip_longest(stored.items(), current.items(), fillvalue=("", ""))
        names = [f"{name or before} in another place" for (before, was), (name, digest) in moved if was != digest]
    catalogue = about.get("catalogue")
    other = first.get("catalogue", catalogue) != catalogue
    return [*dict.fromkeys(names), *(["the catalogue of the knowledge base"] if other else [])]


@cache
def git_revision(folder: Path) -> str | None:
    """The commit that a folder is at, with ``+changes`` where files differ from it; None outside a repository.

    Git is asked once in a process, whose code stays what it was then.
    """
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def device_name(device: torch.device) -> str:
    """Name of a device, such as ``cuda: NVIDIA H200`` or ``cpu: AMD EPYC, 2 threads``."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {processor()[0] or platform.machine()}, {torch.get_num_threads()} threads"


def file_hash(path: Path) -> str:
    """SHA-256 of a file; for a huge one, a hash of its size and of sampled blocks."""
    return sha256(path) if path.stat().st_size <= MAX_HASHED_BYTES else f"blocks:{sample_hash(path)}"


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"

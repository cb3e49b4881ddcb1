"""The machine and the versions that figures of speed belong to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from blink.machine import INSTRUCTION_SETS, processor

PACKAGES = ("torch", "onnxruntime", "tokenizers", "faiss-cpu", "numpy")
FILE_CACHE_ADVICE = getattr(os, "POSIX_FADV_DONTNEED", None)


def machine() -> dict[str, Any]:
    """Processor, its instruction sets, cores, memory and versions; what cannot be known is left out."""
    name, flags = processor()
    return {
        "processor": name or platform.processor() or platform.machine(),
        "features": [feature for feature in INSTRUCTION_SETS if feature in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "system": platform.platform(terse=True),
        "versions": {"python": platform.python_version(), **{name: v for name in PACKAGES if (v := _version(name))}},
    }


def evict(folder: Path) -> None:
    """Ask the system to drop the files of a folder from its cache, so that opening them reads the disk; where it can."""
    if FILE_CACHE_ADVICE is None:
        return
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, FILE_CACHE_ADVICE)
            finally:
                os.close(descriptor)


def peak_memory_mib() -> float:
    """Largest resident memory of this process until now, in MiB."""
    lines = [line for line in _read("/proc/self/status").splitlines() if line.startswith("VmHWM:")]
    if lines:  # of this process alone; `getrusage` begins with the memory of the process that started it
        return int(lines[0].split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

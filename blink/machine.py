"""What this machine has: cores, memory and instruction sets. The standard library only, since commands ask at their start."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which libraries limit their threads."""
SERVER_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Environment variables by which the libraries of a server leave the cores to whoever has work: after each product the threads
of OpenBLAS and OpenMP wait for the next one in a loop, which took two thirds of the processor's time of a short text."""
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""Instruction sets that multiply bfloat16."""
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
"""Instruction sets that determine which precision is fast, and how products are summed."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where a container sees the limits of its memory."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_server_threads() -> None:
    """Set what `SERVER_THREADS` says and the environment does not, before the libraries that read it are loaded."""
    for name, value in SERVER_THREADS.items():
        os.environ.setdefault(name, value)


def raise_niceness(by: int) -> None:
    """Let other threads go before the one that calls this. Threads have priorities of their own on Linux alone."""
    if by and sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + by)


def free_bytes() -> int | None:
    """Memory that is free, or can be freed at once, within the limit of a container; None where the system does not say."""
    values = _fields("/proc/meminfo").get("MemAvailable", "").split()
    known = [size for size in (int(values[0]) * 1024 if values else None, _free_in_group()) if size is not None]
    return min(known, default=None)


def _free_in_group() -> int | None:
    """What the limit of this process's control group leaves; None without a limit. Cached files can be freed at once."""
    try:
        limit = (CONTROL_GROUP / "memory.max").read_text().strip()
        used = int((CONTROL_GROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        return None if limit == "max" else max(0, int(limit) - used + int(statistics.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver reports, without importing a library for them."""
    reports = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [_fields(str(report)).get("Model", "unknown") for report in reports]


def free_disk_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())).free


def processor() -> tuple[str, frozenset[str]]:
    """Name and instruction sets of the processor; empty where the system does not say."""
    fields = _fields("/proc/cpuinfo")
    return fields.get("model name", ""), frozenset(fields.get("flags", "").split())


def multiplies_bf16() -> bool:
    """Whether the processor multiplies bfloat16, as far as the system says so."""
    return not BF16_FEATURES.isdisjoint(processor()[1])


def _fields(path: str) -> dict[str, str]:
    """The first value of each ``name: value`` line of a file; empty where it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon and fields:
            break  # further cores of the processor have the same values
        fields.setdefault(name.strip(), value.strip())
    return fields

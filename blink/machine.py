"""What this machine has: cores, memory and instruction sets. The standard library only, since commands ask at their start."""

from __future__ import annotations

import os
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which libraries limit their threads."""
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""Instruction sets that multiply bfloat16."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes() -> int | None:
    """Memory that is free, or can be freed at once; None where the system does not say."""
    values = _fields("/proc/meminfo").get("MemAvailable", "").split()
    return int(values[0]) * 1024 if values else None


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

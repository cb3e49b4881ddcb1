"""Time and memory of a run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Cost:
    """Time of a run so far, over all its continuations.

    Attributes:
        wall_seconds: elapsed time.
        cpu_seconds: CPU time of all cores.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    _since: tuple[float, float] = field(default_factory=lambda: _clocks(), repr=False)

    def row(self) -> dict[str, Any]:
        """Seconds, threads and peak memory, as stored with metrics."""
        wall, cpu = _clocks()
        return {
            "wall_seconds": round(self.wall_seconds + wall - self._since[0], 1),
            "cpu_seconds": round(self.cpu_seconds + cpu - self._since[1], 1),
            "threads": torch.get_num_threads(),
            "host_cores": os.cpu_count(),
            "peak_memory_mb": _peak_memory_mb(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Cost:
        """Continue counting from a result of `row`."""
        return cls(row.get("wall_seconds", 0.0), row.get("cpu_seconds", 0.0))


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _peak_memory_mb() -> int | None:
    """Peak resident memory of this process; None on systems that do not report it."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit

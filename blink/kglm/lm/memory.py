"""Keep freed memory in the process, because each step allocates the same blocks again."""

from __future__ import annotations

import contextlib
import ctypes

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Parameters of glibc's ``mallopt``."""
LARGEST = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Configure glibc to keep freed memory instead of returning it to the system.

    Each step allocates gradients as large as the word table. By default such blocks come from the system, which clears them
    page by page. Reusing them makes a step on a CPU a third faster.

    Returns:
        whether it was configured; other C libraries are left unchanged.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        return bool(library.mallopt(MMAP_MAX, 0)) and bool(library.mallopt(TRIM_THRESHOLD, LARGEST))
    return False

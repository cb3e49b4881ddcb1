"""FAISS, which the default install leaves out: exact search needs NumPy alone."""

from __future__ import annotations

from typing import Any

from blink.extras import is_installed, require_extra
from blink.forking import one_thread_when_forked


def require_faiss() -> Any:
    """The module ``faiss``.

    Raises:
        SettingsError: it is not installed.
    """
    module = require_extra("faiss", "indexes other than flat", "faiss")
    one_thread_when_forked("faiss", "omp_set_num_threads")
    return module


def has_faiss() -> bool:
    """Whether FAISS is installed; it is not imported."""
    return is_installed("faiss")

"""Figures of matplotlib, which keeps its table of fonts where it can be written, and says nothing of that."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.extras import require_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLE = "MPLCONFIGDIR"


def figure(**options: Any) -> Figure:
    """A figure without a window; not of pyplot, which keeps figures alive and sets a backend for the whole process.

    Args:
        options: of `matplotlib.figure.Figure`.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    _prepare()
    made: Figure = require_extra("matplotlib.figure", "pictures", "plots").Figure(**options)
    return made


@cache
def _prepare() -> None:
    """Before the first import: give matplotlib a folder for its table of fonts where it has none in the user's home."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if os.environ.get(_VARIABLE) or _has_home():
        return
    folder = tempfile.mkdtemp(prefix="blink-matplotlib-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[_VARIABLE] = folder


def _has_home() -> bool:
    """Whether matplotlib can write settings and cache into the user's folders."""
    try:
        for variable, default in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
            folder = Path(os.environ.get(variable) or Path.home() / default) / "matplotlib"
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, RuntimeError):  # the latter where nobody knows the home
        return False
    return True

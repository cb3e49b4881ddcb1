"""Libraries that only an extra of the package installs, imported where they are used."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from blink.errors import SettingsError

EXTRAS: Mapping[str, str] = {
    "torch": "torch",
    "transformers": "torch",
    "accelerate": "train",
    "faiss": "faiss",
    "onnx": "int8",
    "matplotlib": "plots",
    "pykeen": "kglm",
    "sklearn": "kglm",
    "optuna": "kglm",
    "submitit": "cluster",
    "qdrant_client": "qdrant",
    "httpx": "qdrant",
    "pyarrow": "bulk",
    "zstandard": "bulk",
    "orjson": "dumps",
    "pandas": "frames",
    "huggingface_hub": "hub",
    "spacy": "spacy",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "fastapi": "serve",
    "fastapi_offline": "serve",
    "prometheus_client": "serve",
    "pyoxigraph": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
}
"""Module of each library that the default install leaves out -> the smallest extra that installs it."""

PACKAGES: Mapping[str, str] = {
    "blink.kglm": "kglm",
    "blink.apps.kglm": "kglm",
    "blink.training": "train",
    "blink.apps.train": "train",
    "blink.apps.rank": "train",
    "blink.apps.calibrate": "train",
    "blink.runs": "train",
    "blink.serving": "serve",
}
"""Packages that need more libraries than one -> the extra that installs all of them; the first that imports is taken."""


def require_extra(module: str, purpose: str, extra: str) -> Any:
    """Import a module of a library that an extra installs.

    Args:
        module: its name, such as ``pyarrow.parquet``.
        purpose: what needs it, as the subject of a plural sentence.
        extra: that installs the library.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(f"{purpose} need an extra; install it: {install_command(extra)}") from error


@contextlib.contextmanager
def extras_for(purpose: str, extra: str | None = None) -> Iterator[None]:
    """Let a failed import of a library of an extra say what to install, inside the block.

    Args:
        purpose: what needs it, as the subject of a plural sentence.
        extra: that installs all of what is needed; None for that of the library.

    Raises:
        SettingsError: a library of an extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        needed = extra_of(error)
        if needed is None:
            raise
        raise SettingsError(f"{purpose} need an extra; install it: {install_command(extra or needed)}") from error


def missing_extra(error: ImportError) -> str | None:
    """What to install where an import failed, in one line; None where the module is of no extra."""
    extra = extra_of(error)
    if extra is None:
        return None
    return f"this needs {_library(error)}, which is not installed; install it: {install_command(extra)}"


def extra_of(error: ImportError) -> str | None:
    """The extra that installs the library whose import failed, or all that the importing package needs.

    None where the library is of no extra, or is installed and broken.
    """
    library = _library(error)
    if is_installed(library) or library not in EXTRAS:
        return None
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    importing = (extra for package, extra in PACKAGES.items() if any(f"{name}.".startswith(f"{package}.") for name in modules))
    return next(importing, EXTRAS[library])


def is_installed(library: str) -> bool:
    """Whether a library can be imported, by the name of its module; nothing is imported."""
    return bool(library) and importlib.util.find_spec(library) is not None


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'blink-linker[{extra}]'"


def _library(error: ImportError) -> str:
    return (error.name or "").partition(".")[0]

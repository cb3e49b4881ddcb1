"""Load the settings of a run: the defaults of its kind, then a run file, then flags.

``defaults/KIND.yaml`` has the value and the documentation of each setting, and the class in `blink.kglm.settings` its type and
range. `load_settings` raises an error if their names differ.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blink.errors import MissingFileError, SettingsError
from blink.kglm.settings import KINDS, Settings
from blink.runs.settings import Source, choice, from_flags, read_settings_file

DEFAULTS = Path(__file__).resolve().parent / "defaults"
DATA_VARIABLE = "BLINK_DATA"


def load_settings(kind: str, file: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Load the settings of a run. A run file overrides defaults, and flags override both.

    Args:
        kind: one of `KINDS`.
        file: run file in YAML; None for the defaults alone.
        overrides: arguments of a command line, such as ``["--train.lr", "0.1", "--model.dim=64"]``.

    Returns:
        settings with sections as attributes: ``settings.train.lr``.

    Raises:
        SettingsError: a setting is unknown (the message suggests the nearest name), or a value has the wrong type or range.
        DataError: the run file is not YAML.
        MissingFileError: the run file does not exist.
    """
    choice("the kind of a run", kind, KINDS)
    defaults = DEFAULTS / f"{kind}.yaml"
    sources = [Source(str(defaults), read_settings_file(defaults))]
    if file is not None:
        values = read_settings_file(file)
        if values.get("kind", kind) != kind:
            raise SettingsError(f"{file} is of kind {values['kind']}, not {kind}; name a run file of kind {kind}")
        sources.append(Source(str(file), values))
    return KINDS[kind].load([*sources, from_flags(overrides)])


def kind_of(file: str | Path) -> str:
    """The kind of run of a run file.

    Raises:
        SettingsError: the file has no kind, or none of `KINDS`.
    """
    kind = read_settings_file(file).get("kind")
    if kind is None:
        first, *others = KINDS
        raise SettingsError(
            f"{file} does not say its kind; start it with, for example, 'kind: {first}' (or {', '.join(others)})"
        )
    return choice(f"kind in {file}", kind, KINDS)


def extra(module: str) -> Any:
    """Import a module of the extra ``kglm``.

    Raises:
        SettingsError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error


def missing_extra(error: ModuleNotFoundError) -> SettingsError:
    """The error for a package of the extra that is not installed."""
    return SettingsError(f"this needs the package {error.name}; install it by: pip install 'blink-linker[kglm]'")


def data_path(name: str, root: str = "") -> Path:
    """Resolve the path of a file or folder of data.

    A path that exists is returned unchanged. Other relative paths are resolved in ``root``, or without one in ``$BLINK_DATA``.

    Raises:
        MissingFileError: the path does not exist.
    """
    path, base = Path(name).expanduser(), root or os.environ.get(DATA_VARIABLE)
    if path.exists():
        return path
    tried = [path] if path.is_absolute() or not base else [path, Path(base).expanduser() / path]
    if tried[-1].exists():
        return tried[-1]
    raise MissingFileError(
        f"there is no {' nor '.join(map(str, tried))}; name the folder of the data by --data DIR (as --data.root DIR) or "
        f"${DATA_VARIABLE}"
    )

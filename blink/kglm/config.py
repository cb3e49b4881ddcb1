"""Settings of runs: a class for each kind, defaults in one commented file of each, a run file and flags over them.

The defaults file is the manual and holds the values: every setting is there once, with its default and what it does. The
class says type and range. That both name the same settings, `load_settings` finds out whenever it reads them.
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
    """The defaults of a kind, with a run file and overrides laid over them.

    Args:
        kind: one of `KINDS`.
        file: YAML run file; None takes the defaults.
        overrides: words of a command line, such as ``["--train.lr", "0.1", "--model.dim=64"]``.

    Returns:
        sections as attributes: ``settings.train.lr``.

    Raises:
        SettingsError: an unknown setting (the nearest known is named), or a value of the wrong type or range.
        DataError: the run file is not YAML.
        MissingFileError: there is no such run file.
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
    """What kind of run a run file describes.

    Raises:
        SettingsError: it does not say, or names none of `KINDS`.
    """
    kind = read_settings_file(file).get("kind")
    if kind is None:
        first, *others = KINDS
        raise SettingsError(
            f"{file} does not say its kind; begin it with, for example, 'kind: {first}' (or {', '.join(others)})"
        )
    return choice(f"kind in {file}", kind, KINDS)


def extra(module: str) -> Any:
    """Import a module that comes with the extra ``kglm``.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error


def missing_extra(error: ModuleNotFoundError) -> SettingsError:
    """What to say where a package of the extra is missing."""
    return SettingsError(f"this needs the package {error.name}; install it by: pip install 'blink-linker[kglm]'")


def data_path(name: str, root: str = "") -> Path:
    """Where a file or folder of data is that settings name.

    A path that exists as seen from the working folder is taken as it is; other relative paths are looked for in ``root``, or
    where that is empty in ``$BLINK_DATA``.

    Raises:
        MissingFileError: it is in neither of them.
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

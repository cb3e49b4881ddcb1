"""Which run the original's test commands measure, on which data, and whether it is a run of the flags that they are given."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.compat.kglm.files import FOLDERS, require_location, text_settings, triple_settings
from blink.compat.kglm.flags import KGE, flags_of
from blink.errors import MissingFileError, SettingsError

if TYPE_CHECKING:
    from blink.kglm.settings import Settings

_HIDDEN = "classifier.hidden"


def run_folder(kind: str, location: str, name: str) -> Path:
    """The folder of a run below the location of its data.

    The original's pairs of commands train with ``--data_location .../data_limt_1/`` and test with ``.../``: a run that is not
    below the location is looked for below its folders.

    Raises:
        MissingFileError: there is no such run.
        SettingsError: several folders have one.
    """
    folder = FOLDERS[kind].run(location, name)
    if folder.is_dir():
        return folder
    inside = Path(location)
    others = (
        [other for entry in sorted(inside.iterdir()) if (other := FOLDERS[kind].run(str(entry), name)).is_dir()]
        if inside.is_dir()
        else []
    )
    if not others:
        raise MissingFileError(f"there is no run {folder}; train it first, or name its folder by --out")
    if len(others) > 1:
        raise SettingsError(f"{len(others)} folders have a run {name}: {', '.join(map(str, others))}; name one by --out")
    return others[0]


def require_same_settings(kind: str, values: Mapping[str, Any], stated: Collection[str], settings: Settings) -> list[str]:
    """Check that a run was trained with the flags of a test command; returns a line for each flag that changes nothing.

    Args:
        kind: ``lm``, ``kge`` or ``kge_lm``.
        values: of all flags.
        stated: flags that were given.
        settings: of the run.

    Raises:
        SettingsError: the run has another network or vocabulary than a flag says.
    """
    trained, notes = settings.flat(), list[str]()
    for flag in flags_of(kind):
        name = flag.names[0]
        if name not in stated:
            continue
        expected = dict(flag.settings(values[name])) if flag.settings is not None else {}
        if name.startswith("hidden_units_") and not expected:
            widths = list(trained[_HIDDEN])
            widths[int(name[-1]) - 1] = values[name]
            expected = {_HIDDEN: widths}
        for key, value in expected.items():
            if trained.get(key) == value:
                continue
            difference = f"--{name} is {values[name]}, and the run was trained with {key} {trained.get(key)}"
            if flag.of_network:
                raise SettingsError(f"{difference}; leave the flag out, or name another run by --exp_num or --out")
            notes.append(f"{difference}: the flag changes nothing here")
    return notes


def named_data(
    kind: str, values: Mapping[str, Any], stated: Collection[str], folder: Path, settings: Settings
) -> dict[str, Any]:
    """Settings of the data that the flags name, where it is not that of the run; empty where it is.

    A location that only holds the run's own, one folder below, names the data of the run.

    Raises:
        SettingsError, MissingFileError: a location is no folder, or does not hold what is measured.
    """
    changes: dict[str, Any] = {}
    readers = {"data_location": text_settings, "data_location_lm": text_settings, "data_location_kge": triple_settings}
    for flag, reader in readers.items():
        if flag not in stated:
            continue
        location = require_location(values[flag], flag)
        if kind == KGE and flag == "data_location_lm":
            continue  # only counted for the vocabulary, which the run has
        try:
            settings_of_location = reader(location)
        except MissingFileError:
            if Path(location).resolve() in folder.resolve().parents:
                continue
            raise
        if reader is text_settings and "data.text_test" not in settings_of_location and settings.flat().get("data.text_test"):
            raise MissingFileError(
                f"{location} holds no test text; expected test_selected.txt.gz or test.txt, name another --{flag}"
            )
        changes |= settings_of_location
    trained = settings.flat()
    return {} if all(_same(trained.get(key), value) for key, value in changes.items()) else changes


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return os.path.realpath(one) == os.path.realpath(other)
    return bool(one == other)

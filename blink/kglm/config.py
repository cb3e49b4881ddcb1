"""Settings of a run: one commented file of defaults per kind, a run file laid over it, and overrides from the command line.

The defaults file is the manual: every setting stands there once, with its default and what it does. Its values also fix the
types: a setting whose default is a number takes a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import atomic_open, require_file

DEFAULTS = Path(__file__).resolve().parent / "defaults"
KINDS = ("graph", "lm", "joint", "glove")
DATA_VARIABLE = "BLINK_DATA"
DATA_FOLDER = "../shared/data"
"""Where data is looked for that a run file names by a relative path, unless `DATA_VARIABLE` says otherwise."""


class Settings:
    """A section of settings: a frozen dataclass made from a defaults file, whose fields are values or further sections."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, in the order of the defaults file."""
        return {name: value.to_dict() if isinstance(value, Settings) else value for name, value in self._items()}

    def flat(self) -> dict[str, Any]:
        """Values by their full names, such as ``train.epochs``."""
        return dict(_flat(self.to_dict()))

    def digest(self) -> str:
        """A hash of all values: the same for the same settings."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def replace(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with others under full names, such as ``{"train.epochs": 3}``.

        Raises:
            SettingsError: a name is unknown, or a value is of the wrong type.
        """
        return _freeze("", _laid_over(self.to_dict(), _nested(changes), "the changes"))

    def _items(self) -> Iterator[tuple[str, Any]]:
        assert dataclasses.is_dataclass(self)
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


def load_settings(kind: str, file: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """The defaults of a kind, with a run file and overrides laid over them.

    Args:
        kind: one of `KINDS`.
        file: YAML run file; None takes the defaults.
        overrides: words of a command line, such as ``["--train.lr", "0.1", "--model.dim=64"]``.

    Returns:
        sections as attributes: ``settings.train.lr``.

    Raises:
        SettingsError: an unknown setting (the nearest known is named), or a value of the wrong type.
        DataError: the run file is not YAML.
        MissingFileError: there is no such run file.
    """
    choice("the kind of a run", kind, KINDS)
    values = read_yaml(require_file(DEFAULTS / f"{kind}.yaml", "install BLINK again"))
    if file is not None:
        given = read_yaml(file)
        if given.get("kind", kind) != kind:
            raise SettingsError(f"{file} is of kind {given['kind']}, not {kind}; name a run file of kind {kind}")
        values = _laid_over(values, given, str(file))
    values = _laid_over(values, _nested(dict(parse_overrides(overrides))), "the command line", text=True)
    return _freeze("", values)


def kind_of(file: str | Path) -> str:
    """What kind of run a run file describes.

    Raises:
        SettingsError: it does not say, or names none of `KINDS`.
    """
    kind = read_yaml(file).get("kind")
    if kind is None:
        raise SettingsError(
            f"{file} does not say its kind; begin it with, for example, 'kind: graph' (or {', '.join(KINDS[1:])})"
        )
    return choice(f"kind in {file}", kind, KINDS)


def read_yaml(file: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        MissingFileError, DataError: there is no such file, or it is no mapping in YAML.
    """
    yaml = extra("yaml")
    path = require_file(file, "name a run file, such as those in examples/kglm")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML ({' '.join(str(error).split())}); mend it there") from error
    if not isinstance(values, dict | None):
        raise DataError(f"{path} holds {type(values).__name__}, not settings; write lines such as 'seed: 1'")
    return values or {}


def write_yaml(path: str | Path, settings: Settings) -> None:
    """Write settings so that `load_settings` reads the same ones again, atomically."""
    with atomic_open(path) as f:
        extra("yaml").safe_dump(settings.to_dict(), f, sort_keys=False, allow_unicode=True, width=120)


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


def parse_overrides(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``--name value`` and ``--name=value`` as pairs of name and text.

    Raises:
        SettingsError: a word is no such thing, or a value is missing.
    """
    rest = iter(words)
    for word in rest:
        if not word.startswith("--") or len(word) == 2:
            raise SettingsError(f"{word!r} is no setting; write settings as --section.name value, such as --train.epochs 10")
        name, equals, value = word[2:].partition("=")
        if not equals:
            found = next(rest, None)
            if found is None:
                raise SettingsError(f"--{name} lacks a value; write --{name} VALUE")
            value = found
        yield name.replace("-", "_"), value


def choice(name: str, value: Any, allowed: Sequence[str] | Mapping[str, Any]) -> str:
    """``value``, which must be one of ``allowed``.

    Raises:
        SettingsError: it is not; the message names the nearest one.
    """
    if value in allowed:
        return str(value)
    near = difflib.get_close_matches(str(value), list(allowed), 1, 0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}{hint}")


def at_least(settings: Settings, section: str, **lowest: float) -> None:
    """Check numbers of a section against their smallest values.

    Raises:
        SettingsError: one is smaller; the message names it.
    """
    values = getattr(settings, section)
    for name, least in lowest.items():
        if getattr(values, name) < least:
            raise SettingsError(f"{section}.{name} is {getattr(values, name)}; it must be at least {least}")


def data_path(name: str, root: str = "") -> Path:
    """Where a file or folder of data lies that settings name.

    An absolute path, or one that is there as seen from the working folder, is taken as it stands; others are looked for in
    ``root``, or where that is empty in ``$BLINK_DATA``, or else in ``../shared/data``.

    Raises:
        MissingFileError: it is in none of these places.
    """
    path = Path(name).expanduser()
    base = Path(root or os.environ.get(DATA_VARIABLE) or DATA_FOLDER).expanduser()
    if path.exists():
        return path
    if not path.is_absolute() and (base / path).exists():
        return base / path
    tried = str(path) if path.is_absolute() else f"{path} nor {base / path}"
    raise MissingFileError(f"there is no {tried}; give the folder of the data by --data.root DIR or ${DATA_VARIABLE}")


# -- laying values over values -------------------------------------------------------------------------------------------


FREE = "arguments"
"""Name of sections that take any keys."""


def _laid_over(
    base: Mapping[str, Any], given: Mapping[str, Any], source: str, *, text: bool = False, prefix: str = ""
) -> dict[str, Any]:
    """``base`` with the values of ``given``; ``text``: values are words of a command line, of any type still."""
    result = dict(base)
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key not in base:
            raise SettingsError(f"{source} sets {name}, which is unknown{_nearest(name, prefix, base)}")
        if isinstance(base[key], Mapping):
            result[key] = _section_over(key, base[key], value, source, text, name)
        else:
            result[key] = _typed(value, base[key], name, source, text)
    return result


def _section_over(key: str, base: Mapping[str, Any], value: Any, source: str, text: bool, name: str) -> dict[str, Any]:
    value = _read_value(value, name, source)
    if not isinstance(value, Mapping):
        example = f"{name}.{next(iter(base), 'name')}"
        raise SettingsError(f"{source} sets {name} to {value!r}; it is a section, set what is in it, such as {example}")
    if key == FREE:
        return {**base, **{k: _read_value(v, f"{name}.{k}", source) if text else v for k, v in value.items()}}
    return _laid_over(base, value, source, text=text, prefix=f"{name}.")


def _nearest(name: str, prefix: str, base: Mapping[str, Any]) -> str:
    deeper = [full for full, _ in _flat(base, prefix)]
    near = [full for full in deeper if full.endswith(f".{name}")] or difflib.get_close_matches(name, deeper, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(f'{prefix}{key}' for key in base)}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and key != FREE:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, key = name.split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise SettingsError(f"{name} and {section} cannot both be set")
        place[key] = value
    return result


# -- types ---------------------------------------------------------------------------------------------------------------

EXAMPLES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number such as 0.001",
    str: "text",
    list: "a list such as [A, B]",
}


def _typed(value: Any, default: Any, name: str, source: str, text: bool) -> Any:
    """``value`` as the type of ``default``."""
    wanted = type(default)
    if text and wanted is not str:
        value = _read_value(value, name, source)
    if wanted is float and isinstance(value, int | str) and not isinstance(value, bool):
        value = _as_float(value)  # YAML reads 1e-3, without a dot, as text
    if wanted is list and isinstance(value, str) and all(isinstance(v, str) for v in default):
        value = [value] if value else []  # a lone name where several may stand
    if wanted is list and isinstance(value, list):
        return [_typed(v, default[0] if default else "", name, source, False) for v in value]
    if type(value) is not wanted:
        raise SettingsError(f"{source} sets {name} to {value!r}; it must be {EXAMPLES[wanted]}")
    return value


def _as_float(value: int | str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def _read_value(value: Any, name: str, source: str) -> Any:
    if not isinstance(value, str):
        return value
    yaml = extra("yaml")
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{source} sets {name} to {value!r}, which cannot be read; write numbers, words or [lists]"
        ) from error


def _freeze(name: str, values: Mapping[str, Any]) -> Settings:
    made = {k: _freeze(k, v) if isinstance(v, Mapping) and k != FREE else v for k, v in values.items()}
    return _section_class(name.title().replace("_", "") or "Run", tuple(made))(**made)


@functools.cache
def _section_class(name: str, keys: tuple[str, ...]) -> Any:
    """One class for each set of keys, so that equal settings compare as equal."""
    return dataclasses.make_dataclass(f"{name}Settings", keys, bases=(Settings,), frozen=True)

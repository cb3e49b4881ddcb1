"""Typed settings from several sources: defaults, a file, the environment and flags. Later sources override earlier ones.

A class of settings is a `pydantic` model: a field defines its type, its range (see `blink.runs.fields`) and, in its
docstring, its meaning. `Settings.load` merges the sources, validates the result once, and reports the first error in one line
with the setting, the value, its source and what is allowed. `Settings.replace` does the same for changes in code.

Pydantic validates ranges and rules across fields, and locates errors in nested values. tyro and OmegaConf validate types only;
tyro would also add a second command-line layer to click, and OmegaConf's values are untyped for a type checker. The sources of
pydantic-settings are not used, since they merge values before an error could name the source of a value, as `Source` does.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import yaml
from pydantic import ValidationError

from blink import yaml_text
from blink.errors import DataError, SettingsError
from blink.files import atomic_open, read_json, require_file, write_json
from blink.input_files import read_text
from blink.runs.fields import Section, Shape, in_words, names, shape_of, shapes

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    S = TypeVar("S", bound="Settings")


class Settings(Section):
    """All settings of a run or a command.

    Raises:
        SettingsError: a value is unknown, missing or not allowed; one line.
    """

    WRONG_TYPE: ClassVar[str] = "{name} is {value} (from {source})"
    """Template of a message about a value of a wrong type."""
    WRONG_CHOICE: ClassVar[str] = "allowed are"
    """Start of the list of allowed values in a message."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_explained(type(self), error.errors()[0], ())) from error

    @classmethod
    def load(cls: type[S], sources: Iterable[Source]) -> S:
        """Settings from sources, each of which overrides those before it.

        Raises:
            SettingsError: a setting is unknown (the message suggests the nearest one), or its value is not allowed.
        """
        sources, values = list(sources), dict[str, Any]()
        for source in sources:
            values = _merged(values, _typed(cls, source.values, source))
        try:
            return cls(**values)
        except SettingsError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise  # a rule across fields, with its own message
            raise SettingsError(_explained(cls, error.__cause__.errors()[0], sources)) from error.__cause__

    def replace(self: S, changes: Mapping[str, Any]) -> S:
        """A copy with changes by full names, such as ``{"train.epochs": 3}``.

        Raises:
            SettingsError: a name is unknown, or a value is not allowed.
        """
        return self.load([Source("", dict(self)), Source("", nested(changes))])

    def digest(self) -> str:
        """A hash of all values, equal for equal settings."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def write(self, path: str | Path) -> None:
        """Write all values atomically as YAML, or as JSON if the name ends in ``.json``."""
        if Path(path).suffix == ".json":
            return write_json(path, self.to_dict())
        with atomic_open(path) as f:
            yaml.safe_dump(self.to_dict(), f, sort_keys=False, allow_unicode=True, width=120)

    @classmethod
    def read(cls: type[S], path: str | Path) -> S:
        """Read settings from a file; fields that the file lacks have their defaults.

        Raises:
            MissingFileError, DataError: there is no such file, or it is damaged.
            SettingsError: as of `load`.
        """
        return cls.load([Source(str(path), read_settings_file(path))])


@dataclass(frozen=True)
class Source:
    """A source of settings.

    Attributes:
        name: of the file, variable or flag, for messages.
        values: nested by section and name.
        text: whether values are untyped strings, as those of a command line, a variable or an ini file.
    """

    name: str
    values: Mapping[str, Any]
    text: bool = False


def origins(sources: Iterable[Source]) -> dict[str, str]:
    """Full name -> name of the source that set it last."""
    return {name: source.name for source in sources for name in _leaves(source.values)}


# -- sources -------------------------------------------------------------------------------------------------------------


def read_settings_file(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, or in a JSON file if the name ends in ``.json``; an empty file is an empty mapping.

    Raises:
        MissingFileError, DataError: there is no such file, or it is not a mapping.
    """
    path = require_file(path, "name a run file, such as those in examples/kglm")
    if path.suffix == ".json":
        values = read_json(path)
    else:
        text = read_text(path, kind="settings")
        try:
            values = yaml_text.loads(text)
        except ValueError as error:
            raise DataError(f"{path}: {error}; correct it there") from error
    if not isinstance(values, dict | None):
        raise DataError(f"{path} holds {type(values).__name__}, not settings; write lines such as 'seed: 1'")
    return values or {}


def from_flags(arguments: Sequence[str]) -> Source:
    """The source of ``--section.name value`` and ``--section.name=value`` on a command line.

    Raises:
        SettingsError: an argument is not a flag, or a value is missing.
    """
    return Source("the command line", nested(dict(_flags(arguments))), text=True)


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--") or len(argument) == 2:
            raise SettingsError(
                f"{argument!r} is no setting; write settings as --section.name value, such as --train.epochs 10"
            )
        name, equals, value = argument[2:].partition("=")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise SettingsError(f"--{name} lacks a value; write --{name} VALUE")
            value = following
        yield name.replace("-", "_"), value


def from_environment(environment: Mapping[str, str], variables: Mapping[str, str]) -> list[Source]:
    """A source for each of ``variables`` (variable -> full name) that is set and not empty."""
    return [
        Source(variable, nested({name: environment[variable]}), text=True)
        for variable, name in variables.items()
        if environment.get(variable)
    ]


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values from values by full names.

    Raises:
        SettingsError: a name is both a value and a section.
    """
    result: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, key = name.split(".")
        inner = result
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"{name} and {section} cannot both be set")
        inner[key] = value
    return result


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _at(values: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        values = values[key] if isinstance(values, Mapping) else getattr(values, key)
    return values


# -- from text to values -------------------------------------------------------------------------------------------------


def _typed(kind: type[Section], values: Mapping[str, Any], source: Source, prefix: str = "") -> dict[str, Any]:
    """``values`` with strings converted to the types of the fields, where possible."""
    known = shapes(kind)
    named = {str(key): value for key, value in values.items()}
    return {key: _value(known[key], value, source, f"{prefix}{key}") if key in known else value for key, value in named.items()}


_YAML_LIST = re.compile(r"""\s*(?:[\["']|[\d.+-]+\Z|\Z)""")
"""A list of names in YAML, or a number, which is none; other text is one name, such as that of a file, whatever is in it."""


def _value(shape: Shape, value: Any, source: Source, name: str) -> Any:
    if isinstance(value, Section):
        value = dict(value)
    if source.text and isinstance(value, str) and shape.kind is not str:
        is_name = shape.kind is list and shape_of(shape.item).kind is str and not _YAML_LIST.match(value)
        value = value if is_name else _read_text(shape.kind, value, source, name)
    if isinstance(value, Mapping) and shape.is_section:
        return _typed(shape.kind, value, source, f"{name}.")
    if isinstance(value, Mapping) and shape.kind is dict:
        item = shape_of(shape.item)
        return {str(key): _value(item, inner, source, f"{name}.{key}") for key, inner in value.items()}
    if shape.kind is float and isinstance(value, str):
        return _number(value)  # YAML reads 1e-3, without a dot, as a string
    if shape.kind is list and isinstance(value, str):
        return [value] if value else []  # a single name for a list
    return value


def _read_text(kind: Any, text: str, source: Source, name: str) -> Any:
    if kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    try:
        return yaml_text.loads(text) if text else text
    except ValueError as error:
        raise SettingsError(
            f"{source.name} sets {name} to {text!r}, which cannot be read; write numbers, words or [lists]"
        ) from error


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


# -- messages ------------------------------------------------------------------------------------------------------------

TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number such as 0.001",
    str: "text",
    list: "a list such as [A, B]",
    dict: "settings such as {p: 1}",
}


def choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """``value``, which must be one of ``allowed``.

    Raises:
        SettingsError: it is not; the message names the nearest one.
    """
    if value in (allowed := list(allowed)):
        return str(value)
    raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}{meant(str(value), allowed)}")


def meant(word: str, known: Iterable[str], cutoff: float = 0.5, form: str = "; did you mean {}?") -> str:
    """A hint with the known word most similar to ``word``; empty if none is similar."""
    near = difflib.get_close_matches(word, list(known), 1, cutoff)
    return form.format(near[0]) if near else ""


def _explained(kind: type[Settings], error: ErrorDetails, sources: Sequence[Source]) -> str:
    """A one-line message with the error, the source of the value and what is allowed."""
    keys = [key for key in error["loc"] if isinstance(key, str)]
    name, source, value = ".".join(keys), "", error["input"]
    mistyped = error["type"].endswith("_type")
    for candidate in sources:
        try:
            raw = _at(candidate.values, keys)
        except (AttributeError, KeyError):
            continue
        source, value = candidate.name, raw if mistyped and len(keys) == len(error["loc"]) else value
    if error["type"] == "extra_forbidden":
        inner = next(_leaves(value), "").split(".") if isinstance(value, Mapping) and value else []
        keys = [*keys, *inner]
        name = " ".join(".".join(keys).split())
        return f"{f'{source} sets {name}, which' if source else name} is unknown{_nearest(kind, keys)}"
    if error["type"] == "missing":
        return f"{name} is not set; give it a value"
    if error["type"] == "value_error":
        return f"{name} {error['ctx']['error']}{f' (from {source})' if source else ''}"
    form = kind.WRONG_TYPE if mistyped else "{name} is {value} (from {source})"
    message = form.format(name=name, value=repr(value), source=source) if source else f"{name} is {value!r}"
    return f"{message}; {_allowed(kind, keys, error)}"


def _allowed(kind: type[Settings], keys: Sequence[str], error: ErrorDetails) -> str:
    shape = Shape(kind)
    for key in keys:
        shape = shapes(shape.kind)[key] if shape.is_section else shape_of(shape.item)
    if len(keys) < len(error["loc"]):  # an item of a list
        shape = shape_of(shape.item)
    if shape.is_section:
        return f"it is a section, set what is in it, such as {'.'.join(keys)}.{next(iter(shapes(shape.kind)))}"
    if shape.choices:
        return f"{kind.WRONG_CHOICE} {', '.join(shape.choices)}{meant(str(error['input']), shape.choices)}"
    if not error["type"].endswith("_type"):
        return shape.allowed
    bounds = in_words(shape.bounds)
    return f"it must be {TYPE_NAMES[shape.kind]}{bounds and (' of ' if shape.kind is int else ', ')}{bounds}"


OTHER_NAMES = {"learningrate": "lr", "dimension": "dim", "dimensions": "dim", "batch": "batchsize"}
"""What other tools call a setting -> its name here; both without ``_``."""


def _nearest(kind: type[Settings], keys: Sequence[str]) -> str:
    """A hint with known settings of the same name in another section, of that abbreviation, or of a similar name."""
    known, name, last = names(kind), ".".join(keys), keys[-1]
    leaves = {full: full.rsplit(".", 1)[-1] for full in known}
    word = _plain(last)
    near = (
        [full for full in known if _plain(leaves[full]) in (word, OTHER_NAMES.get(word))]
        or [full for full in known if _initials(leaves[full]).startswith(word) or _initials(last) == leaves[full]]
        or difflib.get_close_matches(name, known, 1, 0.6)
        or [full for full in known if leaves[full] in difflib.get_close_matches(last, leaves.values(), 1, 0.7)]
        or [full for full in known if leaves[full] in last.split("_")]
    )
    if near:
        here = name.removesuffix(last) or name  # settings of the same section come first
        return f"; did you mean {' or '.join(sorted(near, key=lambda full: not full.startswith(here))[:3])}?"
    section = [full for full in known if full.startswith(name.removesuffix(last) or "-")]
    return f"; known are {', '.join(section or kind.model_fields)}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_")) if "_" in name else ""

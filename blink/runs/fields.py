"""Types of settings: annotated field types, the base class of sections, and the type and range of a field."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Allowed:
    """Text of a message about values outside the range of a field, instead of the bounds."""

    text: str


def _one_line(value: str) -> str:
    if "\n" in value:
        raise ValueError("has several lines; give one")
    return value


MAX_SEED = (1 << 32) - 1
"""Larger seeds, combined with epochs and steps, would exceed the 64 bits of random generators."""

Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
NonNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1), Allowed("it must be a share from 0 to below 1")]
AnyShare = Annotated[float, Field(ge=0, le=1), Allowed("it must be a share from 0 to 1")]
KeptShare = Annotated[float, Field(gt=0, le=1)]
Line = Annotated[str, AfterValidator(_one_line)]


class Section(BaseModel):
    """A group of settings. Fields are values or further sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(f"{name} cannot be set; take a copy by replace")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, in the order of the fields."""
        return self.model_dump()

    def flat(self) -> dict[str, Any]:
        """Values by their full names, such as ``train.epochs``."""
        return {name: functools.reduce(getattr, name.split("."), self) for name in names(type(self))}


class Shape(NamedTuple):
    """Type and range of a field.

    Attributes:
        kind: plain type, such as ``int``, ``list`` or a `Section`; ``str`` for a choice.
        choices: allowed names of a choice.
        bounds: those of ``ge``, ``gt``, ``le``, ``lt`` and ``allow_inf_nan`` that are set.
        allowed: text of a message about values outside the bounds.
        item: type of the items of a list or dictionary.
    """

    kind: Any
    choices: tuple[str, ...] = ()
    bounds: Mapping[str, Any] = MappingProxyType({})
    allowed: str = ""
    item: Any = None

    @property
    def is_section(self) -> bool:
        """Whether the field is a section."""
        return isinstance(self.kind, type) and issubclass(self.kind, Section)


def shape_of(annotation: Any, metadata: Iterable[Any] = ()) -> Shape:
    """The shape of a type, without ``Annotated`` and ``| None``."""
    constraints = list(metadata)
    while typing.get_origin(annotation) in (typing.Union, UnionType, Annotated):
        annotation, *more = typing.get_args(annotation)
        constraints += more
    nested = ((c.metadata if isinstance(c, FieldInfo) else [c]) for c in constraints)
    constraints = [constraint for metadata_of in nested for constraint in metadata_of]
    keys = ("ge", "gt", "le", "lt", "allow_inf_nan")
    bounds = {key: getattr(c, key) for c in constraints for key in keys if getattr(c, key, None) is not None}
    allowed = next((c.text for c in constraints if isinstance(c, Allowed)), f"it must be {in_words(bounds)}")
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return Shape(str, arguments)
    return Shape(origin or annotation, (), bounds, allowed, arguments[-1] if arguments else None)


@functools.cache
def shapes(kind: type[Section]) -> dict[str, Shape]:
    """The shapes of the fields of a class."""
    return {name: shape_of(field.annotation, field.metadata) for name, field in kind.model_fields.items()}


def names(kind: type[Section], prefix: str = "") -> list[str]:
    """Full names of all settings of a class."""
    full_names: list[str] = []
    for name, shape in shapes(kind).items():
        full_names += names(shape.kind, f"{prefix}{name}.") if shape.is_section else [f"{prefix}{name}"]
    return full_names


def in_words(bounds: Mapping[str, Any]) -> str:
    """Bounds as text, such as ``from 0 to below 1``; empty without bounds."""
    low = f"at least {bounds['ge']}" if "ge" in bounds else f"above {bounds['gt']}" if "gt" in bounds else ""
    high = f"at most {bounds['le']}" if "le" in bounds else f"below {bounds['lt']}" if "lt" in bounds else ""
    if "ge" in bounds and high:
        return f"from {bounds['ge']} to {high.removeprefix('at most ')}"
    finite = "finite" if bounds.get("allow_inf_nan") is False else ""
    return " and ".join(filter(None, (low, high, finite))) if low or high else finite and "a finite number, such as -5"

"""Scatter plots of vectors, coloured by type: a PNG, and a self-contained HTML page with tooltips."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blink import drawing
from blink.cells import figure_text
from blink.errors import DataError, SettingsError
from blink.files import atomic_open
from blink.input_files import read_text
from blink.kglm.text_init.tables import ENTITY_COLUMNS, first_columns, read_entities
from blink.kglm.text_init.vectors import Space

TEMPLATE = Path(__file__).with_name("plot.html")
COLOURS = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#1f4e5f",
    "#c2185b", "#7f8c1d",
)  # fmt: skip
REST_COLOUR, UNKNOWN_COLOUR = "#8c8c8c", "#d4d4d4"
REST, UNKNOWN = "other types", "no type"


@dataclass(frozen=True)
class Points:
    """Points of a plot.

    Attributes:
        coordinates: *Shape:* (n, 2), float.
        names: tooltips.
        types: type of each point; rare types are merged into `REST`.
        colours: colour of each type, in the order of the legend.
    """

    coordinates: np.ndarray
    names: list[str]
    types: list[str]
    colours: dict[str, str]

    @classmethod
    def of(cls, coordinates: np.ndarray, names: Sequence[str], types: Sequence[str]) -> Points:
        """Colour the most frequent types; other types, and points without a type, are grey."""
        counts = Counter(t for t in types if t)
        frequent = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: len(COLOURS)]]
        joined = [t if t in frequent else REST if t else UNKNOWN for t in types]
        colours = dict(zip(frequent, COLOURS, strict=False))
        colours |= {t: c for t, c in ((REST, REST_COLOUR), (UNKNOWN, UNKNOWN_COLOUR)) if t in joined}
        return cls(np.asarray(coordinates, dtype=float), list(names), joined, colours)


def with_types(space: Space, path: str | Path) -> Space:
    """Add names and types from a table to vectors: ``entities.tsv``, a catalogue, or ``id<TAB>type[<TAB>name]`` lines.

    Raises:
        MissingFileError: the file does not exist.
        DataError: the file is malformed, or has none of the ids.
    """
    table = _types(Path(path))
    if not set(space.ids) & set(table):
        raise DataError(
            f"{path} knows none of the {len(space.ids):,} ids, such as {space.ids[0]!r}; give a table with the same ids"
        )
    entries = [table.get(i, ("", "")) for i in space.ids]
    names = [name or current for (_, name), current in zip(entries, space.names, strict=True)]
    return replace(space, names=names, types=[kind or current for (kind, _), current in zip(entries, space.types, strict=True)])


def _types(path: Path) -> dict[str, tuple[str, str]]:
    """Id to type and name."""
    if path.suffix == ".jsonl" or set(ENTITY_COLUMNS) <= set(first_columns(path)):
        return {row.id: (row.kind, row.name) for row in read_entities(path)}
    table = {}
    for number, line in enumerate(read_text(path, "give a table of types").split("\n"), 1):
        fields = line.rstrip("\r").split("\t")
        if line.strip() and not 2 <= len(fields) <= 3:
            raise DataError(f"{path}, line {number}: {len(fields)} fields; a line is id<TAB>type, or id<TAB>type<TAB>name")
        if line.strip():
            table[fields[0]] = (fields[1], fields[2] if len(fields) == 3 else "")
    return table


def colour_groups(space: Space, colour: str) -> list[str]:
    """Group of each point: the type of an entity; of a relation type, its pair of entity types or its source.

    Raises:
        SettingsError: ``colour`` is unknown, or not available for entities.
    """
    if colour == "type":
        return space.types if space.kind == "entity" else [_pair(i) for i in space.ids]
    if colour == "resource" and space.kind == "relation":
        return [i.split("::")[0] if "::" in i else "" for i in space.ids]
    raise SettingsError(f"--by {colour} does not go with vectors of the kind {space.kind}; use --by type")


def _pair(relation_type: str) -> str:
    """The unordered pair of types in ``<resource>::<name>::<Source>:<Target>``."""
    ends = relation_type.split("::")[-1].split(":")
    return " - ".join(sorted(ends)) if "::" in relation_type and len(ends) == 2 else ""


def sample(space: Space, most: int, seed: int = 0) -> Space:
    """A random sample of at most ``most`` rows, in order."""
    if len(space.ids) <= most:
        return space
    rows = np.sort(np.random.default_rng(seed).choice(len(space.ids), most, replace=False))
    columns = [[values[i] for i in rows] for values in (space.ids, space.names, space.types, space.rows)]
    return replace(space, vectors=space.vectors[rows], ids=columns[0], names=columns[1], types=columns[2], rows=columns[3])


def draw_png(points: Points, path: str | Path, title: str) -> None:
    """Write a PNG of the points."""
    figure = drawing.figure(figsize=(10, 7.5), layout="constrained")
    axes = figure.subplots()
    types = np.array(points.types)
    for kind, colour in reversed(points.colours.items()):  # frequent types last, on top
        xy = points.coordinates[types == kind]
        axes.scatter(xy[:, 0], xy[:, 1], s=7, c=colour, linewidths=0, alpha=0.75, label=f"{figure_text(kind)} ({len(xy):,})")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=8, markerscale=2.5, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title(figure_text(title))
    axes.set_xticks([])
    axes.set_yticks([])
    with atomic_open(path, "wb") as f:
        figure.savefig(f, format="png")


def write_html(points: Points, path: str | Path, title: str) -> None:
    """Write a self-contained page of the points, with tooltips, a legend that hides types, zoom and search."""
    legend = list(points.colours)
    numbers = {kind: number for number, kind in enumerate(legend)}
    data: Mapping[str, Any] = {
        "title": title,
        "types": [{"name": kind, "colour": points.colours[kind]} for kind in legend],
        "x": [round(float(x), 4) for x in points.coordinates[:, 0]],
        "y": [round(float(y), 4) for y in points.coordinates[:, 1]],
        "type": [numbers[kind] for kind in points.types],
        "name": points.names,
    }
    # "</script>" would end the script.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    content = {"title": html.escape(title), "data": text}
    page = re.sub(r"\{\{(title|data)\}\}", lambda match: content[match[1]], TEMPLATE.read_text(encoding="utf-8"))
    with atomic_open(path) as f:
        f.write(page)

"""What the scripts that measure models on texts share: named models, rates with intervals, results of several runs.

A run measures some models, each under a name; its results replace those of the same name in STEM.json and keep the others, so
that a model of yesterday and one of today share a table.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from blink.data.prior_file import NO_PRIOR
from blink.errors import SettingsError
from blink.evaluation.saved import model_hash
from blink.files import read_json
from blink.linking.linker import Linker
from blink.linking.starter import names_starter, starter_model
from blink.runs.provenance import git_revision
from scripts.harness import ROOT, write_results

_Z = 1.959963984540054
"""97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class NamedModel:
    """A model to measure.

    Attributes:
        name: of its row.
        folder: of the model; None for the starter.
    """

    name: str
    folder: Path | None

    @property
    def path(self) -> Path:
        """The folder, also of the starter."""
        return starter_model() if self.folder is None else self.folder


@dataclass(frozen=True)
class Rate:
    """``count`` of ``total``."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The fraction; 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    def interval(self) -> tuple[float, float]:
        """The 95 % score interval of Wilson (1927); (0, 1) of nothing."""
        n = self.total
        if not n:
            return 0.0, 1.0
        middle, scale = self.value + _Z**2 / (2 * n), 1 + _Z**2 / n
        spread = _Z * math.sqrt(self.value * (1 - self.value) / n + _Z**2 / (4 * n**2))
        return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)

    def to_json(self) -> dict[str, float]:
        """With value and interval."""
        low, high = self.interval()
        rounded = {name: round(x, 4) for name, x in (("value", self.value), ("low", low), ("high", high))}
        return {"count": self.count, "total": self.total, **rounded}


def rate_cell(rate: Mapping[str, float]) -> str:
    """A stored rate as a cell of a table."""
    return f"{rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"


def count_cell(rate: Mapping[str, float]) -> str:
    """The counts of a stored rate."""
    return f"{rate['count']} of {rate['total']}"


def commands_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """What made the rows, for the end of a page."""
    revisions = (str(row["git"])[:12] + "+changes" * ("+" in str(row["git"])) for row in rows)
    lines = "\n".join(f"{shlex.join(row['command'])}  # {of}" for row, of in zip(rows, revisions, strict=True))
    return f"```\n{lines}\n```\n"


def model_rows_options(stem: str) -> Callable[[Any], Any]:
    """The options ``--model``, ``--prior`` and ``--out``; ``stem`` names the default results."""

    def decorate(command: Any) -> Any:
        for option in (
            click.option(
                "--out", default=str(ROOT / "benchmarks" / "results" / stem), metavar="STEM", help="STEM.json, STEM.md."
            ),
            click.option("--prior", metavar="FILE", help="Graph prior that is tuned for the models.  [default: none]"),
            click.option(
                "--model",
                "models",
                multiple=True,
                metavar="[NAME=]DIR",
                callback=lambda _context, _option, values: named_models(values),
                help="Model folder, under a name; may be repeated.  [default: the starter]",
            ),
        ):
            command = option(command)
        return command

    return decorate


def named_models(values: Sequence[str]) -> list[NamedModel]:
    """Models of ``[NAME=]DIR``; without any, the starter.

    Raises:
        SettingsError: a name is empty, or repeated.
    """
    models = []
    for value in values or ["starter"]:
        name, _, folder = value.rpartition("=") if "=" in value else (Path(value).name, "", value)
        if not name or not folder:
            raise SettingsError(f"--model is {value!r}; give a folder, or NAME=FOLDER")
        models.append(NamedModel(name, None if names_starter(folder) else Path(folder)))
    names = [model.name for model in models]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise SettingsError(f"two models are called {repeated!r}; name them: --model NAME=FOLDER")
    return models


def open_model(model: NamedModel, kb: Path, prior: str | None) -> Linker:
    """The linker of a model over a knowledge base; ``prior`` is the file of a graph prior."""
    return Linker.from_pretrained(model.path, kb, prior=prior or NO_PRIOR)


def measured(model: NamedModel, figures: Mapping[str, Any], command: Sequence[str]) -> dict[str, Any]:
    """A result with what it is of."""
    about = {"git": git_revision(ROOT), "model": model_hash(model.path)[:16], "command": list(command)}
    return {"name": model.name, **about, **figures}


def write_rows(stem: Path, rows: Sequence[Mapping[str, Any]], page: Callable[[Sequence[Mapping[str, Any]]], str]) -> None:
    """Write rows to STEM.json and STEM.md, with those of other names that STEM.json holds."""
    file = stem.with_name(f"{stem.name}.json")
    stored = {row["name"]: row for row in read_json(file)} if file.is_file() else {}
    merged = list({**stored, **{row["name"]: row for row in rows}}.values())
    write_results(stem, merged, page(merged))

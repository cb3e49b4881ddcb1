"""All kinds, by name: those of this package, and the artefacts of `tests.artefacts`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from tests.artefacts import ARTEFACTS, Artefact
from tests.fuzz import artefact_kinds, graph_kinds, luke_kinds, option_kinds, text_kinds, work_kinds
from tests.fuzz.kinds import TARGETS, Kind, variation
from tests.fuzz.text_kinds import write


def _artefact_kind(artefact: Artefact) -> Kind:
    def make(folder: Path) -> None:
        files: Sequence[Path] = artefact.make(folder, variation())
        write(folder / TARGETS, json.dumps([str(file.relative_to(folder)) for file in files]))

    def use(folder: Path, file: Path) -> None:
        print(repr(artefact.use(folder)))

    def verify(folder: Path, file: Path) -> None:
        print(repr(artefact.verify(folder)) if artefact.verify else "")

    name = "-".join(re.findall(r"[\w.]+", artefact.name))
    uses = (use, verify) if artefact.verify is not None else (use,)
    optional = ("resolved.jsonl",)  # without a ledger nothing was resolved
    return Kind(name, make, uses, (TARGETS,), ("*",), unverified=artefact.unverified, optional=optional, needs="torch")


ALL: dict[str, Kind] = {
    kind.name: kind for kinds in (text_kinds, artefact_kinds, graph_kinds, luke_kinds, work_kinds) for kind in kinds.KINDS
} | {kind.name: kind for kind in map(_artefact_kind, ARTEFACTS)}
MORE: dict[str, Kind] = {kind.name: kind for kind in option_kinds.KINDS}
"""Kinds that ``--wide`` adds: the cases of `ALL` by their seeds stay what they are."""

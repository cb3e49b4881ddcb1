"""The knowledge base of a shell: what it is, and how the shell links to another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blink.data.display import one_line
from blink.errors import SettingsError
from blink.explaining.render import Fragments
from blink.linking.linker import Linker


@dataclass(frozen=True)
class Bases:
    """Opens linkers over knowledge bases, with the options that the shell was started with.

    Attributes:
        open: opens the linker over a folder.
        model: name of the model, as it was given.
    """

    open: Callable[[str], Linker]
    model: str

    def switched(self, folder: str, current: Linker) -> Linker:
        """The linker over another knowledge base.

        Raises:
            BlinkError: there is none in the folder, or it belongs to another model; the current one stays.
        """
        opened = self.open(folder)
        if len(opened.catalogue) == 0:
            raise SettingsError(f"{folder} has no entities; the shell still links to {_name(current)}")
        return opened


def kb_text(linker: Linker, bases: Bases | None) -> Fragments:
    """Which knowledge base a linker has, what was edited, and what else its scores depend on."""
    fragments: Fragments = []
    for name, value in _facts(linker, bases):
        fragments += [("class:key", f"  {name:<16}"), ("", f"{one_line(value)}\n")]
    hint = ":kb FOLDER links to another one; :add, :fix and :undo edit this one"
    return [*fragments, ("class:faint", f"  {hint}\n")]


def _facts(linker: Linker, bases: Bases | None) -> Iterator[tuple[str, str]]:
    kb = linker.kb
    yield "knowledge base", _name(linker)
    yield "entities", f"{len(linker.catalogue):,}"
    changed = kb.changes
    removed = sum(entity is None for entity in changed.entities.values())
    added = changed.rows - changed.base_rows
    counts = f"{added} added, {removed} removed, {len(changed.entities) - removed - added} changed"
    yield "edits", f"{counts}; :undo takes the last one back" if changed.entities else "none since its files were made"
    if kb.manifest is not None:
        yield "index", f"{kb.manifest.index}, vectors of {kb.manifest.dim} dimensions"
    if bases is not None:
        yield "model", bases.model
    prior = linker.options.prior_file
    yield "prior", "none" if prior is None else str(prior)
    if linker.options.where:
        yield "only entities", str(linker.options.where)


def _name(linker: Linker) -> str:
    folder = linker.kb.folder
    return "in memory" if folder is None else str(folder)

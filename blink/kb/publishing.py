"""The files of a knowledge base that are published, and knowledge bases of the hub."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from blink.errors import SettingsError
from blink.hub.names import local_folder
from blink.hub.publishing import CARD_FILE, Publication, Publishable, write_publication
from blink.kb.index.qdrant_index import QDRANT
from blink.kb.live.journal import JOURNAL_FILE
from blink.kb.live.state import HISTORY_FILE
from blink.kb.manifest import CATALOGUE_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

Base = TypeVar("Base", bound="PublishableBase")


class PublishableBase(Publishable):
    """Gives `blink.kb.knowledge_base.KnowledgeBase` its `push_to_hub`, `save_pretrained` and `from_pretrained`."""

    def _publication(self) -> contextlib.AbstractContextManager[Publication]:
        return base_publication(cast("KnowledgeBase", self))

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the files of the knowledge base, with its journal of edits, into a new folder, with a card.

        Raises:
            SettingsError: the folder is not empty, or the index is in a service.
            DataError: the knowledge base is in memory alone.
        """
        with self._publication() as publication:
            write_publication(publication, folder, f"local/{Path(folder).name}")

    @classmethod
    def from_pretrained(cls: type[Base], name: str | Path, out: str | Path | None = None, **options: Any) -> Base:
        """Open a knowledge base: `KnowledgeBase.open`, also by its name on the hub, ``hf://OWNER/NAME``.

        Args:
            name: folder, or name on the hub.
            out: copy it into this new folder first. Those in the cache of the hub cannot be edited.
            **options: those of `KnowledgeBase.open`.

        Raises:
            SettingsError: ``out`` is not empty.
            BlinkError: it cannot be opened, or the hub cannot be reached.

        Example:
            >>> kb = KnowledgeBase.from_pretrained("hf://me/my-kb", out="my-kb")  # doctest: +SKIP
        """
        opened: Base = cls.open(local_folder(name), **options)  # type: ignore[attr-defined]
        if out is None:
            return opened
        opened.save_pretrained(out)
        return cast("Base", cls.open(out, **options))  # type: ignore[attr-defined]


@contextlib.contextmanager
def base_publication(kb: KnowledgeBase) -> Iterator[Publication]:
    """The files of a knowledge base.

    The offsets of the catalogue are left out: they hold for one copy of it, and are made at the first opening.

    Raises:
        SettingsError: its index is in a service.
        DataError: it is in memory alone.
    """
    root, manifest = kb.require_folder(), kb.manifest
    assert manifest is not None  # of every folder
    if manifest.index == QDRANT:
        raise SettingsError(f"the index of {root} is in a service; make one of files first: blink kb index {root} --index auto")
    names = (CATALOGUE_FILE, *manifest.samples, JOURNAL_FILE, HISTORY_FILE)
    inside = [f"{manifest.folder}/{name}" if manifest.folder else name for name in names]
    files = {name: root / name for name in (MANIFEST_FILE, *inside, CARD_FILE) if (root / name).is_file()}
    facts = {
        "entities": f"{len(kb.catalogue):,}",
        "vectors": f"{manifest.dim} dimensions, {manifest.dtype}",
        "index": manifest.index,
        "fingerprint of the model": f"`{manifest.model}`",
        "edits since the build": kb.changes.number,
    }
    yield Publication("knowledge base", files, facts)

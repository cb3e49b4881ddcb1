"""A knowledge base: a catalogue with an index over its entity vectors, opened from a folder."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from blink.data.records import Entity
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import require_file, sample_hash, sha256
from blink.hub.names import local_folder
from blink.kb.alias_table import AliasTable
from blink.kb.attribute_table import AttributeTable
from blink.kb.catalogue import Catalogue
from blink.kb.catalogue_line import entity_from
from blink.kb.filters import Filters
from blink.kb.index import KINDS, Index, open_index
from blink.kb.index.budget import DEFAULT_BACKEND, MemoryPlan, StoredVectors, require_memory
from blink.kb.index.qdrant_index import ADDRESS_FILE, QDRANT, open_stored
from blink.kb.index.selector import RowSelector
from blink.kb.live import compaction, editing, undoing
from blink.kb.live.changes import Changes, Edit, Transaction
from blink.kb.live.patched import PatchedMatrix
from blink.kb.live.state import JournalState
from blink.kb.live.view import BaseFiles, View
from blink.kb.manifest import CATALOGUE_FILE, INDEX_FILE, MANIFEST_FILE, VECTORS_FILE, Manifest, read_manifest
from blink.kb.name_index import NameIndex
from blink.kb.name_search import NamedEntity, search_names
from blink.kb.publishing import PublishableBase
from blink.kb.title_table import Rows, TitleTable
from blink.kb.vectors import DTYPES, CandidateEncoder, Encoder, load_vectors
from blink.kb.verifying import require_verified, small_files
from blink.kb.where import Where, WhereLike
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.kb.sources.records import Records


class KnowledgeBase(PublishableBase):
    """A catalogue with an index over its entity vectors.

    Attributes:
        open_encoder: opens the candidate encoder of a model by name, None for the starter's; set by `blink.linking.opening`.

    Args:
        catalogue: the entities, row = id.
        index: of the entity vectors.
        manifest: of a knowledge base that was read from a folder.
        vectors: the entity vectors, if they are available apart from the index. *Shape:* (entities, dim).
        names: entities by title and alias, if they are indexed.
        title_table: titles and ids by row, if they are stored apart from the catalogue.
        attributes: types and tags of the entities, for filters, if they are stored.

    Raises:
        MismatchError: catalogue and index differ in size.
    """

    open_encoder: ClassVar[Callable[[str | None], CandidateEncoder] | None] = None

    def __init__(
        self,
        catalogue: Catalogue,
        index: Index,
        manifest: Manifest | None = None,
        vectors: np.ndarray | None = None,
        names: NameIndex | None = None,
        title_table: TitleTable | None = None,
        attributes: AttributeTable | None = None,
    ) -> None:
        if len(catalogue) != index.size:
            raise MismatchError(
                f"{catalogue.path} has {len(catalogue)} entities, the vectors or index {index.size}; "
                "give files that were made from one catalogue"
            )
        self.manifest = manifest
        files = BaseFiles(catalogue, index, vectors, names, title_table, attributes)
        self.view = View(files, Changes.none(index.size, index.dim))
        """What is read, as one value: whoever needs several parts that belong together takes them from one view."""
        self.lock = threading.RLock()
        """Held while what was read of the journal changes."""
        self._filters = Filters()
        self._folder: Path | None = None
        self.memory: MemoryPlan | None = None
        """What it needs, where it was opened with a limit of memory."""
        self.encode: Encoder | None = None
        """Encodes the texts of edits; set by whoever knows the model."""
        self._state: JournalState | None = None
        self._manifest_stamp: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"KnowledgeBase({str(self._folder or self.catalogue.path)!r}, {len(self.catalogue):,} entities)"

    def __reduce__(self) -> tuple[Callable[[Path], KnowledgeBase], tuple[Path]]:
        """Pickle and copy by folder, which is opened again, since memory maps cannot be pickled.

        Raises:
            DataError: it was not read from a folder.
        """
        if self._folder is None:
            raise DataError("this knowledge base is in memory alone and cannot be pickled or copied; build it into a folder")
        return KnowledgeBase.open, (self._folder,)

    # -- what is read ----------------------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The entities, row = id."""
        return self.view.catalogue

    @property
    def index(self) -> Index:
        """Of the entity vectors."""
        return self.view.index

    @property
    def vectors(self) -> np.ndarray | PatchedMatrix | None:
        """The entity vectors; None if they are in the index alone. *Shape:* (entities, dim)."""
        return self.view.vectors

    @property
    def names(self) -> NameIndex | None:
        """Entities by title and alias; None if names are not indexed."""
        return self.view.names

    @property
    def folder(self) -> Path | None:
        """The folder that it was read from; None for one in memory."""
        return self._folder

    @property
    def alias_table(self) -> AliasTable | None:
        """The alias table; None if names are not indexed."""
        names = self.names
        return None if names is None else names.alias_table

    def titles(self, rows: Rows) -> list[str]:
        """Titles of rows (from 0), see `View.titles`."""
        return self.view.titles(rows)

    def kb_ids(self, rows: Rows) -> list[str | None]:
        """Ids of rows, see `View.kb_ids`."""
        return self.view.kb_ids(rows)

    def titles_and_ids(self, rows: Rows) -> list[tuple[str, str | None]]:
        """Titles and ids of rows, see `View.titles_and_ids`."""
        return self.view.titles_and_ids(rows)

    def selector(self, where: WhereLike, view: View | None = None) -> RowSelector | None:
        """The rows of the entities that fulfil a filter; None where it has no condition.

        Args:
            where: see `blink.kb.where.Where.parse`; ``"type=city|town"`` or ``{"type": ["city", "town"]}``.
            view: state of the entities; by default the current one.

        Raises:
            SettingsError: it cannot be read, no entity has a value, or the knowledge base has no table of types and tags.
        """
        conditions, view = Where.parse(where), self.view if view is None else view
        return self._filters.selector(conditions, view.base.filtered, view.changes) if conditions else None

    def search_names(self, text: str, limit: int = 20, where: WhereLike = None, *, meaning: bool = False) -> list[NamedEntity]:
        """At most ``limit`` entities by name, see `blink.kb.name_search.search_names`; with ``where`` those that fulfil it.

        Examples:
            >>> [named.entity.title for named in kb.search_names("Maria", where="type=human")]  # doctest: +SKIP
        """
        return search_names(self, text, limit, self.selector(where), meaning=meaning)

    @classmethod
    def from_records(
        cls,
        records: Records,
        model: str | None = None,
        out: str | Path | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        encoder: CandidateEncoder | None = None,
        **options: Any,
    ) -> KnowledgeBase:
        """Build a knowledge base from Python objects, and open it.

        Args:
            records: a list of mappings (``title`` or ``name``, ``text`` or ``description``, ``id``, ``aliases`` ...), of
                `Entity` objects or of titles; a mapping from titles to descriptions; a data frame of pandas. It may be empty.
            model: folder or name of a model; None for the starter.
            out: folder of the knowledge base; by default a temporary one, which is removed with the object.
            columns: key of a catalogue's line -> column that holds it, where the names do not say it.
            encoder: candidate encoder instead of that of ``model``.
            **options: those of `build_knowledge_base`.

        Raises:
            DataError: a record is no entity; the message has its number.
            BlinkError: the model cannot be opened, or an option is invalid.

        Examples:
            >>> kb = blink.KnowledgeBase.from_records([{"name": "Zorblax", "text": "A moon."}])  # doctest: +SKIP
            >>> blink.load(kb=kb)("Zorblax is small.").entities[0].title  # doctest: +SKIP
            'Zorblax'
        """
        from blink.kb.building import build_knowledge_base
        from blink.kb.sources.records import RecordRows

        if encoder is None:
            if cls.open_encoder is None:
                raise SettingsError("no model can be opened from here; import blink.KnowledgeBase, or give an encoder")
            encoder = cls.open_encoder(model)
        folder = Path(tempfile.mkdtemp(prefix="blink-kb-") if out is None else out)
        try:
            build_knowledge_base(RecordRows(records, columns), folder, encoder, allow_empty=True, **options)
            base = cls.open(folder)
        except BaseException:
            if out is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        if out is None:
            weakref.finalize(base, shutil.rmtree, folder, ignore_errors=True)
        base.encode = encoder.encode
        return base

    @classmethod
    def open(
        cls,
        folder: str | Path,
        max_ram: int | str | None = None,
        backend: str = DEFAULT_BACKEND,
        *,
        verify: bool = False,
    ) -> KnowledgeBase:
        """Open a knowledge base written by `build_knowledge_base`. Its files are memory-mapped.

        Args:
            folder: of the knowledge base.
            max_ram: memory that linking with it may take, in bytes or as a size such as ``4G``; None for no limit.
            backend: what runs the encoder, for the memory that it needs.
            verify: read all files whole and compare them with the hashes of the manifest; otherwise samples of them.

        Raises:
            MissingFileError: the folder, or a file in it, is missing.
            MismatchError: its files do not belong together; the message names the remedy.
            SettingsError: its index needs more memory.
        """
        root = local_folder(folder)
        while True:
            stamp = _stamp(root)
            try:
                return cls._open(root, stamp, max_ram, backend, verify)
            except (MissingFileError, MismatchError):
                if _stamp(root) == stamp:
                    raise  # else its files were replaced while they were opened

    @classmethod
    def _open(cls, root: Path, stamp: tuple[int, ...], max_ram: int | str | None, backend: str, verify: bool) -> KnowledgeBase:
        manifest = read_manifest(root)
        folder, memory = root / manifest.folder, None
        if max_ram is not None and manifest.index in KINDS:
            stored = StoredVectors(manifest.entities, manifest.dim, np.dtype(DTYPES[manifest.dtype]).itemsize)
            memory = require_memory(root, manifest.index, stored, max_ram, backend)
        rebuild = f"build it again: blink kb build ENTITY.jsonl --out {root}"
        if verify:
            require_verified(root, manifest)
        catalogue = Catalogue.open(folder / CATALOGUE_FILE, skip_bad=manifest.skipped > 0, verify=verify)
        if catalogue.sha256 != manifest.catalogue_sha256:
            raise MismatchError(f"{catalogue.path} was changed after its vectors were made; {rebuild}")
        paths = {folder / name: of for name, of in manifest.samples.items()}
        sampled = ((sample_hash(require_file(path, rebuild)), path, of) for path, of in paths.items())
        read_whole = () if verify else ((sha256(path), path, of) for path, of in small_files(root, manifest))
        for actual, path, expected in itertools.chain(sampled, read_whole):
            if actual != expected:
                raise MismatchError(f"{path} was not made with the rest of its folder, or is damaged; {rebuild}")
        vectors = load_vectors(folder / VECTORS_FILE)
        index = _open_index(folder, manifest.index, vectors)
        if (index.size, index.dim) != (manifest.entities, manifest.dim):
            sizes = f"{index.size} vectors of dimension {index.dim}"
            raise MismatchError(f"{folder} holds {sizes}, its manifest says {manifest.entities} of {manifest.dim}; {rebuild}")
        names = NameIndex.open(folder, manifest.entities)
        titles = TitleTable.open(folder, manifest.entities) if manifest.format >= 6 else None
        attributes = AttributeTable.open(folder) if manifest.format >= 7 else None
        base = cls(catalogue, index, manifest, vectors, names, titles, attributes)
        base._folder, base.memory, base._manifest_stamp = root.resolve(), memory, stamp
        base._state = JournalState(folder, manifest, catalogue, vectors)
        if verify:
            _ = base._state.all_entries  # which reads the history too
        base.publish()
        return base

    def require_model(self, fingerprint: str | None) -> None:
        """Check that the vectors are those of the candidate encoder with this fingerprint; None is not checked.

        Raises:
            MismatchError: they are those of another model.
        """
        if self.manifest is not None and fingerprint is not None and self.manifest.model != fingerprint:
            raise MismatchError(
                f"the vectors of {self.catalogue.path.parent} were made by another model than the one given; "
                "build the knowledge base again with it: blink kb build ENTITY.jsonl --model MODEL --out DIR"
            )

    # -- edits ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> JournalState:
        """The files together with their journal.

        Raises:
            DataError: it was not read from a folder.
        """
        self.require_folder()
        assert self._state is not None
        return self._state

    def require_folder(self) -> Path:
        """The folder that it was read from.

        Raises:
            DataError: it was not read from a folder.
        """
        if self._folder is None:
            raise DataError("this knowledge base is in memory alone and keeps no edits; build it into a folder")
        return self._folder

    @property
    def changes(self) -> Changes:
        """What its journal changes of its files, as of the last `refresh` or edit."""
        return self.view.changes

    def refresh(self) -> bool:
        """Take over what other processes have edited since; whether there was anything. Otherwise it costs a look at two files.

        Raises:
            DataError: the journal is damaged.
            MismatchError: files and journal do not belong together.
        """
        if self._state is None or self._folder is None:
            return False
        with self.lock:
            stamp = _stamp(self._folder)
            if stamp != self._manifest_stamp and stamp:  # none while a build replaces the files
                self._reopen(self._folder)
                return True
            if not self._state.refresh():
                return False
            self.publish()
            return True

    def _reopen(self, folder: Path) -> None:
        other = KnowledgeBase.open(folder)
        kept = ("encode", "memory", "lock", "_filters")
        self.__dict__ |= {name: value for name, value in vars(other).items() if name not in kept}

    def publish(self) -> None:
        """Show the current changes to all who read. What was read before stays as it was."""
        self.view = self.view.following(self.view.base, self.state.changes)

    def apply(self, kind: str, edits: Sequence[Edit], note: str = "") -> Transaction:
        """Make several edits together or not at all. They are on the disk when this returns.

        Args:
            kind: see `Transaction`.
            edits: what each row is before and after.
            note: why.

        Raises:
            DataError: an edit is wrong, or another has changed the same row.
            SettingsError: another process writes to the folder, the disk is full, or there is no encoder.
        """
        draft = editing.Draft(kind, tuple(edits), note)
        return editing.commit(self, lambda state: [draft])[0]

    def add(self, entity: Entity | Mapping[str, Any], note: str = "") -> Entity:
        """Add an entity, and return it with its row. Raises as `apply` does.

        Examples:
            >>> kb.add({"title": "Zorblax", "text": "A moon of Kepler-1649c.", "kb_idx": "X1"})  # doctest: +SKIP
        """
        return self.add_all([entity], note)[0]

    def add_all(self, entities: Sequence[Entity | Mapping[str, Any]], note: str = "") -> list[Entity]:
        """Add entities, each in a transaction of its own; all are encoded, and written to the disk, together."""
        made = editing.commit(self, editing.add(entities, note))
        return [entity_from(edit.row, dict(edit.after or {})) for transaction in made for edit in transaction.edits]

    def update(self, key: str | int, note: str = "", **changes: Any) -> Entity:
        """Change an entity, given by id or row, and return it. An empty value removes what was there. Raises as `apply` does.

        Examples:
            >>> kb.update("X1", text="The largest moon of Kepler-1649c.", aliases=["Zorb"])  # doctest: +SKIP
        """
        made = editing.commit(self, editing.update(key, changes, note))
        row = made[0].edits[0].row if made else editing.require_row(self.state, key)  # none where it is so already
        return entity_from(row, dict(self.state.line(row) or {}))

    def remove(self, key: str | int, note: str = "") -> Entity:
        """Remove an entity, given by id or row, and return it as it was. Its row stays empty. Raises as `apply` does."""
        (transaction,) = editing.commit(self, editing.remove([key], note))
        (edit,) = transaction.edits
        return entity_from(edit.row, dict(edit.before or {}))

    def undo(self, number: int | None = None, *, with_later: bool = False) -> Transaction:
        """Undo an edit, by default the last that was not undone; that of an undo makes it again. Raises as `apply` does.

        Args:
            number: of the transaction.
            with_later: undo later ones of the same entities too, rather than refuse.
        """
        return editing.commit(self, undoing.undo(number, with_later=with_later))[0]

    def snapshot(self, name: str) -> Transaction:
        """Give the current state a name, for `rollback`. Raises as `apply` does."""
        return editing.commit(self, undoing.snapshot(name))[0]

    def rollback(self, to: str | int) -> Transaction:
        """Make all entities as they were at a snapshot, or after a transaction by its number; this can be undone.

        Raises as `apply` does.
        """
        return editing.commit(self, undoing.rollback(to))[0]

    def compact(self, bars: Bars = no_bars) -> int:
        """Make the edits of the journal part of the files, see `blink.kb.live.compaction.compact`. Raises as that does."""
        return compaction.compact(self, bars)

    def history(self) -> list[Transaction]:
        """All transactions, from the first."""
        return list(self.state.transactions())

    def digest(self) -> str:
        """Hash of all entities with their rows: the same however they came to be, by edits, an undo or compaction."""
        return self.state.digest()


def _stamp(folder: Path) -> tuple[int, ...]:
    """What changes whenever the manifest does; nothing where there is none."""
    try:
        status = (folder / MANIFEST_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _open_index(folder: Path, kind: str, vectors: np.ndarray) -> Index:
    return open_stored(folder / ADDRESS_FILE) if kind == QDRANT else open_index(folder / INDEX_FILE, KINDS[kind], vectors)

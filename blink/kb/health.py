"""Whether the files of a knowledge base are whole, belong together and hold what they should."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.records import Entity
from blink.errors import BlinkError
from blink.files import locked, sample_hash, sha256
from blink.kb.alias_table import TITLE, normalise
from blink.kb.attribute_table import AttributeTable, attributes_of
from blink.kb.catalogue import Catalogue
from blink.kb.index.compared import ComparedIndex
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.checking import journal_faults
from blink.kb.live.state import JournalState
from blink.kb.manifest import CATALOGUE_FILE, VECTORS_FILE, Manifest, read_manifest, write_manifest
from blink.kb.name_index import NameIndex
from blink.kb.popularity import describe
from blink.kb.table_ranges import range_faults
from blink.kb.title_table import TitleTable
from blink.kb.vectors import DTYPES, CandidateEncoder, load_vectors
from blink.kb.verifying import file_faults, unverified_files, whole_hashes
from blink.progress import Bars, no_bars

MIN_RECALL = 0.9
"""Least share of the exact neighbours that an index must return."""
MIN_COSINE = 0.999
"""Least cosine of a stored vector and the same entity encoded again; bfloat16 costs .0001."""
_BLOCK_BYTES = 1 << 24
_ENCODED_AGAIN = 64
_COMPARED_PAIRS = 10_000
_EXAMPLES = 3
_QUERIES = 500
"""Vectors searched at a time: exact search reads the whole matrix once for each block of them."""
_METRIC = "inner product"


@dataclass(frozen=True)
class Problem:
    """A fault of a knowledge base: the check that met it, and what was found with the remedy, on one line."""

    check: str
    message: str


@dataclass
class Health:
    """The result of `check_knowledge_base`.

    Attributes:
        figures: what was counted and measured.
        notes: facts that are no fault.
        problems: all faults.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of a report."""
        problems = [vars(problem) for problem in self.problems]
        return {"healthy": not problems, "figures": self.figures, "notes": self.notes, "problems": problems}

    def to_text(self, name: str) -> str:
        """The lines of a report about the knowledge base ``name``."""
        lines = [f"{figure.replace('_', ' ')}: {value}" for figure, value in self.figures.items()]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem ({problem.check}): {problem.message}" for problem in self.problems]
        return "\n".join([*lines, f"{name}: {len(self.problems) or 'no'} problem{'s' if len(self.problems) > 1 else ''}"])


def check_knowledge_base(
    folder: str | Path, *, encoder: CandidateEncoder | None = None, sample: int = 500, seed: int = 0, bars: Bars = no_bars
) -> Health:
    """Check a knowledge base without changing it. Its files are read in blocks, in bounded memory.

    Args:
        folder: the knowledge base.
        encoder: compare its fingerprint, and some entities that it encodes, with the knowledge base.
        sample: entities whose names are looked up, and whose vectors are searched.
        seed: of the sample.
        bars: for progress.
    """
    return _Checks(Path(folder), encoder, sample, seed, bars).run()


def verify_knowledge_base(folder: str | Path, bars: Bars = no_bars) -> Health:
    """Read all files of a knowledge base: their hashes, and whether lines, vectors, tables and journal are whole.

    Nothing is searched, encoded or changed: this is the part of `check_knowledge_base` that needs neither model nor index.
    """
    return _Checks(Path(folder), None, 0, 0, bars).run(files_only=True)


def record_hashes(folder: str | Path, bars: Bars = no_bars) -> Health:
    """Write hashes of all bytes of the files into the manifest, which lacks them or was changed, if that is the only problem.

    Returns:
        the result of `verify_knowledge_base`.

    Raises:
        SettingsError: another process writes to the folder.
    """
    root = Path(folder)
    checks = _Checks(root, None, 0, 0, bars)
    health = checks.run(files_only=True)
    if checks.manifest is None or any(problem.check != "manifest" for problem in health.problems):
        return health
    with locked(root):
        manifest = read_manifest(root, changed=True)
        files = root / manifest.folder
        hashes = {name: sha256(files / name) for name in manifest.samples if name != CATALOGUE_FILE}
        samples = {**manifest.samples, CATALOGUE_FILE: sample_hash(files / CATALOGUE_FILE)}
        write_manifest(root, replace(manifest, sha256=hashes, samples=samples))
    health.problems.clear()
    health.notes = [note for note in health.notes if note != checks.unhashed]
    health.notes.append(f"the manifest holds hashes of all bytes of {len(samples):,} files now")
    return health


class _Checks:
    def __init__(self, folder: Path, encoder: CandidateEncoder | None, sample: int, seed: int, bars: Bars) -> None:
        self.root, self.folder, self.encoder, self.sample, self.bars = folder, folder, encoder, sample, bars
        self.random = np.random.default_rng(seed)
        self.health = Health()
        self.rebuild = f"build it again: blink kb build ENTITY.jsonl --out {folder}"
        self.unhashed = f"the manifest of this version holds no whole hashes; add them: blink kb verify {folder} --record"
        self.manifest: Manifest | None = None

    def run(self, *, files_only: bool = False) -> Health:
        manifest = self._guarded("manifest", lambda: read_manifest(self.folder))
        if manifest is None:
            with contextlib.suppress(BlinkError):
                manifest = read_manifest(self.folder, changed=True)
        if manifest is None:
            return self.health
        self.manifest = manifest
        self.folder = self.root / manifest.folder
        if manifest.metric != _METRIC:
            self._fault("manifest", f"the metric is {manifest.metric!r}, vectors are compared by {_METRIC}; {self.rebuild}")
        self.health.figures |= {"entities": manifest.entities, "dim": manifest.dim, "index": manifest.index}
        self._files(manifest)
        with tempfile.TemporaryDirectory() as scratch:
            catalogue = self._guarded("catalogue", lambda: self._catalogue(manifest, Path(scratch)))
            vectors = self._guarded("vectors", lambda: load_vectors(self.folder / VECTORS_FILE))
            removed = [] if catalogue is None else catalogue.removed_rows
            usable = vectors is not None and self._vectors(vectors, manifest, removed)
            self._tables(manifest)
            if catalogue is None or vectors is None or not usable:
                return self.health
            with catalogue:
                if len(catalogue) == len(vectors):
                    self._edits(vectors, catalogue, manifest)
                    if not files_only:
                        self._duplicates(vectors, catalogue)
                        self._names(catalogue, manifest)
                        self._model(vectors, catalogue, manifest)
        if not files_only:
            self._index(vectors)
        return self.health

    def _fault(self, check: str, message: str) -> None:
        self.health.problems.append(Problem(check, " ".join(message.split())))

    def _guarded(self, check: str, work: Callable[[], Any]) -> Any:
        """The result of ``work``; None if it fails, which is a problem."""
        try:
            return work()
        except (BlinkError, OSError) as error:
            self._fault(check, str(error))
            return None

    # -- files ---------------------------------------------------------------------------------------------------

    def _files(self, manifest: Manifest) -> None:
        if unverified_files(manifest):
            self.health.notes.append(self.unhashed)
        paths = (self.folder / name for name in {*whole_hashes(manifest), *manifest.samples})
        size = sum(path.stat().st_size for path in paths if path.is_file())
        with self.bars("hashing", size, "B") as progress:
            for name, fault in self._guarded("files", partial(self._file_faults, manifest, progress.advance)) or ():
                copy = "" if fault.endswith("missing") else "copy it again, or "
                self._fault("files", f"{name} {fault.removeprefix(f'{self.folder / name} ')}; {copy}{self.rebuild}")

    def _file_faults(self, manifest: Manifest, advance: Callable[[int], None]) -> list[tuple[str, str]]:
        return list(file_faults(self.root, manifest, whole=True, advance=advance))

    def _tables(self, manifest: Manifest) -> None:
        with self.bars("reading tables", None, "number") as progress:
            faults = self._guarded("tables", lambda: list(range_faults(self.folder, manifest.entities, progress.advance)))
        for fault in faults or ():
            self._fault("tables", f"{fault}; {self.rebuild}")

    def _catalogue(self, manifest: Manifest, scratch: Path) -> Catalogue:
        """Scan the catalogue anew, since a sidecar may be of another state of it."""
        path = self.folder / CATALOGUE_FILE
        with self.bars("scanning the catalogue", _megabytes(path), "MB") as progress:
            done_mb = 0

            def advance(position: int, _size: int) -> None:
                nonlocal done_mb
                progress.advance((position >> 20) - done_mb)
                done_mb = position >> 20

            catalogue = Catalogue.open(path, skip_bad=True, sidecar=scratch / "offsets", progress=advance)
        broken = catalogue.skipped + catalogue.repeated_ids
        self.health.figures |= {"broken_lines": catalogue.skipped, "repeated_ids": catalogue.repeated_ids}
        if len(catalogue) != manifest.entities:
            self._fault("catalogue", f"{path} has {len(catalogue):,} lines, the manifest {manifest.entities:,}; {self.rebuild}")
        if broken != manifest.skipped:
            rows = ", ".join(str(row + 1) for row in catalogue.bad_rows[:_EXAMPLES])
            where = f" (line {rows})" if rows else ""
            fault = f"{broken:,} broken lines or repeated ids{where}, the manifest counts {manifest.skipped:,}"
            self._fault("catalogue", f"{path} has {fault}; repair them and {self.rebuild}")
        elif broken:
            self.health.notes.append(f"{broken:,} broken lines or repeated ids, which the build skipped; they are never linked")
        return catalogue

    # -- vectors -------------------------------------------------------------------------------------------------

    def _vectors(self, vectors: np.ndarray, manifest: Manifest, removed: Sequence[int]) -> bool:
        """Shape, type and values, which are zero in ``removed`` rows; whether rows can be compared with the catalogue."""
        if vectors.shape != (manifest.entities, manifest.dim) or vectors.dtype != DTYPES.get(manifest.dtype):
            actual = f"{len(vectors):,} vectors of dimension {vectors.shape[1]} ({vectors.dtype})"
            expected = f"{manifest.entities:,} of {manifest.dim} ({manifest.dtype})"
            self._fault("vectors", f"{VECTORS_FILE} holds {actual}, the manifest says {expected}; {self.rebuild}")
        faults = {"hold NaN or infinity": _Rows(), "are zero": _Rows()}
        with self.bars("reading vectors", len(vectors), "vector") as progress:
            for start, block in blocks_of(vectors):
                finite, zero = np.isfinite(block).all(axis=1), np.logical_not(block.any(axis=1))
                zero[[row - start for row in removed if start <= row < start + len(block)]] = False
                for rows, wrong in zip(faults.values(), (~finite, finite & zero), strict=True):
                    rows.add(start, wrong)
                progress.advance(len(block))
        not_finite, zeros = faults.values()
        self.health.figures |= {"vectors_not_finite": not_finite.count, "vectors_zero": zeros.count}
        for fault, rows in faults.items():
            if rows.count:
                self._fault("vectors", f"{rows.count:,} vectors {fault}, such as {_rows(rows.examples)}; {self.rebuild}")
        return vectors.shape == (manifest.entities, manifest.dim)

    def _duplicates(self, vectors: np.ndarray, catalogue: Catalogue) -> None:
        """Equal vectors are right where entities have the same title and text, and a fault where the titles differ."""
        with self.bars("comparing vectors", len(vectors), "vector") as progress:
            pairs, n_duplicates = _equal_pairs(vectors, progress.advance)
        n_duplicates -= max(0, len(catalogue.removed_rows) - 1)  # zeros, all the same
        self.health.figures["vectors_duplicate"] = n_duplicates
        bad = set(catalogue.bad_rows)
        pairs = [pair for pair in pairs if bad.isdisjoint(pair) and (vectors[pair[0]] == vectors[pair[1]]).all()]
        pairs = [pair for pair in pairs if vectors[pair[0]].any() and np.isfinite(vectors[pair[0]]).all()]
        differ = [(a, b) for a, b in pairs if _different_names(catalogue.title(a), catalogue.title(b))]
        if differ:
            (a, b), count = differ[0], f"{len(differ):,}{'+' if n_duplicates > _COMPARED_PAIRS else ''}"
            examples = f"row {a} ({catalogue.title(a)}) and row {b} ({catalogue.title(b)})"
            self._fault(
                "vectors",
                f"{count} pairs of entities of different titles have equal vectors, such as {examples}; {self.rebuild}",
            )
        elif n_duplicates:
            example = f", such as {_rows(pairs[0])}" if pairs else ""
            self.health.notes.append(f"{n_duplicates:,} vectors equal that of an earlier entity of the same title{example}")

    def _model(self, vectors: np.ndarray, catalogue: Catalogue, manifest: Manifest) -> None:
        if self.encoder is None:
            return
        rebuild = f"name the model of the knowledge base, or {self.rebuild}"
        if self.encoder.fingerprint != manifest.model:
            self._fault("model", f"the vectors are of another model than the one given; {rebuild}")
            return
        rows = [row for row in self._sampled(len(vectors), _ENCODED_AGAIN) if not catalogue.is_bad(row)]
        self._encoded_again([catalogue[row] for row in rows], np.asarray(vectors[rows], np.float32), "model", self.rebuild)

    def _encoded_again(self, entities: Sequence[Entity], stored: np.ndarray, check: str, remedy: str) -> None:
        if self.encoder is None or not entities:
            return
        cosines = _cosines(self.encoder.encode(entities), stored)
        least = int(np.argmin(cosines))
        figure, cosine = "least_cosine_encoded_again", round(float(cosines[least]), 6)
        self.health.figures[figure] = min(cosine, self.health.figures.get(figure, cosine))
        if not cosines[least] >= MIN_COSINE:
            entity = f"row {entities[least].row} ({entities[least].title})"
            fault = f"{entity} encoded again has cosine {cosines[least]:.3f} with its vector, not 1"
            self._fault(check, f"{fault}: vectors and catalogue do not belong together; {remedy}")

    def _edits(self, vectors: np.ndarray, catalogue: Catalogue, manifest: Manifest) -> None:
        """The journal: whether its edits follow each other, and are encoded as they should be."""
        state = self._guarded("edits", lambda: JournalState(self.folder, manifest, catalogue, vectors))
        if state is None:
            return
        self.health.figures |= {"edits": len(state.entries), "edited_entities": len(list(state.changed))}
        if tail := state.journal.read().tail:
            acknowledged = f"{state.journal.path} ends with {tail:,} bytes of an edit that was never acknowledged"
            self.health.notes.append(f"{acknowledged}; the next edit removes them")
        restore = "restore the file from a copy, or undo the edit"
        for fault in self._guarded("edits", lambda: list(journal_faults(state))) or ():
            self._fault("edits", f"{fault}; {restore}")
        changes = state.changes
        rows = self._sampled(len(changes.vector_rows), _ENCODED_AGAIN)
        entities = [entity for row in changes.vector_rows[rows].tolist() if (entity := changes.entities[row]) is not None]
        self._encoded_again(entities, changes.vectors[rows], "edits", restore)

    # -- names and index -----------------------------------------------------------------------------------------

    def _names(self, catalogue: Catalogue, manifest: Manifest) -> None:
        if any(problem.check == "files" for problem in self.health.problems):
            self.health.notes.append("names were not looked up, since files are missing or damaged")
            return
        names = self._guarded("names", lambda: NameIndex.open(self.folder, manifest.entities))
        if names is None:
            return
        titles = None
        if TitleTable.is_in(self.folder):
            titles = self._guarded("names", lambda: TitleTable.open(self.folder, manifest.entities))
        attributes = None
        if manifest.format >= 7:
            attributes = self._guarded("names", lambda: AttributeTable.open(self.folder))
        wrong: dict[str, list[int]] = {}
        rows = [row for row in self._sampled(len(catalogue), self.sample) if not catalogue.is_bad(row)]
        with self.bars("looking names up", len(rows), "entity") as progress:
            for row in rows:
                try:
                    tables = list(_wrong_tables(catalogue, names, titles, attributes, row))
                except (ValueError, IndexError) as error:
                    self._fault("names", f"the names of row {row} cannot be read ({error}); {self.rebuild}")
                    return
                for table in tables:
                    wrong.setdefault(table, []).append(row)
                progress.advance()
        self.health.figures["names_looked_up"] = len(rows)
        for table, missing in wrong.items():
            fault = f"the {table} does not agree with the catalogue on {len(missing):,} of {len(rows):,} entities"
            self._fault("names", f"{fault}, such as {_rows(missing)} ({catalogue.title(missing[0])}); {self.rebuild}")

    def _index(self, vectors: np.ndarray) -> None:
        closed = any(problem.check in ("files", "names", "catalogue") for problem in self.health.problems)
        if closed or self.health.figures["vectors_not_finite"]:
            self.health.notes.append("the index was not searched, since the problems above prevent it")
            return
        base = self._guarded("index", lambda: KnowledgeBase.open(self.root))
        if base is None:
            return
        queries = np.asarray(vectors[self._sampled(len(vectors), self.sample)], np.float32)
        compared = ComparedIndex(base.view.base.index, vectors)
        with self.bars("searching the index", len(queries), "vector") as progress:
            for start in range(0, len(queries), _QUERIES):
                block = queries[start : start + _QUERIES]
                if self._guarded("index", partial(compared.search, block, 10)) is None:
                    return
                progress.advance(len(block))
        self.health.figures["index_recall_at_10_of_entities"] = compared.recall
        if compared.recall is not None and compared.recall < MIN_RECALL:
            fault = (
                f"the index returns {compared.recall:.1%} of the 10 nearest entities, at least {MIN_RECALL:.0%} are expected"
            )
            self._fault("index", f"{fault}; {self.rebuild}")

    def _sampled(self, size: int, count: int) -> list[int]:
        rows: list[int] = np.sort(self.random.choice(size, min(size, count), replace=False)).tolist()
        return rows


class _Rows:
    """The number of rows with a fault, and the first of them."""

    def __init__(self) -> None:
        self.count, self.examples = 0, list[int]()

    def add(self, start: int, wrong: np.ndarray) -> None:
        """Add the rows of a block that begins with row ``start``. ``wrong``: *shape* (rows,), bool."""
        self.count += int(wrong.sum())
        self.examples += (start + np.flatnonzero(wrong)[:_EXAMPLES]).tolist()
        del self.examples[_EXAMPLES:]


def blocks_of(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First row and rows of each block of a matrix that may be larger than memory."""
    n_rows = max(1, _BLOCK_BYTES // max(1, vectors.shape[1] * vectors.itemsize))
    for start in range(0, len(vectors), n_rows):
        yield start, np.asarray(vectors[start : start + n_rows])


def _equal_pairs(vectors: np.ndarray, advance: Callable[[int], None]) -> tuple[list[tuple[int, int]], int]:
    """Pairs of rows with equal 64-bit hashes of their bytes (the first of many), and the number of rows that repeat another."""
    hashes = np.empty(len(vectors), np.uint64)
    word = np.uint32 if vectors.shape[1] * vectors.itemsize % 4 == 0 else np.uint16
    factors: np.ndarray | None = None
    for start, block in blocks_of(vectors):
        words = np.ascontiguousarray(block).view(word).astype(np.uint64)
        if factors is None:
            factors = np.random.default_rng(0).integers(1, 1 << 63, words.shape[1], dtype=np.uint64) | np.uint64(1)
        hashes[start : start + len(block)] = words @ factors
        advance(len(block))
    order = np.argsort(hashes, kind="stable")
    repeats = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    first = repeats[:_COMPARED_PAIRS]
    return sorted(zip(order[first].tolist(), order[first + 1].tolist(), strict=True)), len(repeats)


def _different_names(one: str, other: str) -> bool:
    """Whether an uncased encoder surely reads two titles differently; it may not know letters of other scripts."""
    one, other = normalise(one), normalise(other)
    return one != other and bool(one) and bool(other) and one.isascii() and other.isascii()


def _wrong_tables(
    catalogue: Catalogue, names: NameIndex, titles: TitleTable | None, attributes: AttributeTable | None, row: int
) -> Iterator[str]:
    """The tables that do not agree with the line of a row."""
    entity = catalogue[row]
    if titles is not None and (titles.titles([row]), titles.kb_ids([row])) != ([entity.title], [entity.kb_id]):
        yield "table of titles"
    matches = {match.row: match.kind for match in names.alias_table.lookup(entity.title)}
    has_form = bool(normalise(entity.title))
    aliases = (alias for alias in entity.aliases if normalise(alias))
    known = all(any(match.row == row for match in names.alias_table.lookup(alias)) for alias in aliases)
    if (has_form and matches.get(row) != TITLE) or not known:
        yield "alias table"
    if has_form and names.fuzzy_index.compare(entity.title, [row])[0, 0] < 1:
        yield "fuzzy index"
    if not np.allclose(names.popularity[row], describe([entity])[0], rtol=1e-5):
        yield "table of popularity"
    if attributes is not None and not all(row in attributes.rows_with(*of) for of in attributes_of(entity)):
        yield "table of types and tags"


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of each row with the same row of the other matrix. *Shape:* (n, d) both give (n,)."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines: np.ndarray = np.einsum("nd,nd->n", one, other) / np.maximum(norms, 1e-30)
    return cosines


def _megabytes(path: Path) -> int:
    return path.stat().st_size >> 20 if path.is_file() else 0


def _rows(rows: Sequence[int]) -> str:
    """``row 3``, or ``rows 3, 7, 9`` of the first few."""
    examples = ", ".join(map(str, rows[:_EXAMPLES]))
    return f"row{'s' if len(rows) > 1 else ''} {examples}"

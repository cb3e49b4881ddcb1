"""Which names links, redirects and disambiguation pages give to entities, and how often: p(entity | name) as counts.

More names than memory holds are counted in two rounds of files: first by name, where the counts of a name over all entities are
known and rare uses are left out, then by entity.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TypeAlias
from zlib import crc32

NAME_FILES, ROWS_PER_FILE = 64, 50_000
MAX_USES = 1 << 20
"""Uses of names in memory; about 200 bytes each."""
MAX_NAMES = 100
"""Most names of an entity, besides its title."""
Use: TypeAlias = tuple[str, int, int]
"""A name, the row of the entity it names, and a number of links; 0 links for a name that the entity has in any case."""


class NameCounts:
    """Counts names of entities, in files of a folder once there are many.

    Args:
        folder: where the files go.
        rows: number of entities.
        min_links: fewest links of a name that only links give.
        min_share: smallest share of a name's links that lead to the entity.
    """

    def __init__(self, folder: Path, rows: int, min_links: int, min_share: float) -> None:
        folder.mkdir(exist_ok=True)
        self._by_name = [folder / f"names-{number}.tsv" for number in range(NAME_FILES)]
        self._by_row = [folder / f"rows-{number}.tsv" for number in range(-(-rows // ROWS_PER_FILE) or 1)]
        self._min_links, self._min_share = min_links, min_share
        self._in_memory: dict[int, list[tuple[int, str]]] | None = None

    def count(self, uses: Iterable[Use]) -> None:
        """Count uses of names."""
        counts: dict[tuple[str, int], int] = {}
        certain: dict[tuple[str, int], None] = {}
        in_files = False
        with _opened(self._by_name) as files:
            for name, row, n in uses:
                key = (name, row)
                if n:
                    counts[key] = counts.get(key, 0) + n
                else:
                    certain[key] = None
                if len(counts) + len(certain) >= MAX_USES:
                    in_files = True
                    _write_by_name(files, _uses(counts, certain))
                    counts.clear()
                    certain.clear()
            if in_files:
                _write_by_name(files, _uses(counts, certain))
        if not in_files:
            self._in_memory = _by_row(self._kept(_uses(counts, certain)))
            return
        with _opened(self._by_row) as files:
            for path in self._by_name:
                for row, name, n in self._kept(_read_uses(path)):
                    files[row // ROWS_PER_FILE].write(f"{name}\t{row}\t{n}\n")

    def of_rows(self) -> Iterator[dict[str, int]]:
        """The names of each entity with their counts, most frequent first."""
        for number, path in enumerate(self._by_row):
            of_row = self._in_memory
            if of_row is None:
                of_row = _by_row((row, name, n) for name, row, n in _read_uses(path))
            for row in range(number * ROWS_PER_FILE, (number + 1) * ROWS_PER_FILE):
                yield {name: -n for n, name in sorted(of_row.get(row, []))}

    def _kept(self, uses: Iterable[Use]) -> Iterator[tuple[int, str, int]]:
        """Rows, names and counts that are kept. Names that differ in case alone are one, spelt as most links do."""
        spellings: dict[tuple[str, int], dict[str, int]] = {}
        totals: dict[str, int] = {}
        certain: set[tuple[str, int]] = set()
        for name, row, n in uses:
            folded = name.casefold()
            of_key = spellings.setdefault((folded, row), {})
            of_key[name] = of_key.get(name, 0) + n
            totals[folded] = totals.get(folded, 0) + n
            if not n:
                certain.add((folded, row))
        for key, of_key in spellings.items():
            n_links = sum(of_key.values())
            if key in certain or (n_links >= self._min_links and n_links >= self._min_share * totals[key[0]]):
                name = min((-of_name, name) for name, of_name in of_key.items())[1] if len(of_key) > 1 else next(iter(of_key))
                yield key[1], name, n_links


def _by_row(names: Iterable[tuple[int, str, int]]) -> dict[int, list[tuple[int, str]]]:
    """Names of each row, with their counts below zero."""
    of_row: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for row, name, n in names:
        of_row[row].append((-n, name))
    return of_row


def _uses(counts: dict[tuple[str, int], int], certain: Iterable[tuple[str, int]]) -> Iterator[Use]:
    yield from ((name, row, n) for (name, row), n in counts.items())
    yield from ((name, row, 0) for name, row in certain)


def _write_by_name(files: list[IO[str]], uses: Iterable[Use]) -> None:
    """Append uses to the files of their names."""
    for name, row, n in uses:
        files[crc32(name.casefold().encode("utf-8", "replace")) % NAME_FILES].write(f"{name}\t{row}\t{n}\n")


def _read_uses(path: Path) -> Iterator[Use]:
    with path.open(encoding="utf-8", newline="\n") as f:
        for line in f:
            name, row, n = line[:-1].split("\t")
            yield name, int(row), int(n)


@contextlib.contextmanager
def _opened(paths: list[Path]) -> Iterator[list[IO[str]]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(path.open("w", encoding="utf-8", errors="replace", newline="\n")) for path in paths]

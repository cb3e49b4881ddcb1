"""The parsed dump: a folder of compressed JSON lines in shards, which later commands read in parallel.

``pages-000000.jsonl.gz`` and so on contain articles, ``titles.txt`` their titles, ``redirects.tsv`` one redirect per line. A
stopped build is resumed after its complete shards.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blink.decompression import lines_of, open_stream
from blink.errors import CheckpointError, DataError, MismatchError, MissingFileError, SettingsError
from blink.files import atomic_open, locked, read_json, sample_hash, write_json
from blink.left_overs import TEMPORARY
from blink.work_folders import own_files
from examples.pretraining.dump import Dump, RawPage, Site
from examples.pretraining.pool import spread
from examples.pretraining.wikitext import PageLink, Paragraph, paragraphs, require_parser

METADATA_FILE = "metadata.json"
REDIRECTS_FILE = "redirects.tsv"
TITLES_FILE = "titles.txt"
_BEGUN_FILE = "begun.json"
_FORMAT = 1
_BUILD_AGAIN = "remove it and build the folder again"
_MAX_REDIRECTS = 16
"""Maximum redirects to follow from a title; more are a cycle."""


@dataclass(frozen=True)
class Article:
    """A page of running text."""

    page_id: int
    title: str
    paragraphs: tuple[Paragraph, ...]


class DumpDb:
    """A folder written by `build_dump_db`.

    Attributes:
        shards: files of articles, in the dump's order.
        metadata: counts, and the source dump.

    Raises:
        MissingFileError: the folder does not exist, or its build is not complete.
        CheckpointError: it is of another version, or a shard is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        remedy = "make it with: python -m examples.cli pretraining build-dump-db DUMP.xml.bz2 DIR"
        if not self.folder.is_dir():
            problem = "is a file, not a folder of parsed pages" if self.folder.is_file() else "does not exist"
            raise MissingFileError(f"{self.folder} {problem}; {remedy}")
        if not (self.folder / METADATA_FILE).is_file():
            raise MissingFileError(f"{self.folder} is not complete; {remedy} (it resumes a stopped build)")
        self.metadata: dict[str, Any] = read_json(self.folder / METADATA_FILE, remedy)
        self.shards = [_shard_path(self.folder, i) for i in range(self.metadata.get("parts", 0))]
        gone = [path.name for path in self.shards if not path.is_file()]
        if self.metadata.get("format") != _FORMAT or gone:
            problem = f"lacks {gone[0]}" if gone else "is of another version"
            raise CheckpointError(f"{self.folder} {problem}; remove the folder and {remedy}")

    def redirects(self) -> dict[str, str]:
        """Title of each redirect to its target, which may be a redirect itself.

        Raises:
            DataError: the file is damaged.
        """
        return {row[0]: row[1] for row in _rows(self.folder / REDIRECTS_FILE, 2)}

    def titles(self) -> set[str]:
        """Titles of all articles.

        Raises:
            DataError: the file is damaged.
        """
        return {row[0] for row in _rows(self.folder / TITLES_FILE, 1)}


def _rows(path: Path, columns: int) -> Iterator[list[str]]:
    with open_stream(path, _BUILD_AGAIN) as stream:
        for number, line in enumerate(lines_of(stream, path), 1):
            try:
                row = line.decode("utf-8").rstrip("\n").split("\t")
            except UnicodeDecodeError:
                row = []
            if len(row) != columns:
                raise DataError(f"{path}, line {number}: damaged; {_BUILD_AGAIN}")
            yield row


def read_shard(path: Path) -> Iterator[Article]:
    """The articles of a shard.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with open_stream(path, _BUILD_AGAIN) as stream:
            for line in lines_of(stream, path):
                yield _article(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it and build the folder again") from error


def resolve(title: str, redirects: dict[str, str]) -> str:
    """Follow redirects from a title to an article; a cycle ends at any of its titles."""
    for _ in range(_MAX_REDIRECTS):
        if (target := redirects.get(title)) is None:
            break
        title = target
    return title


@dataclass(frozen=True)
class BuildProgress:
    """Hooks for a progress bar: ``read`` gets the bytes read of the dump, ``parsed`` the number of parsed articles."""

    read: Callable[[int], None] = lambda done: None
    parsed: Callable[[int], None] = lambda pages: None


def build_dump_db(
    dump_path: str | Path,
    folder: str | Path,
    *,
    pool_size: int = 1,
    chunk_size: int = 1000,
    progress: BuildProgress | None = None,
) -> DumpDb:
    """Parse a dump into a folder; shards that an earlier, stopped build completed are kept.

    Args:
        dump_path: the dump.
        folder: output folder, created if needed.
        pool_size: processes that parse.
        chunk_size: articles per shard.
        progress: hooks for a progress bar.

    Raises:
        DataError: the dump is malformed or truncated.
        MismatchError: the folder was begun from another dump or with another chunk size.
        SettingsError: the folder holds something else, or another process builds it.
    """
    require_parser()
    dump, folder, progress = Dump(dump_path), Path(folder), progress or BuildProgress()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        begin_folder(folder, {"format": _FORMAT, "dump": sample_hash(dump.path), "chunk_size": chunk_size})
        if not (folder / METADATA_FILE).is_file():
            _build(dump, folder, pool_size, chunk_size, progress)
    return DumpDb(folder)


def begin_folder(folder: Path, request: dict[str, Any]) -> None:
    """Record the inputs of a build in an empty folder, or compare them with those of a started build.

    Raises:
        SettingsError: the folder holds something else.
        MismatchError: it was started with other inputs.
    """
    request_file = folder / _BEGUN_FILE
    if not request_file.is_file():
        if any(folder.iterdir()):
            raise SettingsError(f"{folder} holds other files; name a new or empty folder")
        write_json(request_file, request)
    elif changed := [key for key, value in request.items() if read_json(request_file).get(key) != value]:
        problem = f"{folder} was started with another {' and '.join(changed)}"
        raise MismatchError(f"{problem}; give the same, or name another folder")


def _build(dump: Dump, folder: Path, pool_size: int, chunk_size: int, progress: BuildProgress) -> None:
    counts = {"parts": 0, "articles": 0, "redirects": 0}
    with atomic_open(folder / REDIRECTS_FILE) as redirects, atomic_open(folder / TITLES_FILE) as titles:

        def articles() -> Iterator[RawPage]:
            for page in dump.pages(progress.read):
                if page.redirect is None:
                    titles.write(page.title + "\n")
                    yield page
                elif not any("\t" in title for title in (page.title, page.redirect)):
                    redirects.write(f"{page.title}\t{page.redirect}\n")
                    counts["redirects"] += 1

        def jobs() -> Iterator[tuple[Path, Site, list[RawPage]]]:
            pages = articles()
            while chunk := list(itertools.islice(pages, chunk_size)):
                path = _shard_path(folder, counts["parts"])
                counts["parts"] += 1
                counts["articles"] += len(chunk)
                yield path, dump.site, [] if path.is_file() else chunk

        for pages_done in itertools.accumulate(spread(_write_shard, jobs(), pool_size)):
            progress.parsed(pages_done)
    for leftover in own_files(folder, TEMPORARY):  # of a build that was killed
        leftover.unlink()
    about = {"format": _FORMAT, "dump": dump.path.name, "chunk_size": chunk_size, **counts, "site": asdict(dump.site)}
    write_json(folder / METADATA_FILE, about)


def _write_shard(job: tuple[Path, Site, list[RawPage]]) -> int:
    path, site, pages = job
    if pages:
        lines = (_line(page, paragraphs(page.text, site)) for page in pages)
        with atomic_open(path, "wb") as raw, gzip.GzipFile("", "wb", 5, raw, mtime=0) as packed:
            packed.writelines(line.encode("utf-8") for line in lines)
    return len(pages)


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"pages-{number:06d}.jsonl.gz"


def _line(page: RawPage, page_paragraphs: list[Paragraph]) -> str:
    rows = [[p.text, p.abstract, [[link.title, link.start, link.end] for link in p.links]] for p in page_paragraphs]
    return json.dumps({"id": page.page_id, "title": page.title, "paragraphs": rows}, ensure_ascii=False) + "\n"


def _article(value: dict[str, Any]) -> Article:
    page_paragraphs = (
        Paragraph(text, tuple(PageLink(*link) for link in links), abstract) for text, abstract, links in value["paragraphs"]
    )
    return Article(value["id"], value["title"], tuple(page_paragraphs))

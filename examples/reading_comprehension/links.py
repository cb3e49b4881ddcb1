"""Hyperlinks of Wikipedia's pages, and redirects between its titles: the files of the published models, and plain JSON.

The published files (``enwiki_20160305.pkl``, ``enwiki_*_redirects.pkl``) are pickles. The unpickler accepts strings, numbers,
lists, dicts and the two marisa-trie classes that store the links. It refuses any other class, so no code in a file is run.

JSON files, also compressed (``.gz``), are an alternative:

- links, ``.jsonl``: ``{"title": "Bern", "links": [["the Aare", "Aare", 0.8], ...]}`` per line, with link probabilities;
- links, ``.json``: ``{"Bern": {"the Aare": "Aare"}}``, all of them with probability 1;
- redirects, ``.json``: ``{"Berne": "Bern"}``.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.errors import DataError, SettingsError
from blink.files import parse_json_line
from blink.input_files import read_bytes

TRIES = ("Trie", "RecordTrie")
EXPECTED = "a .json or .jsonl file (see examples/reading_comprehension/README.md), or a file that LUKE's authors published"


@dataclass(frozen=True)
class Link:
    """A hyperlink of a page.

    Attributes:
        text: the anchor text.
        target: title of the linked page.
        probability: fraction of the pages with the text that link it.
    """

    text: str
    target: str
    probability: float


def read_links(path: Path, titles: Iterable[str]) -> dict[str, list[Link]]:
    """The links of pages; pages that are not in the file have none.

    Args:
        path: the file.
        titles: pages to return.

    Raises:
        MissingFileError: the file is not there.
        DataError: it is malformed, or holds something else.
    """
    selection, content = frozenset(titles), _content(path)
    if _is_json(path, ".jsonl"):
        return _from_lines(path, content, selection)
    if _is_json(path, ".json"):
        pages = _texts_of_texts(path, _json(path, content))
        return {t: [Link(text, target, 1.0) for text, target in pages[t].items()] for t in selection & pages.keys()}
    return _from_tries(path, _plain_pickle(path, content), selection)


def read_redirects(path: Path) -> dict[str, str]:
    """Title to title.

    Raises:
        MissingFileError: the file is not there.
        DataError: it is malformed, or holds something else.
    """
    content = _content(path)
    redirects = _json(path, content) if _is_json(path, ".json") else _plain_pickle(path, content)
    return _texts(path, redirects)


def mention_table(links: Iterable[Link], least: float) -> dict[str, str]:
    """Normalised text to title, for the links of a page; ambiguous texts are dropped.

    Args:
        links: of the page.
        least: minimum probability of a link.
    """
    targets: dict[str, set[str]] = {}
    for link in links:
        if link.probability >= least:
            targets.setdefault(normalise_mention(link.text), set()).add(link.target)
    return {text: next(iter(titles)) for text, titles in targets.items() if text and len(titles) == 1}


def normalise_mention(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


# -- files ---------------------------------------------------------------------------------------------------------------


def _is_json(path: Path, suffix: str) -> bool:
    return path.name.removesuffix(".gz").endswith(suffix)


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed by their magic number."""
    packed = read_bytes(path, f"give {EXPECTED}")
    unpackers: Mapping[bytes, Callable[[bytes], bytes]] = {
        b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7z": lzma.decompress, b"x": zlib.decompress,
    }  # fmt: skip
    try:
        return next((unpack(packed) for magic, unpack in unpackers.items() if packed.startswith(magic)), packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{path} is truncated or damaged; download it again") from error


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); give {EXPECTED}") from error


def _from_lines(path: Path, content: bytes, selection: frozenset[str]) -> dict[str, list[Link]]:
    links_of_page: dict[str, list[Link]] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            row = parse_json_line(line, path, number)
            try:
                title, links = row["title"], [Link(text, target, float(p)) for text, target, p in row["links"]]
                if not all(isinstance(name, str) for name in (title, *(n for link in links for n in (link.text, link.target)))):
                    raise TypeError
            except (KeyError, TypeError, ValueError) as error:
                expected = "'title', and 'links' with [text, title, probability] lists, are expected"
                raise DataError(f"{path}, line {number}: {expected}") from error
            if title in selection:
                links_of_page[title] = links
    return links_of_page


def _texts(path: Path, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(t, str) for pair in value.items() for t in pair):
        raise DataError(f"{path} does not map titles to titles; give {EXPECTED}")
    return value


def _texts_of_texts(path: Path, value: Any) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise DataError(f"{path} does not map titles to objects of text and title; give {EXPECTED}")
    return {title: _texts(path, links) for title, links in value.items()}


# -- the published files -------------------------------------------------------------------------------------------------


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values and the tries, and refuses every other class."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "marisa_trie" and name in TRIES:
            try:
                return getattr(importlib.import_module(module), name)
            except ImportError as error:
                raise SettingsError("the published link file is made with marisa-trie; run: pip install marisa-trie") from error
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _plain_pickle(path: Path, content: bytes) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except SettingsError:
        raise
    except Exception as error:  # damaged pickles raise arbitrary exceptions
        raise DataError(f"{path} cannot be read ({error}); give {EXPECTED}") from error


def _from_tries(path: Path, tables: Any, selection: frozenset[str]) -> dict[str, list[Link]]:
    try:
        titles, texts, records = (tables[name] for name in ("title_trie", "mention_trie", "data_trie"))
        return {
            title: [Link(texts.restore_key(t), titles.restore_key(target), float(p)) for t, target, p in records[title]]
            for title in selection
            if title in records
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} holds no links of pages; give {EXPECTED}") from error

"""Titles of pages: their normal form, the namespaces of a wiki, and a table that resolves redirects."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from urllib.parse import unquote

import numpy as np

FILE, TEMPLATE, CATEGORY = 6, 10, 14
DEFAULT_NAMESPACES = (
    (-2, "Media"), (-1, "Special"), (1, "Talk"), (2, "User"), (3, "User talk"), (4, "Wikipedia"), (5, "Wikipedia talk"),
    (6, "File"), (7, "File talk"), (8, "MediaWiki"), (10, "Template"), (11, "Template talk"), (12, "Help"), (14, "Category"),
    (15, "Category talk"), (100, "Portal"), (118, "Draft"), (828, "Module"),
)  # fmt: skip
"""Of wikis in English, which are valid in all wikis."""
_ALIASES = ((6, "Image"), (4, "WP"), (4, "Project"))
_NAMESPACE = re.compile(rb'<namespace key="(-?\d+)"[^>]*?>([^<]+)</namespace>')
_BASE = re.compile(rb"<base>(https?://[^<]+?)/wiki/[^<]*</base>")
_NAME = re.compile(rb"<dbname>(\w+)</dbname>")
_IS_NORMAL = re.compile(r"[A-Z0-9](?:[^%&#_\s:]| (?=\S))*")
_INTERWIKI = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*|s|d|w|wikt|commons|wiktionary|wikisource|species|voy|meta|doi")
MAX_TARGETS = 1 << 18
"""Targets of links that are remembered; most links lead to few pages."""
DEFAULT_SITE, DEFAULT_WIKI = "https://en.wikipedia.org", "enwiki"


@dataclass(frozen=True)
class Wiki:
    """What the head of a dump says of its wiki.

    Attributes:
        name: such as ``enwiki``.
        site: such as ``https://en.wikipedia.org``.
        namespaces: number and name of each, but of the articles.
    """

    name: str = DEFAULT_WIKI
    site: str = DEFAULT_SITE
    namespaces: tuple[tuple[int, str], ...] = DEFAULT_NAMESPACES

    @classmethod
    def of(cls, head: bytes) -> Wiki:
        """Read the head of a dump; what it lacks is that of the English Wikipedia."""
        name, base = _NAME.search(head), _BASE.search(head)
        own = tuple((int(key), html.unescape(text.decode("utf-8", "replace"))) for key, text in _NAMESPACE.findall(head))
        return cls(
            name[1].decode() if name else DEFAULT_WIKI,
            base[1].decode() if base else DEFAULT_SITE,
            tuple(dict.fromkeys((*own, *DEFAULT_NAMESPACES))),
        )

    @cached_property
    def prefixes(self) -> dict[str, int]:
        """Number of a namespace by its name in lowercase, with spaces."""
        return {name.replace("_", " ").lower(): number for number, name in (*self.namespaces, *_ALIASES)}

    @cached_property
    def media(self) -> re.Pattern[str]:
        """Matches the beginning of a link that shows a file or adds a category."""
        names = [re.escape(name) for name, number in self.prefixes.items() if number in (FILE, CATEGORY)]
        return re.compile(rf"\[\[\s*(?:{'|'.join(sorted(names))})\s*:", re.IGNORECASE)

    @cached_property
    def _targets(self) -> dict[str, str]:
        """Targets of links that were looked up before."""
        return {}

    def target(self, title: str) -> str:
        """The article that a link names, in normal form; "" if it names another kind of page, or only a section."""
        target = self._targets.get(title)
        if target is None:
            if len(self._targets) == MAX_TARGETS:
                self._targets.clear()
            target = self._targets[title] = self._target(title)
        return target

    def _target(self, title: str) -> str:
        title = normal_title(title)
        prefix, colon, _ = title.partition(":")
        if colon and (prefix.lower().strip() in self.prefixes or _INTERWIKI.fullmatch(prefix.lower())):
            return ""
        return title


def normal_title(title: str) -> str:
    """The normal form of a title: ``new_York%20City`` -> ``New York City``. A section (``#...``) is dropped."""
    if _IS_NORMAL.fullmatch(title):
        return title
    if "%" in title:
        title = unquote(title)
    if "&" in title:
        title = html.unescape(title)
    title = " ".join(title.partition("#")[0].replace("_", " ").split()).lstrip(":").strip()
    first = title[:1].upper()
    return first + title[1:] if len(first) == 1 else title


def hashes(strings: Iterable[str]) -> np.ndarray:
    """64-bit hashes of strings. Of n strings about n**2 / 2**65 pairs share one. *Shape:* (strings,), uint64."""
    return np.frombuffer(b"".join(blake2b(s.encode(), digest_size=8).digest() for s in strings), dtype="<u8")


@dataclass(frozen=True)
class TitleTable:
    """Rows of pages by title, also by the titles of redirects to them.

    Attributes:
        keys: hashes of titles, ascending. *Shape:* (titles,), uint64.
        of_keys: the row of each. *Shape:* (titles,), int64.
        resolved: number of redirects that lead to a page.
        unresolved: number of those that lead nowhere, or in a circle.
    """

    NONE = -1

    keys: np.ndarray
    of_keys: np.ndarray
    resolved: int = 0
    unresolved: int = 0

    @classmethod
    def of_pages(cls, titles: np.ndarray, rows: np.ndarray, redirects: np.ndarray, targets: np.ndarray) -> TitleTable:
        """The table of pages and redirects.

        Args:
            titles: hashes of the titles of pages. *Shape:* (pages,), uint64.
            rows: their rows. *Shape:* (pages,), int64.
            redirects: hashes of the titles of redirects. *Shape:* (redirects,), uint64.
            targets: hashes of the titles that they lead to, which may be redirects. *Shape:* (redirects,), uint64.
        """
        keys, first = np.unique(titles, return_index=True)
        pages = cls(keys, np.asarray(rows, dtype=np.int64)[first])
        is_page = pages.rows_of(redirects) != cls.NONE
        sources, first = np.unique(redirects[~is_page], return_index=True)
        ends = pages.rows_of(_ends(sources, targets[~is_page][first]))
        leads = ends != cls.NONE
        keys, of_keys = np.append(pages.keys, sources[leads]), np.append(pages.of_keys, ends[leads])
        order, resolved = np.argsort(keys), int(leads.sum())
        return cls(keys[order], of_keys[order], resolved, len(leads) - resolved)

    def rows(self, titles: Sequence[str]) -> np.ndarray:
        """Rows of pages by title, `NONE` where there is no such page. *Shape:* (titles,), int64."""
        return self.rows_of(hashes(titles))

    def rows_of(self, wanted: np.ndarray) -> np.ndarray:
        """The same by hashes of titles. *Shape:* (titles,), int64."""
        if not len(self.keys):
            return np.full(len(wanted), self.NONE, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, self.of_keys[at], self.NONE)


def _ends(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Where chains of redirects end; each round doubles the steps taken, so that circles of any length stop it too.

    A redirect in a circle ends at a redirect, which is no page.
    """
    ends = targets.copy()
    for _ in range(max(len(sources), 1).bit_length() + 1):
        at = np.minimum(np.searchsorted(sources, ends), max(len(sources) - 1, 0))
        again = sources[at] == ends if len(sources) else np.zeros(0, dtype=bool)
        if not again.any():
            break
        ends = np.where(again, ends[at] if len(ends) else ends, ends)
    return ends

"""Hooks of the documentation site: files of the repository that its pages link to are part of it.

A page under ``docs/`` may link to ``../benchmarks/results/nil.md``, which works where the repository is browsed. The site has a
copy of such a file (of Markdown a page), and this module points the link to it, so that no address of a code host is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from blink.errors import DataError

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
HOME = {"README.md": "index.md"}
"""Files of the repository that have another page on the site."""

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*?$", re.MULTILINE | re.DOTALL)
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\bsrc="?(https?:)?//|<link[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href="?(https?:)?//"""
)
_LINK = re.compile(r"(?P<text>!?\[(?:[^\]\[]|\[[^\]]*\])*\])\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def relative_links(markdown: str) -> Iterator[tuple[str, str]]:
    """Targets and anchors (with ``#``, or empty) of relative links and pictures of a page, outside its code blocks."""
    for link in _LINK.finditer(_FENCE.sub("", markdown)):
        if "://" not in link["target"] and not link["target"].startswith("mailto:"):
            yield link["target"], link["anchor"] or ""


def repository_path(page: str, target: str) -> str:
    """The path from the root of the repository of what a page of it links to."""
    return os.path.normpath(PurePosixPath(page).parent / target).replace(os.sep, "/")


def site_path(path: str) -> str | None:
    """Where the site has a file of the repository; None for a folder without a README, which it has not."""
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
        if not (ROOT / path).exists():
            return None
    return HOME.get(path, path.removeprefix(DOCS))


def linked_files(pages: list[str]) -> list[str]:
    """Files outside ``docs/`` that the pages link to, themselves or by way of other such files, by path."""
    queue, seen = list(pages), set(pages)
    while queue:
        page = queue.pop()
        if not page.endswith(".md"):
            continue
        for target, _ in relative_links((ROOT / page).read_text(encoding="utf-8")):
            path = repository_path(page, target)
            path = f"{path}/README.md" if (ROOT / path).is_dir() else path
            if path not in seen and (ROOT / path).is_file() and path not in HOME:
                seen.add(path)
                queue.append(path)
    return sorted(path for path in seen if not path.startswith(DOCS))


def with_site_links(markdown: str, page: str) -> str:
    """The text of a page of the repository, its links outside ``docs/`` pointed to what the site has of them."""
    here = PurePosixPath(site_path(page) or page).parent

    def replaced(link: re.Match[str]) -> str:
        if "://" in link["target"] or link["target"].startswith("mailto:"):
            return link[0]
        path = site_path(repository_path(page, link["target"]))
        if path is None:
            return link["text"].strip("![]")
        return f"{link['text']}({os.path.relpath(path, here).replace(os.sep, '/')}{link['anchor'] or ''})"

    return _outside_fences(markdown, lambda prose: _LINK.sub(replaced, prose))


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    result, end = [], 0
    for fence in _FENCE.finditer(markdown):
        result += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*result, change(markdown[end:])])


def math_fence(source: str, *_: Any, **__: Any) -> str:
    """A block of ``math`` as MathML, which browsers draw without a script; a format of `pymdownx.superfences`."""
    from latex2mathml.converter import convert

    return f'<p class="formula">{convert(source, display="block")}</p>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the linked files of the repository to the site (called by mkdocs)."""
    from mkdocs.structure.files import File, InclusionLevel

    for path in linked_files([f"{DOCS}{file.src_uri}" for file in files.documentation_pages()]):
        file = File(path, str(ROOT), config.site_dir, config.use_directory_urls, inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point the links of a page to what the site has (called by mkdocs)."""
    inside = page.file.src_dir != str(ROOT)
    return with_site_links(markdown, f"{DOCS}{page.file.src_uri}" if inside else page.file.src_uri)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that loads something from elsewhere: the site must work without the net (called by mkdocs).

    Raises:
        DataError: with the first such page.
    """
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        loaded = _LOADED.search(page.read_text(encoding="utf-8"))
        if loaded is not None:
            raise DataError(f"{page.relative_to(config.site_dir)} loads from another host: {loaded[0]}")

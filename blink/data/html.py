"""Linked texts as HTML: mentions in the colour of their type, and a list of the links. All is escaped, nothing is loaded."""

from __future__ import annotations

import html
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from blink.data.display import one_line, printable, segments

if TYPE_CHECKING:
    from blink.data.records import Link, LinkedText

CANDIDATES = 3
"""Candidates that are listed, the entity included."""
LEAST = 0.01
"""Losing candidates of lower probability are hidden."""
LONGEST_DESCRIPTION = 300
_MAX_TYPES = 12
"""Types of the legend."""
_SCHEMES = ("http://", "https://")
"""Addresses that may be opened; others are not linked."""

STYLE = """\
.blink-linked{line-height:1.9;max-width:48rem;font-family:system-ui,sans-serif}
.blink-linked .blink-text{white-space:pre-wrap;overflow-wrap:anywhere;margin:.5em 0}
.blink-linked mark{padding:.15em .3em;border-radius:.3em;unicode-bidi:isolate}
.blink-linked mark{color:#111;background:hsl(var(--hue,0) var(--sat,75%) 85%)}
.blink-linked mark a{color:inherit;text-decoration:underline dotted}
.blink-linked mark small{font-size:.7em;margin-left:.4em}
.blink-linked .blink-types{display:flex;flex-wrap:wrap;gap:.4em;list-style:none;padding:0;margin:.5em 0;font-size:.8em}
.blink-linked ol{padding-left:2em;line-height:1.4;font-size:.9em}
.blink-linked li{margin:.4em 0}
.blink-linked .blink-about{opacity:.8;display:block}
.blink-linked summary{cursor:pointer;font-size:.9em}
@media (prefers-color-scheme:dark){.blink-linked mark{color:#f4f4f4;background:hsl(var(--hue,0) var(--sat,45%) 28%)}}
"""
_PAGE_STYLE = """\
:root{color-scheme:light dark}
body{margin:2rem auto;padding:0 1rem;max-width:52rem;font-family:system-ui,sans-serif;background:Canvas;color:CanvasText}
article+article{border-top:1px solid GrayText;margin-top:1.5rem;padding-top:1rem}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_fragment(linked: LinkedText, *, candidates: int = CANDIDATES, digits: int = 3) -> str:
    """A linked text as an element with its style, for notebooks and pages of others.

    Args:
        linked: the text and its links.
        candidates: most that are listed under a link, its entity included; 0 lists none.
        digits: of scores, behind the point.
    """
    return f"<style>{STYLE}</style>\n{_article(linked, candidates, digits, is_open=False)}"


def html_page(
    texts: Iterable[LinkedText], *, title: str = "Linked texts", candidates: int = CANDIDATES, digits: int = 3
) -> Iterator[str]:
    """The pieces of a page that needs no other file and sends no request; arguments as of `html_fragment`."""
    yield (
        '<!doctype html>\n<html lang="und">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(one_line(title))}</title>\n<style>{_PAGE_STYLE}{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_escaped(one_line(title))}</h1>\n"
    )
    for linked in texts:
        yield _article(linked, candidates, digits, is_open=True)
    yield "</main>\n</body>\n</html>\n"


def _article(linked: LinkedText, candidates: int, digits: int, *, is_open: bool) -> str:
    marked = "".join(
        _escaped(linked.text[start:end]) if owner is None else _mark(linked.text[start:end], linked.links[owner], digits)
        for start, end, owner in segments(linked)
    )
    n = len(linked.links)
    items = "".join(_item(link, candidates, digits) for link in linked.links)
    listed = f"<ol>\n{items}</ol>\n" if n else ""
    head = f"{n} link{'' if n == 1 else 's'}" if n else "no links"
    return (
        f'<article class="blink-linked">\n<div class="blink-text" dir="auto">{marked}</div>\n{_legend(linked)}'
        f"<details{' open' if is_open else ''}><summary>{head}</summary>\n{listed}</details>\n</article>\n"
    )


def _mark(mention: str, link: Link, digits: int) -> str:
    about = " · ".join([_named(link.title, link.kb_id, link.row), f"{link.score:.{digits}f}", *link.types[:3]])
    tooltip = f"{about}\n{one_line(link.description, LONGEST_DESCRIPTION)}".rstrip()
    differs = one_line(link.title).casefold() != one_line(mention).casefold()
    title = f"<small>{_escaped(one_line(link.title, 60))}</small>" if differs else ""
    return f'<mark{_hue(link)} title="{_escaped(tooltip)}">{_anchor(_escaped(mention), link)}{title}</mark>'


def _item(link: Link, candidates: int, digits: int) -> str:
    lines = [f"<b>{_escaped(one_line(link.mention, 80))}</b> → {_anchor(_escaped(one_line(link.title)), link)}"]
    lines.append(f" <code>{_escaped(one_line(link.kb_id or f'row {link.row}'))}</code> {link.score:.{digits}f}")
    if link.description:
        lines.append(f'\n<span class="blink-about">{_escaped(one_line(link.description, LONGEST_DESCRIPTION))}</span>')
    # Scores below 0 are no probabilities.
    losers = [c for c in link.candidates[1 : max(candidates, 1)] if not 0 <= c.score < LEAST]
    others = [f"{_named(c.title, c.kb_id, c.row)} {c.score:.{digits}f}" for c in losers]
    if others:
        lines.append(f'\n<span class="blink-about">or {_escaped(" · ".join(others))}</span>')
    return f"<li>{''.join(lines)}</li>\n"


def _legend(linked: LinkedText) -> str:
    """The types of the links and their colours, the most frequent first."""
    by_type: dict[str, list[Link]] = {}
    for link in linked.links:
        for kind in link.types[:1]:
            by_type.setdefault(kind, []).append(link)
    frequent = sorted(by_type, key=lambda kind: (-len(by_type[kind]), kind))
    marks = [f"<li><mark{_hue(by_type[kind][0])}>{_escaped(one_line(kind, 40))}</mark></li>" for kind in frequent[:_MAX_TYPES]]
    return f'<ul class="blink-types">{"".join(marks)}</ul>\n' if marks else ""


def _hue(link: Link) -> str:
    """The colour of a link's first type, the same in every text; grey without a type."""
    if not link.types:
        return ' style="--sat:0%"'
    return f' style="--hue:{zlib.crc32(link.types[0].encode("utf-8", "replace")) % 360}"'


def _anchor(inner: str, link: Link) -> str:
    """``inner`` linked to the address of the entity, if it is one of the web."""
    address = link.url or ""
    if not address.lower().startswith(_SCHEMES):
        return inner
    return f'<a href="{_escaped(address)}" target="_blank" rel="noopener noreferrer">{inner}</a>'


def _named(title: str, kb_id: str | None, row: int) -> str:
    return f"{one_line(title)} ({one_line(kb_id or f'row {row}')})"


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True)

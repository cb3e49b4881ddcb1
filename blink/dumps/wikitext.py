"""Wikitext to plain paragraphs with their links, by a few passes of compiled expressions.

Parsers of wikitext build a tree of the whole page, at one to two megabytes a second. These passes remove what is not
prose, from the inside to the outside.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from blink.dumps.titles import Wiki

LINK = re.compile(r"\[\[([^\[\]|{}<>\n]*)(?:\|([^\[\]]*))?\]\]([a-z]*)")
"""A link: target, label or None, and the letters behind it that belong to its label."""
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_REFERENCE = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref\s*>", re.DOTALL | re.IGNORECASE)
_NOT_PROSE = re.compile(
    r"<(math|chem|gallery|timeline|score|hiero|syntaxhighlight|source|pre|nowiki|imagemap|graph|mapframe|table|references)\b"
    r"[^<>]*(?:/>|>.*?</\1\s*>)",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_TEMPLATE_WITH_BRACES = re.compile(r"\{\{((?:[^{}]|\{(?!\{)|\}(?!\}))*)\}\}")
_TABLE_BOUND = re.compile(r"^[ \t:*]*(\{\|)|^[ \t]*(\|\})", re.MULTILINE)
_BRACKETS = re.compile(r"\[\[|\]\]")
_ARGUMENT = re.compile(r"\|(?![^\[\]]*\]\])")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\[\]]+ ?([^\[\]\n]*)\]|\[mailto:\S+ ([^\[\]\n]*)\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_QUOTES = re.compile(r"'{2,}")
_SWITCH = re.compile(r"__[A-Z]+__")
_HEADING = re.compile(r"^==+.*$", re.MULTILINE)
_LEFT_OVER = re.compile(r"\{\{+|\}\}+|\[\[|\]\]|\{\||\|\}")
_UNBALANCED = ("[[", "]]", "{{", "}}", "{|", "|}")
_EMPTY_BRACKETS = re.compile(r"\(\s*(?:[,;:/–-]\s*)*\)")
_BRACKET_HEAD = re.compile(r"\((?:[,;:]\s*|\s+)+")
_BRACKET_TAIL = re.compile(r"[\s,;:]+\)")
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?)])(?=\s|$)")
_LOOSE_ENDS = (" ,", " .", " ;", " :", " !", " ?", " )", ",)", ";)", ":)")
_BEGIN, _END = "\ue000", "\ue001"
"""Characters of private use that stand around the label of a link until its offsets are known."""
_MARKS = re.compile(f"[{_BEGIN}{_END}]")
_OWN_MARKS = re.compile(rf"[{_BEGIN}{_END}]|&#(?:[xX]0*[eE]00[01]|0*5734[45]);?")
"""The same characters in the wikitext, also as references, which are removed before."""
_NO_PROSE_HEADS = tuple("*#:;|!={")
_MAX_DEPTH = 40
LAST, FIRST = -1, 0
SHOWN_ARGUMENT = {
    **dict.fromkeys(("lang", "langx", "transl", "transliteration", "script", "ship", "native name"), LAST),
    **dict.fromkeys(("nowrap", "nobold", "nobr", "noitalic", "em", "strong", "small", "smallcaps", "abbr", "tooltip"), FIRST),
    **dict.fromkeys(
        ("linktext", "vanchor", "visible anchor", "sic", "ill", "interlanguage link", "flag", "as of", "m.", "nihongo"), FIRST
    ),
}
"""Templates that show one of their arguments -> which. Others show nothing that is kept."""
SHOWN_TEXT = {
    "'": "'",
    "'s": "'s",
    "ndash": "–",
    "mdash": "—",
    "nbsp": " ",
    "circa": "c. ",
    "c.": "c. ",
    "!": "|",
    "=": "=",
    "pi": "π",
    **dict.fromkeys(("snd", "spnd", "spaced ndash"), " – "),
}
"""Templates that stand for a text."""
MEASURES = frozenset(("convert", "cvt"))


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of prose.

    Attributes:
        text: without markup.
        links: start and end of each link in the text, and the title it leads to as it is written.
    """

    text: str
    links: tuple[tuple[int, int, str], ...]


def lead(text: str) -> str:
    """The wikitext before the first heading."""
    end = text.find("\n==")
    return text if end == -1 else text[:end]


def paragraphs(text: str, wiki: Wiki) -> Iterator[Paragraph]:
    """The paragraphs of prose of a wikitext: no lists, tables, headings, templates, references and files."""
    lines: list[str] = []
    for line in (*prose(text, wiki).split("\n"), ""):
        line = line.strip()
        if line and not line.startswith(_NO_PROSE_HEADS):
            lines.append(line)
            continue
        if lines and (paragraph := _rendered(" ".join(lines), wiki)).text:
            yield paragraph
        lines = []


def prose(text: str, wiki: Wiki) -> str:
    """A wikitext without comments, references, templates, tables and files. Links and the marks of lines stay."""
    if "<" in text:
        text = _NOT_PROSE.sub("", _REFERENCE.sub("", _COMMENT.sub("", text)))
    text = _without_templates(text)
    if "{|" in text:
        text = _without_tables(text)
    return _HEADING.sub("\n", _without_media(text, wiki))


def without_comments(text: str) -> str:
    """A wikitext without comments."""
    return _COMMENT.sub("", text) if "<!--" in text else text


def label_text(label: str) -> str:
    """The label of a link as a reader sees it."""
    if label.replace(" ", "").isalnum() and "  " not in label:  # as most are
        return label.strip()
    if "<" in label:
        label = _TAG.sub("", label)
    if "''" in label:
        label = _QUOTES.sub("", label)
    if "{" in label:
        label = _LEFT_OVER.sub("", _without_templates(label))
    if "&" in label:
        label = html.unescape(label)
    return " ".join(label.split())


def _without_templates(text: str) -> str:
    for _ in range(_MAX_DEPTH):
        if "{{" not in text:
            return text
        text, n = _TEMPLATE.subn(_template_text, text)
        if not n:
            text, n = _TEMPLATE_WITH_BRACES.subn(_template_text, text)
        if not n:
            return text
    return text


def _template_text(template: re.Match[str]) -> str:
    """What a template shows of itself."""
    name, bar, rest = template[1].partition("|")
    name = name.strip().lower()
    if name in SHOWN_TEXT:
        return f"{SHOWN_TEXT[name]}{rest if name in ('circa', 'c.') else ''}"
    which = LAST if name.startswith("lang-") else SHOWN_ARGUMENT.get(name)
    if not bar or (which is None and name not in MEASURES):
        return ""
    arguments = [argument.strip() for argument in _ARGUMENT.split(rest) if "=" not in argument]
    if name in MEASURES:
        return " ".join(arguments[:2])
    return arguments[which] if arguments and which is not None else ""


def _without_tables(text: str) -> str:
    kept, depth, end = [], 0, 0
    for bound in _TABLE_BOUND.finditer(text):
        if bound[1]:
            if not depth:
                kept.append(text[end : bound.start()])
            depth += 1
        elif depth:
            depth -= 1
            end = bound.end() if not depth else end
    return text if not kept else "".join([*kept, "" if depth else text[end:]])


def _without_media(text: str, wiki: Wiki) -> str:
    """Without files and categories, whose captions may hold links."""
    kept, end, begin = [], 0, wiki.media.search(text)
    while begin is not None:
        kept.append(text[end : begin.start()])
        depth, end = 0, len(text)
        for bracket in _BRACKETS.finditer(text, begin.start()):
            depth += 1 if bracket[0] == "[[" else -1
            if not depth:
                end = bracket.end()
                break
        begin = wiki.media.search(text, end)
    return "".join([*kept, text[end:]]) if kept else text


def _rendered(text: str, wiki: Wiki) -> Paragraph:
    """Wikitext of prose to text and links; offsets are those in the text, whatever was removed."""
    if "&#" in text or _BEGIN in text or _END in text:
        text = _OWN_MARKS.sub("", text)
    if "//" in text:
        text = _EXTERNAL.sub(lambda m: m[1] or m[2] or "", text)
    if "<" in text:
        text = _TAG.sub("", text)
    text = _SWITCH.sub("", _QUOTES.sub("", text))
    targets: list[str] = []

    def marked(link: re.Match[str]) -> str:
        target, shown = link[1], link[2] if link[2] is not None else link[1].lstrip(" :").replace("_", " ")
        label = label_text(shown + link[3])
        is_article = bool(wiki.target(target)) and "#" not in target  # a section of a page is not what the page is about
        if not label or (not is_article and ":" in target and not target.lstrip().startswith(":")):
            return ""
        if not is_article:
            return label
        targets.append(target)
        return f"{_BEGIN}{label}{_END}"

    text = LINK.sub(marked, text)
    if any(mark in text for mark in _UNBALANCED):
        text = _LEFT_OVER.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    if "(" in text:
        text = _BRACKET_HEAD.sub("(", _EMPTY_BRACKETS.sub("", text))
    text = " ".join(text.split())
    if any(end in text for end in _LOOSE_ENDS):  # rarely: the expressions would try every space
        text = " ".join(_SPACE_BEFORE.sub(r"\1", _BRACKET_TAIL.sub(")", text)).split())
    texts, links, length = [], [], 0
    for number, part in enumerate(_MARKS.split(text)):  # outside of links and inside by turns
        if number % 2 and part.strip():
            begin = length + len(part) - len(part.lstrip())
            links.append((begin, begin + len(part.strip()), targets[number // 2]))
        texts.append(part)
        length += len(part)
    return Paragraph("".join(texts), tuple(links))

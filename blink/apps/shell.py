"""``blink shell``: type texts, see their links and the reasons; through a pipe, JSON lines.

A `Session` holds what was read and the settings; its commands are a table. What it shows is made by pure functions
from links to styled fragments, and a `Console` brings them to a terminal, or to the plain output of a pipe.
"""

from __future__ import annotations

import math
import os
import sys
import textwrap
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from io import BufferedIOBase
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from blink.apps.common import say
from blink.apps.linking import check_text, decode_line, open_linker, print_linked
from blink.data.records import Entity, Link, LinkedText
from blink.errors import BlinkError, DataError, SettingsError
from blink.linking.linker import Linker, Reading, characters
from blink.linking.scoring import MODES, ScoredSpans, Thresholds, joint_scores, log_sigmoid, log_softmax

if TYPE_CHECKING:
    from prompt_toolkit.auto_suggest import AutoSuggest
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History

Fragments = list[tuple[str, str]]
"""Pieces of styled text, (style, text), as prompt_toolkit takes them."""

COLOURS = ("#ffd75f", "#87d787", "#87d7ff", "#d7afff", "#ffaf87", "#ff87af")
"""Backgrounds of mentions: the best link of a text takes the first, the next best the second, and round again."""

STYLE = {f"mention{i}": f"bg:{colour} fg:#000000" for i, colour in enumerate(COLOURS)} | {
    "title": "bold",
    "id": "fg:ansicyan",
    "score": "fg:ansigreen",
    "faint": "fg:ansibrightblack",
    "key": "bold",
    "error": "fg:ansired",
    "prompt": "bold fg:ansicyan",
    "bottom-toolbar": "noreverse bg:#303030 fg:#d0d0d0",
    "auto-suggestion": "fg:ansibrightblack",
}
WIDEST = 100
"""Longest line of running text, in columns: longer ones are hard to read."""
DESCRIPTION_LINES = 2
LONGEST_GAP = 2000
"""Longest stretch without a mention that is shown whole, in characters."""
OVERLAPS_SHOWN = 5
MOST_TITLES = 50_000
"""Catalogues with more entities do not complete titles: reading them all would stall the first Tab."""
LONGEST_REMEMBERED = 10_000
"""Longest line that goes into the history, in characters."""


# --- the way in -----------------------------------------------------------------------------------------------------


def run_shell(model: str | None, kb: str | None, threshold: float | None, batch_size: int, **options: Any) -> None:
    """Run ``blink shell``: a shell on a terminal; through a pipe, a JSON object per line of standard input.

    Args:
        model: model folder; by default the starter.
        kb: knowledge base folder; by default the starter's.
        threshold: score above which links are kept; by default the model's own.
        batch_size: texts (windows of long ones) that go through the model at once.
        options: ``precision`` and ``device``, as in `open_linker`.

    Raises:
        BlinkError: the model cannot be opened, or a line of a pipe is no text.
    """
    if not sys.stdin.isatty():
        linker = open_linker(model, kb, threshold, **options)
        link_stream(linker, cast(BufferedIOBase, sys.stdin.buffer), batch_size)
        return
    say("loading the model ...")
    linker = open_linker(model, kb, threshold, **options)
    console = TerminalConsole()
    session = Session(linker, console, SHELL, batch_size=batch_size)
    console.attach(session)
    console.show(banner(len(linker.catalogue), "Did Mozart ever meet Beethoven in Vienna?" if model is None else None))
    session.run()


def run_dialogue(linker: Linker, *, lines: Iterable[str] | None = None) -> None:
    """Run the dialogue of ``main_dense_all_ents.py -i``: the shell on a terminal, else plain text from lines.

    Args:
        linker: links the texts.
        lines: what the user says; by default typed at the terminal, or the lines of standard input.
    """
    if lines is None and sys.stdin.isatty():
        console = TerminalConsole()
        session = Session(linker, console, DIALOGUE)
        console.attach(session)
        session.run()
        return
    Session(linker, LineConsole(_stdin_lines() if lines is None else lines), PLAIN_DIALOGUE).run()


def link_stream(linker: Linker, stream: BufferedIOBase, batch_size: int = 64) -> None:
    """Link the lines of ``stream`` and print a JSON object for each, in order.

    Lines go through the model as soon as they have arrived, so that a program may write one and wait for its answer.

    Raises:
        DataError: the stream is empty, or a line is no text; the lines before it have been answered.
    """
    count, name = 0, "standard input"
    for block in _line_blocks(stream):
        texts, broken = [], None
        for raw in block:
            count += 1
            try:
                texts.append(decode_line(raw, count, name))
            except DataError as error:
                broken = error
                break
        for linked in linker.link(texts, batch_size=batch_size):
            print_linked(linked, as_json=True)
        if broken is not None:
            raise broken
    if not count:
        raise DataError(f"{name} is empty; give one text per line")


def _line_blocks(stream: BufferedIOBase) -> Iterator[list[bytes]]:
    """The whole lines that each read brings, without line feeds."""
    rest: list[bytes] = []
    while block := stream.read1(1 << 16):
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    if last := b"".join(rest):
        yield [last]


def _stdin_lines() -> Iterator[str]:
    """The lines of standard input; bytes that are not UTF-8 become lone surrogates, which the session refuses politely."""
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", "surrogateescape").rstrip("\r\n")


# --- what is shown: pure functions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """How to show things.

    Attributes:
        width: columns of the terminal.
        colour: mark mentions by colour; brackets do it otherwise.
        k: candidates listed per link, the winner included.
    """

    width: int = 80
    colour: bool = False
    k: int = 3

    @property
    def room(self) -> int:
        """Columns for running text."""
        return max(20, min(self.width, WIDEST) - 1)


_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)) if chr(code) not in "\n\t"}
_CONTROLS[ord("\r")] = " "


def printable(text: str) -> str:
    """``text`` without characters that would move the cursor or change the terminal; as long as before."""
    return text.translate(_CONTROLS)


def one_line(text: str, longest: int | None = None) -> str:
    """``text`` on one line, printable, cut with an ellipsis if it is longer than ``longest`` characters."""
    line = " ".join(printable(text).split())
    return line if longest is None or len(line) <= longest else line[: longest - 1].rstrip() + "…"


def wrapped(text: str, width: int, indent: int = 0, most: int | None = None) -> str:
    """``text`` in lines of at most ``width`` columns, indented, each with its line end; cut after ``most`` lines."""
    line = one_line(text)
    if any(unicodedata.east_asian_width(c) in "WF" for c in line):
        width = indent + (width - indent) // 2  # such characters take two columns
    room = max(width - indent, 10)
    lines = textwrap.wrap(line, room, max_lines=most, placeholder=" …", break_on_hyphens=False)
    return "".join(f"{' ' * indent}{each}\n" for each in lines)


def ranks(links: tuple[Link, ...]) -> list[int]:
    """The place of each link when they are sorted by descending score; ties keep the order of position."""
    order = sorted(range(len(links)), key=lambda i: -links[i].score)
    places = [0] * len(links)
    for place, i in enumerate(order):
        places[i] = place
    return places


def segments(linked: LinkedText) -> Iterator[tuple[int, int, int | None]]:
    """Cut the text into ``(start, end, link)``: stretches of one link each (the best of those there), or of none."""
    places = ranks(linked.links)
    bounds = {0, len(linked.text)}.union(*((link.start, link.end) for link in linked.links))
    pieces = []
    for start, end in pairwise(sorted(bounds)):
        covering = [i for i, link in enumerate(linked.links) if link.start <= start and end <= link.end]
        pieces.append((start, end, min(covering, key=places.__getitem__) if covering else None))
    for owner, group in groupby(pieces, key=itemgetter(2)):
        of_owner = list(group)
        yield of_owner[0][0], of_owner[-1][1], owner


def marked_text(linked: LinkedText, colour: bool) -> Fragments:
    """The text with its mentions coloured, or in brackets; long stretches without mentions are shortened."""
    places = ranks(linked.links)
    fragments: Fragments = []
    for start, end, owner in segments(linked):
        piece = printable(linked.text[start:end])
        if owner is not None:
            fragments.append(_mention(piece, places[owner], colour))
        elif len(piece) > LONGEST_GAP:
            half = LONGEST_GAP // 2
            note = f" … {len(piece) - 2 * half:,} characters … "
            fragments += [("", piece[:half]), ("class:faint", note), ("", piece[-half:])]
        else:
            fragments.append(("", piece))
    return [*fragments, ("", "\n")]


def _mention(text: str, rank: int, colour: bool) -> tuple[str, str]:
    return (f"class:mention{rank % len(COLOURS)}", text) if colour else ("", f"[{text}]")


def name_of(kb_id: str | None, row: int) -> str:
    """The id of an entity, or its row where it has none."""
    return kb_id or f"row {row}"


def score_text(score: float) -> str:
    """A score as shown."""
    return f"{score:.3f}"


def threshold_text(threshold: float | None) -> str:
    """A threshold as shown."""
    return "none" if threshold is None else f"{threshold:g}"


def _head(number: int, link: Link, rank: int, colour: bool) -> Fragments:
    return [
        ("class:faint", f"{number:>2}  "),
        _mention(one_line(link.mention, 60), rank, colour),
        ("", " → "),
        ("class:title", one_line(link.title)),
        ("class:id", f"  {name_of(link.kb_id, link.row)}"),
    ]


def compact_card(number: int, link: Link, rank: int, entity: Entity, triple: tuple[int, int, int], view: View) -> Fragments:
    """A link in the shell: mention, title, id, score; the description, shortened; the next best candidates."""
    fragments = [*_head(number, link, rank, view.colour), ("class:score", f"  {score_text(link.score)}\n")]
    fragments.append(("", wrapped(entity.text, view.room, 4, DESCRIPTION_LINES)))
    others = [f"{one_line(c.title)} {score_text(c.score)}" for c in link.candidates[1 : view.k]]
    if others:
        fragments.append(("class:faint", wrapped("or " + " · ".join(others), view.room, 4)))
    return fragments


def labelled_card(number: int, link: Link, rank: int, entity: Entity, triple: tuple[int, int, int], view: View) -> Fragments:
    """A link in the original's dialogue: the mention, then a line each for id, title, score, triple and description."""
    lines = [one_line(link.mention)]
    lines += [f"  Wikidata ID: {link.kb_id}"] if link.kb_id else []
    row, start, end = triple
    lines += [f"  Title: {one_line(link.title)}", f"  Score: {link.score:.6f}", f"  Triple: ('{row}', {start}, {end})"]
    lines.append(f"  Text: {one_line(entity.text)}")
    return [("", "\n".join(lines) + "\n")]


def no_links(best: Link | None, threshold: float | None) -> Fragments:
    """What to say when nothing is linked: the best guess that was turned down, and how to see it."""
    if best is None:
        return [("class:faint", "no links: the text holds nothing that reads as a mention\n")]
    fragments: Fragments = [
        ("", f"no links above {threshold_text(threshold)}; the best guess below it:\n    “{one_line(best.mention, 60)}” → "),
        ("class:title", one_line(best.title)),
        ("class:id", f"  {name_of(best.kb_id, best.row)}"),
        ("class:score", f"  {score_text(best.score)}\n"),
    ]
    lower = math.floor(best.score * 10) / 10
    hint = f"to see it, type c and then {lower:g} (or :threshold {lower:g})\n" if math.isfinite(lower) else ""
    return [*fragments, ("class:faint", hint)]


def banner(entities: int, example: str | None) -> Fragments:
    """The greeting."""
    fragments: Fragments = [
        ("class:title", "BLINK"),
        ("", f" links what you type to {entities:,} entities.\n"),
        ("class:faint", ":help explains, Ctrl-D leaves.\n"),
    ]
    return [*fragments, ("class:faint", f"Try: {example}\n")] if example else fragments


def share(log_probability: float) -> str:
    """A log-probability as a percentage."""
    percent = 100 * math.exp(min(log_probability, 0.0))
    return "<1 %" if percent < 1 else f"{percent:.0f} %"


def span_of(reading: Reading, link: Link) -> int:
    """The place in ``reading.spans`` of the span that became ``link``.

    Raises:
        DataError: none did.
    """
    spans = reading.spans
    for i in np.flatnonzero(spans.rows[:, 0] == link.row).tolist():
        if characters(reading, int(spans.start[i]), int(spans.end[i])) == (link.start, link.end):
            return int(i)
    raise DataError(f"“{link.mention}” was not linked in this text; type the text again")


def triple_of(reading: Reading, link: Link) -> tuple[int, int, int]:
    """The original's triple: the row of a link, its first word piece, and the one past its last."""
    span = span_of(reading, link)
    return link.row, int(reading.spans.start[span]), int(reading.spans.end[span]) + 1


def explanation(number: int, linked: LinkedText, reading: Reading, linker: Linker, view: View) -> Fragments:
    """Why link ``number`` was made: its probabilities, the losing candidates and spans, and the winner's description."""
    link = linked.links[number - 1]
    span = span_of(reading, link)
    fragments = _head(number, link, ranks(linked.links)[number - 1], view.colour)
    fragments.append(("class:faint", f"  characters {link.start} to {link.end}\n"))
    fragments += _figures(link, reading.spans, span, linker.mode)
    fragments += _losing_candidates(link)
    fragments += _losing_spans(reading, span, linker)
    fragments.append(("class:key", "    about the winner\n"))
    return [*fragments, ("", wrapped(linker.catalogue[link.row].text or "no description", view.room, 6) + "\n")]


def _figures(link: Link, spans: ScoredSpans, span: int, mode: str) -> Fragments:
    mention = float(log_sigmoid(spans.mention_logits)[span])
    entity = float(log_softmax(spans.entity_logits)[span, 0])
    joint = MODES[mode].scores is joint_scores
    meaning = "their sum" if joint else "the inner product of mention and entity"
    rows = [
        ("mention", mention, share(mention), "that these words name an entity"),
        ("entity", entity, share(entity), f"that they name this one of {len(link.candidates)} candidates"),
        ("score", link.score, share(link.score) if joint else "", meaning),
    ]
    return [
        fragment
        for name, value, percent, note in rows
        for fragment in [
            ("", f"    {name:<8}"),
            ("class:score", f"{score_text(value):>8}"),
            ("", f"{percent:>7}  "),
            ("class:faint", note + "\n"),
        ]
    ]


def _losing_candidates(link: Link) -> Fragments:
    if len(link.candidates) < 2:
        return [("class:faint", "    no other candidate\n")]
    losers = link.candidates[1:]
    margin = link.score - losers[0].score
    fragments: Fragments = [
        ("class:key", "    losing candidates"),
        ("class:faint", f", the first behind by {score_text(margin)}\n"),
    ]
    return [*fragments, *(f for c in losers for f in _scored_line(one_line(c.title, 44), name_of(c.kb_id, c.row), c.score))]


def _losing_spans(reading: Reading, span: int, linker: Linker) -> Fragments:
    spans = reading.spans
    best = MODES[linker.mode].scores(spans)[:, 0]
    touching = (spans.start <= spans.end[span]) & (spans.end >= spans.start[span]) & (spans.rows[:, 0] >= 0)
    touching[span] = False
    order = [i for i in np.argsort(-best, kind="stable").tolist() if touching[i]]
    if not order:
        return [("class:faint", "    no other span overlaps it\n")]
    fragments: Fragments = [("class:key", "    losing spans"), ("class:faint", " that overlap it, with their best entity\n")]
    for i in order[:OVERLAPS_SHOWN]:
        start, end = characters(reading, int(spans.start[i]), int(spans.end[i]))
        entity = linker.catalogue[int(spans.rows[i, 0])]
        named = f"“{one_line(reading.text[start:end], 40)}” → {one_line(entity.title, 40)}"
        fragments += _scored_line(named, name_of(entity.kb_id, entity.row), float(best[i]))
    if len(order) > OVERLAPS_SHOWN:
        fragments.append(("class:faint", f"      and {len(order) - OVERLAPS_SHOWN} more\n"))
    return fragments


def _scored_line(named: str, kb_id: str, score: float) -> Fragments:
    return [("class:score", f"    {score_text(score):>16}"), ("", f"  {named}"), ("class:id", f"  {kb_id}\n")]


# --- completion -----------------------------------------------------------------------------------------------------

Name = tuple[str, str, str]
"""What completion knows of an entity: folded name, name, title."""


def names_of(entities: Iterable[Entity]) -> list[Name]:
    """Titles, without what stands in brackets at their end, and aliases; sorted for `completions`."""
    names = set()
    for entity in entities:
        bare = entity.title.split(" (")[0] if entity.title.endswith(")") else entity.title
        names |= {(name.casefold(), name, entity.title) for name in (bare or entity.title, *entity.aliases)}
    return sorted(names)


def completions(line: str, names: list[Name], most: int = 30) -> list[tuple[str, str, str]]:
    """What may stand for the end of ``line``: commands after a colon, else names of entities.

    Returns:
        what is replaced (an end of ``line``), what with, and a note.
    """
    if line.startswith(":"):
        return [(line, f":{name}", command.does) for name, command in COMMANDS.items() if name.startswith(line[1:])]
    starts = [i for i, c in enumerate(line) if not c.isspace() and (i == 0 or line[i - 1].isspace())]
    found: dict[str, tuple[str, str, str]] = {}
    for start in starts[-4:]:  # the longest ending first
        typed = line[start:]
        folded = typed.casefold()
        if len(folded) < 2:
            continue
        for at in range(bisect_left(names, (folded,)), len(names)):
            key, name, title = names[at]
            if not key.startswith(folded) or len(found) >= most:
                break
            found.setdefault(name, (typed, name, title if title != name else ""))
    return list(found.values())


# --- the session ----------------------------------------------------------------------------------------------------


class Console(Protocol):
    """Where lines come from and where fragments go."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def colour(self) -> bool:
        """Whether colours are shown."""

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """A line from the user. With ``hint``, which stands in the toolbar then, it does not go into the history.

        Raises:
            EOFError: there are no more.
            Cancelled: Ctrl-C.
        """

    def show(self, fragments: Fragments) -> None:
        """Bring fragments to the screen; they hold their line ends."""


class Cancelled(Exception):
    """Ctrl-C was pressed at a prompt; ``line`` is what stood there."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


class Leave(Exception):
    """The user wants to leave the session."""


Card = Callable[[int, Link, int, Entity, "tuple[int, int, int]", View], Fragments]


@dataclass(frozen=True)
class Look:
    """Prompts and the form of an answer.

    Attributes:
        first: prompt for a text.
        after: prompt after an answer.
        card: shows one link.
    """

    first: str
    after: str
    card: Card = compact_card


SHELL = Look("text> ", "n next, c threshold, or text> ")
DIALOGUE = Look("insert text: ", "Next question [n] / change threshold [c]: ")
PLAIN_DIALOGUE = replace(DIALOGUE, card=labelled_card)


@dataclass(frozen=True)
class Command:
    """A colon command: what follows its name, what it does, and how."""

    takes: str
    does: str
    run: Callable[[Session, str], Fragments]


class Session:
    """A conversation: the last reading, the links chosen from it, and the settings that choose and show them.

    Args:
        linker: links the texts; it is not changed.
        console: the user.
        look: prompts and the form of answers.
        k: candidates listed per link, the winner included.
        batch_size: windows of a long text that go through the model at once.
    """

    def __init__(self, linker: Linker, console: Console, look: Look = SHELL, *, k: int = 3, batch_size: int = 64) -> None:
        self.linker = linker
        self.console = console
        self.look = look
        self.k = min(k, self.most_candidates)
        self.batch_size = batch_size
        self.cut = linker.cut
        self.reading: Reading | None = None
        self.linked: LinkedText | None = None
        self._cancelled = False  # whether the last line was

    @property
    def most_candidates(self) -> int:
        """Candidates that the linker retrieves per mention."""
        return self.linker.options.entities

    @property
    def view(self) -> View:
        """How to show things now."""
        return View(self.console.width, self.console.colour, self.k)

    @property
    def prompt(self) -> str:
        """The prompt for the next line."""
        return self.look.first if self.reading is None else self.look.after

    @cached_property
    def names(self) -> list[Name]:
        """Names of entities to complete; none where the catalogue is large."""
        catalogue = self.linker.catalogue
        return names_of(catalogue) if len(catalogue) <= MOST_TITLES else []

    def toolbar(self) -> Fragments:
        """Settings in a line, and what can be typed now."""
        keys = ":help · Ctrl-D leaves" if self.reading is None else ":explain N · :help · Ctrl-D leaves"
        settings = f"threshold {threshold_text(self.threshold)} · k {self.k} · {len(self.linker.catalogue):,} entities"
        return [("", f" {settings}  │  {keys}")]

    # How links are filtered in the linker's mode.

    @property
    def _deciding(self) -> str | None:
        """The field of `Thresholds` that decides in the linker's mode; None where no threshold does."""
        if self.linker.mode == "top_entity_by_mention":
            return "mention"
        return None if self.linker.mode in ("top_joint_by_mention", "best_entity_by_mention") else "score"

    @property
    def threshold(self) -> float | None:
        """The threshold that decides, or None if the linker's mode has none."""
        return None if self._deciding is None else cast("float | None", getattr(self.cut, self._deciding))

    def _cut_at(self, threshold: float) -> Thresholds:
        return self.cut if self._deciding is None else replace(self.cut, **{self._deciding: threshold})

    # Turns of the conversation.

    def run(self) -> None:
        """Answer lines until the user leaves."""
        while True:
            try:
                self._turn()
            except (EOFError, Leave):
                return
            except KeyboardInterrupt:
                # Between two prompts Ctrl-C is a signal, and not a key: it may come anywhere, even while we print.
                if self._cancelled:
                    return
                self.console.show([("class:faint", "\nstopped\n")])

    def _turn(self) -> None:
        try:
            line = self.console.ask(self.prompt)
            self._cancelled = False
            self.console.show(self.handle(line))
        except Cancelled as stop:
            if self._cancelled and not stop.line:
                raise Leave from stop
            self._cancelled = True
            self.console.show([("class:faint", "Ctrl-C once more, or Ctrl-D, leaves\n")])
        except BlinkError as error:
            self.console.show([("class:error", wrapped(str(error), self.console.width))])

    def handle(self, line: str) -> Fragments:
        """Do what a line says, and return what to show.

        Raises:
            BlinkError: the line cannot be followed; the message says why.
            Leave: it says so.
        """
        if not line.strip():
            return []
        if line.rstrip() in ("n", "c"):
            return self.next_text() if line[0] == "n" else self.ask_threshold()
        if line.startswith(":"):
            name, _, argument = line[1:].partition(" ")
            return command_named(name).run(self, argument.strip())
        return self.read(line)

    def read(self, text: str) -> Fragments:
        """Run the model over a text and show its links."""
        check_text(text, "the text")
        self.next_text()
        if len(text) > LONGEST_REMEMBERED:
            self.console.show([("class:faint", f"reading {len(text):,} characters; Ctrl-C stops\n")])
        reading = next(iter(self.linker.read([text], batch_size=self.batch_size)))
        self.linked = self.linker.choose(reading, self.cut)
        self.reading = reading
        return self.answer()

    def next_text(self) -> Fragments:
        """Forget the last answer."""
        self.reading = self.linked = None
        return []

    def answer(self) -> Fragments:
        """The links of the last text."""
        if self.reading is None or self.linked is None:
            return []
        links = self.linked.links
        view, places = self.view, ranks(links)
        fragments = [*marked_text(self.linked, view.colour), ("", "\n")]
        for number, (link, rank) in enumerate(zip(links, places, strict=True), 1):
            entity = self.linker.catalogue[link.row]
            fragments += self.look.card(number, link, rank, entity, triple_of(self.reading, link), view)
        if not links:
            fragments += no_links(self._best_guess(self.reading), self.threshold)
        return [*fragments, ("", "\n")]

    def _best_guess(self, reading: Reading) -> Link | None:
        lowest = Thresholds(-math.inf, None if self.cut.mention is None else -math.inf)
        return max(self.linker.choose(reading, lowest).links, key=lambda link: link.score, default=None)

    # Commands.

    def ask_threshold(self) -> Fragments:
        """Ask for a threshold until it is one, and filter the last reading again; Ctrl-C keeps the old one."""
        self._require_threshold()
        self.console.show([("", f"the threshold is {threshold_text(self.threshold)}\n")])
        while True:
            try:
                typed = self.console.ask(
                    "new threshold: ", "a number such as -2.5, or -inf; Ctrl-C keeps the threshold as it is"
                )
                return self.set_threshold(number_from(typed))
            except Cancelled:
                return [("class:faint", f"the threshold stays at {threshold_text(self.threshold)}\n")]
            except SettingsError as error:
                self.console.show([("class:error", wrapped(str(error), self.console.width))])

    def set_threshold(self, threshold: float) -> Fragments:
        """Keep links that score above ``threshold``; the last reading is filtered again, without the model."""
        self._require_threshold()
        self.cut = self._cut_at(threshold)
        if self.reading is None:
            return [("class:faint", f"the threshold is now {threshold:g}\n")]
        self.linked = self.linker.choose(self.reading, self.cut)
        return self.answer()

    def _require_threshold(self) -> None:
        if self._deciding is None:
            raise SettingsError(f"thresholding {self.linker.mode} keeps the best entity of every span; it has no threshold")

    def threshold_command(self, argument: str) -> Fragments:
        """``:threshold [X]``."""
        if argument:
            return self.set_threshold(number_from(argument))
        self._require_threshold()
        return [("", f"the threshold is {threshold_text(self.threshold)}; :threshold X changes it\n")]

    def k_command(self, argument: str) -> Fragments:
        """``:k [N]``."""
        if argument:
            self.k = count_from(argument, self.most_candidates, "k")
            if self.reading is not None:
                return self.answer()
        return [("", f"{self.k} of {self.most_candidates} candidates are listed per link, the winner included\n")]

    def explain_command(self, argument: str) -> Fragments:
        """``:explain N``."""
        if self.reading is None or self.linked is None:
            raise SettingsError("there is no answer to explain; type a text first")
        links = self.linked.links
        if not links:
            raise SettingsError("the last text has no links to explain; lower the threshold with c")
        number = count_from(argument, len(links), "the link") if argument or len(links) > 1 else 1
        return explanation(number, self.linked, self.reading, self.linker, self.view)

    def help_command(self, argument: str) -> Fragments:
        """``:help``."""
        return help_text(self.most_candidates, self.view.room)

    def quit_command(self, argument: str) -> Fragments:
        """``:quit``."""
        raise Leave


COMMANDS = {
    "threshold": Command("X", "keep links that score above X; filters the last answer again", Session.threshold_command),
    "k": Command("N", "list N candidates under each link, the winner included", Session.k_command),
    "explain": Command("N", "why link N was made, and what lost against it", Session.explain_command),
    "help": Command("", "this list", Session.help_command),
    "quit": Command("", "leave", Session.quit_command),
}
"""Colon commands by name; a beginning that fits one of them only will do."""


def command_named(name: str) -> Command:
    """Look a command up by its name or the beginning of it.

    Raises:
        SettingsError: none, or several, are called so.
    """
    fitting = [each for each in COMMANDS if each.startswith(name)]
    if len(fitting) == 1 or name in COMMANDS:
        return COMMANDS[name if name in COMMANDS else fitting[0]]
    raise SettingsError(f"there is no command {':' + name!r}; there are {', '.join(':' + each for each in COMMANDS)}")


def number_from(typed: str) -> float:
    """A threshold as typed; ``-inf`` is one.

    Raises:
        SettingsError: it is no number.
    """
    with suppress(ValueError):
        number = float(typed.strip().replace("−", "-"))
        if not math.isnan(number):
            return number
    raise SettingsError(f"{typed.strip()!r} is not a number; give one such as -2.5, or -inf to see everything")


def count_from(typed: str, most: int, name: str) -> int:
    """A whole number from 1 to ``most``.

    Raises:
        SettingsError: it is none.
    """
    with suppress(ValueError):
        number = int(typed)
        if 1 <= number <= most:
            return number
    found = f"{name} is {typed!r}" if typed else f"the number of {name} is missing"
    raise SettingsError(f"{found}; give a whole number from 1 to {most}" if most > 1 else f"{found}; there is only 1")


def help_text(most_candidates: int, room: int) -> Fragments:
    """What can be typed, in lines of at most ``room`` columns."""
    rows = [
        ("a text", "its mentions are linked (put a blank before a text that begins with a colon)"),
        ("n", "after an answer: the next text"),
        ("c", "change the threshold; the answer is filtered again, the model does not run again"),
    ]
    rows += [(f":{name} {command.takes}".rstrip(), command.does) for name, command in COMMANDS.items()]
    rows += [
        ("Tab", "complete a command or the name of an entity"),
        ("Up, Right", "earlier texts; take the grey suggestion"),
        ("Ctrl-C, Ctrl-D", "cancel the line, or stop the model; leave"),
    ]
    notes = (
        "Scores are log-probabilities, at most 0: how sure that the words name an entity, plus how sure that it is this one "
        f"of the {most_candidates} candidates retrieved. k says only how many of these are listed; it changes no score. "
        ":explain 2 shows both parts for link 2."
    )
    lines: Fragments = []
    for key, does in rows:
        # The key stands where the first line of its wrapped explanation is indented.
        lines += [("class:key", f"  {key:<16}"), ("", wrapped(does, room, 18)[18:])]
    return [*lines, ("class:faint", "\n" + wrapped(notes, room, 2) + "\n")]


# --- consoles -------------------------------------------------------------------------------------------------------


class LineConsole:
    """Lines from an iterable, plain text to standard output; what was said is echoed, so that it reads as a dialogue."""

    width = 10_000  # an error stays on one line
    colour = False

    def __init__(self, lines: Iterable[str], write: Callable[[str], object] | None = None) -> None:
        self._lines = iter(lines)
        self._write = write or _write_out

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """The next line."""
        self._write(prompt)
        line = next(self._lines, None)
        self._write((printable(line) if line is not None else "") + "\n")
        if line is None:
            raise EOFError
        return line

    def show(self, fragments: Fragments) -> None:
        """Write the text of the fragments."""
        self._write("".join(text for _, text in fragments))


def _write_out(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


class TerminalConsole:
    """A terminal, by prompt_toolkit: history, suggestions from it, completion, and a toolbar."""

    def __init__(self, history: Path | None = None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.application import get_app_session
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import DummyHistory
        from prompt_toolkit.styles import Style

        self._output = get_app_session().output
        self._style = Style.from_dict(STYLE if self.colour else {"title": "bold", "key": "bold", "prompt": "bold"})
        self._suggest: AutoSuggest = AutoSuggestFromHistory()
        self._texts: PromptSession[str] = PromptSession(history=open_history(history or history_file()))
        self._answers: PromptSession[str] = PromptSession(history=DummyHistory())
        self._toolbar: Callable[[], Any] | None = None
        self._completer: Completer | None = None

    def attach(self, session: Session) -> None:
        """Take toolbar and completion from a session."""
        self._completer = _completer(lambda line: completions(line, [] if line.startswith(":") else session.names))
        self._toolbar = session.toolbar

    @property
    def width(self) -> int:
        """Columns."""
        return self._output.get_size().columns

    @property
    def colour(self) -> bool:
        """Whether the terminal shows colours and the user wants them (``NO_COLOR``)."""
        from prompt_toolkit.output import ColorDepth

        return self._output.get_default_color_depth() != ColorDepth.DEPTH_1_BIT

    def ask(self, prompt: str, hint: str | None = None) -> str:
        """A line typed."""
        from prompt_toolkit.filters import Condition

        session = self._texts if hint is None else self._answers
        try:
            return session.prompt(
                [("class:prompt", prompt)],
                style=self._style,
                bottom_toolbar=self._toolbar if hint is None else f" {hint}",
                completer=self._completer if hint is None else None,
                complete_while_typing=Condition(lambda: session.default_buffer.text.startswith(":")),
                auto_suggest=self._suggest if hint is None else None,
                enable_suspend=True,
            )
        except KeyboardInterrupt as stop:
            raise Cancelled(session.default_buffer.text) from stop

    def show(self, fragments: Fragments) -> None:
        """Print the fragments in colour."""
        from prompt_toolkit import print_formatted_text
        from prompt_toolkit.formatted_text import FormattedText

        if fragments:
            print_formatted_text(FormattedText(fragments), style=self._style, output=self._output, end="")


def _completer(complete: Callable[[str], list[tuple[str, str, str]]]) -> Completer:
    """prompt_toolkit's form of `completions`."""
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Endings(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            for replaced, text, note in complete(document.text_before_cursor):
                yield Completion(text, start_position=-len(replaced), display_meta=one_line(note, 60))

    return Endings()


def history_file() -> Path | None:
    """Where earlier texts are kept: in the user's state folder; None where there is no home."""
    with suppress(RuntimeError):
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "blink" / "history"
    return None


def open_history(path: Path | None) -> History:
    """Earlier texts, kept in a file that only the user reads; in memory where it cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Texts(FileHistory):
        def append_string(self, string: str) -> None:
            if string.strip() not in ("n", "c", "") and len(string) <= LONGEST_REMEMBERED:
                super().append_string(string)

        def store_string(self, string: str) -> None:
            with suppress(OSError, UnicodeError):  # a full disk costs the history, not the answer
                super().store_string(string)

    try:
        if path is None:
            return InMemoryHistory()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return Texts(str(path))

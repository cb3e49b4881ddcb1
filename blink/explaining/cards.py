"""Formats answers: a card per link, and the messages around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from blink.data.display import one_line
from blink.data.records import Entity, Link
from blink.explaining.render import Fragments, View, hyperlinked, mention, name_of, score_text, threshold_text, wrapped

DESCRIPTION_LINES = 2


def head(number: int, link: Link, rank: int, view: View) -> Fragments:
    """The first line of a link, unfinished: number, mention, entity."""
    return [
        ("class:faint", f"{number:>2}  "),
        mention(one_line(link.mention, 60), rank, view.colour),
        ("", " → "),
        *_entity(link, view),
    ]


def _entity(link: Link, view: View) -> Fragments:
    title = hyperlinked(("class:title", one_line(link.title)), link.url, view)
    return [*title, ("class:id", f"  {name_of(link.kb_id, link.row)}")]


def compact_card(number: int, link: Link, rank: int, entity: Entity, triple: tuple[int, int, int], view: View) -> Fragments:
    """A link in the shell: mention, title, id, score; the description, shortened; the next best candidates."""
    fragments = [*head(number, link, rank, view), ("class:score", f"  {score_text(link.score)}\n")]
    fragments.append(("", wrapped(entity.text, view.room, 4, DESCRIPTION_LINES)))
    losers = [c for c in link.candidates[1 : view.k] if c.score >= view.least]
    others = [f"{one_line(c.title)} {score_text(c.score)}" for c in losers]
    if others:
        fragments.append(("class:faint", wrapped("or " + " · ".join(others), view.room, 4)))
    return fragments


def labelled_card(number: int, link: Link, rank: int, entity: Entity, triple: tuple[int, int, int], view: View) -> Fragments:
    """A link in the original's dialogue: the mention, then a line each for id, title, score, triple and description."""
    lines = [one_line(link.mention)]
    lines += [f"  Wikidata ID: {one_line(link.kb_id)}"] if link.kb_id else []
    row, start, end = triple
    lines += [f"  Title: {one_line(link.title)}", f"  Score: {link.score:.6f}", f"  Triple: ('{row}', {start}, {end})"]
    lines.append(f"  Text: {one_line(entity.text)}")
    return [("", "\n".join(lines) + "\n")]


def no_links(best: Link | None, threshold: float | None, view: View | None = None) -> Fragments:
    """The message for a text without links: the best rejected link, and how to see it."""
    if best is None:
        return [("class:faint", "no links: the text holds nothing that reads as a mention\n")]
    fragments: Fragments = [
        ("", f"no links above {threshold_text(threshold)}; the best guess below it:\n    “{one_line(best.mention, 60)}” → "),
        *_entity(best, view or View()),
        ("class:score", f"  {score_text(best.score)}\n"),
    ]
    digits = 100 if 0 < best.score < 1 else 10  # probabilities lie close together
    if not math.isfinite(best.score):
        return fragments
    lower = (math.ceil(best.score * digits) - 1) / digits  # truly below: links must score above the threshold
    return [*fragments, ("class:faint", f"to see it, type c and then {lower:g} (or :threshold {lower:g})\n")]


def banner(entities: int, example: str | None) -> Fragments:
    """The greeting."""
    fragments: Fragments = [
        ("class:title", "BLINK"),
        ("", f" links what you type to {entities:,} entities.\n"),
        ("class:faint", ":help explains, q or Ctrl-D leaves.\n"),
    ]
    return [*fragments, ("class:faint", f"Try: {example}\n")] if example else fragments


Card = Callable[[int, Link, int, Entity, tuple[int, int, int], View], Fragments]
"""Formats a link: from its number, the link, its rank, its entity, the original's triple, and the view."""


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
PLAIN_DIALOGUE = Look("insert text: ", "Next question [n] / change threshold [c]: ", labelled_card)
"""The original's dialogue, prompts included, for pipes."""
DIALOGUE = Look("insert text (q quits): ", "Next question [n] / change threshold [c] / quit [q]: ")
"""The same on a terminal."""

"""Explained texts as `blink link --explain` prints them: for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from blink.data.display import one_line, printable
from blink.data.link_formats import EXPLAINED, LinkFormat
from blink.errors import SettingsError
from blink.explaining.explain import changes_of, shown_losers
from blink.explaining.explanation import LINKED, ExplainedCandidate, ExplainedMention, Explanation
from blink.explaining.render import name_of
from blink.explaining.unlinked import reason_of

CANDIDATES = 3


def explanation_pieces(explanations: Iterable[Explanation], form: LinkFormat) -> Iterator[str]:
    """What is written of explained texts: a piece for each.

    Args:
        explanations: of the texts.
        form: one of `EXPLAINED`.

    Raises:
        SettingsError: it is another.
    """
    if form.name not in EXPLAINED:
        raise SettingsError(f"explanations are {', '.join(EXPLAINED)}; {form.name} has links alone")
    return (_text(of, form) if form.name == "text" else _json(of, form) for of in explanations)


def _json(explanation: Explanation, form: LinkFormat) -> str:
    value = explanation.to_json()
    for scored in (*value["links"], *value["mentions"]):
        scored["candidates"] = scored["candidates"][: form.candidates]
    return json.dumps(value if form.digits is None else _rounded(value, form.digits), ensure_ascii=form.is_ascii) + "\n"


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {key: of if key.endswith("threshold") else _rounded(of, digits) for key, of in value.items()}
    if isinstance(value, list):
        return [_rounded(of, digits) for of in value]
    return round(value, digits) if isinstance(value, float) else value


def _text(explanation: Explanation, form: LinkFormat) -> str:
    linked = [m for m in explanation.mentions if m.status == LINKED]
    others = [m for m in explanation.mentions if m.status != LINKED and m.candidates]
    lines = [printable(explanation.text)]
    for mention in linked:
        lines += [f"  {_named(mention, form)}", *_details(mention, explanation, form)]
    lines += [] if linked else ["  no links"]
    lines += ["  not linked:"] if others else []
    lines += [f"    {_named(mention, form)}; {reason_of(mention, explanation)}" for mention in others]
    return "".join(f"{line}\n" for line in lines)


def _named(mention: ExplainedMention, form: LinkFormat) -> str:
    target = _entity(mention.candidates[0])
    return f"{mention.start}-{mention.end}  {one_line(mention.mention)} -> {target}  {form.score(mention.score, 3)}"


def _entity(explained: ExplainedCandidate) -> str:
    of = explained.candidate
    return f"{one_line(of.title)} ({name_of(of.kb_id, of.row)})"


def _details(mention: ExplainedMention, explanation: Explanation, form: LinkFormat) -> Iterator[str]:
    best = mention.candidates[0]
    figures = [f"mention {form.score(mention.mention_score, 3)}", f"entity {form.score(best.parts['entity'], 3)}"]
    if changes := changes_of(best):
        figures.append(f"without {form.score(best.parts['base'], 3)}")
        figures += [f"{name} {'+' if change >= 0 else ''}{form.score(change, 3)}" for name, change in changes.items()]
    yield f"      {', '.join(figures)}"
    if best.reasons:
        yield f"      {'; '.join(best.reasons)}"
    shown, hidden = shown_losers(mention, explanation.score_kind)
    most = CANDIDATES if form.candidates is None else form.candidates
    for loser in shown[: max(most - 1, 0)]:
        yield f"      or {_entity(loser)}  {form.score(loser.candidate.score, 3)}, behind by {form.score(loser.behind, 3)}"
    if hidden and most:
        yield f"      {'or ' if not shown else ''}{hidden}"

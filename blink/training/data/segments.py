"""Texts joined from plain strings and names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from blink.data.records import NOT_IN_CATALOGUE, Mention, Sample

Segment = str | tuple[str, int]
"""Plain text, or a name with the row of its entity; see `NO_MENTION`."""

NO_MENTION = NOT_IN_CATALOGUE - 1
"""Row of a name that is not a mention."""

SLOT = re.compile(r"\{(\w)\}")


def filled(template: str, slots: Mapping[str, Segment]) -> list[Segment]:
    """The segments of a template whose ``{x}`` are replaced with the values of ``slots``."""
    segments: list[Segment] = []
    offset = 0
    for slot in SLOT.finditer(template):
        segments += [template[offset : slot.start()], slots[slot[1]]]
        offset = slot.end()
    return [*segments, template[offset:]]


def assemble(name: str, segments: Sequence[Segment]) -> Sample:
    """A text with a mention for each name whose row is that of an entity or `NOT_IN_CATALOGUE`."""
    text, mentions = "", []
    for segment in segments:
        if isinstance(segment, str):
            text += segment
            continue
        form, row = segment
        if row >= NOT_IN_CATALOGUE:
            mentions.append(Mention(len(text), len(text) + len(form), row))
        text += form
    return Sample(name, text, tuple(mentions))

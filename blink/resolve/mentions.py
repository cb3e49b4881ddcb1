"""Mentions in their sentences, as the linker links them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blink.resolve.records import Record

if TYPE_CHECKING:
    from blink.linking.linker import Linker


def linked_mentions(linker: Linker | None, records: Sequence[Record]) -> dict[int, tuple[int, float]]:
    """For records with a span in their context: row and probability of the linker's best entity.

    Args:
        linker: in mode ``probability``; None for none.
        records: of which those with a span are linked, the spans of one text together.

    Returns:
        by index of the record.
    """
    if linker is None or linker.mode != "probability":
        return {}
    of_text: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        if record.span is not None:
            of_text[record.context].append(i)
    links: dict[int, tuple[int, float]] = {}
    spans = [[records[i].span for i in of] for of in of_text.values()]
    for indices, linked in zip(of_text.values(), linker(list(of_text), spans=spans) if of_text else [], strict=True):  # type: ignore[arg-type]
        by_span = {(link.start, link.end): (link.row, link.score) for link in linked.links}
        links |= {i: by_span[span] for i in indices if (span := records[i].span) is not None and span in by_span}
    return links

"""Builds links: the titles, ids, descriptions and addresses of what spans were decoded to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from blink.data.records import Candidate, Link
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.view import View
from blink.linking.analysis import Analysis
from blink.linking.decoder import DecodedSpan

KEPT_TEXTS = 1 << 14
"""Entities whose descriptions stay in memory."""

Description: TypeAlias = tuple[str, str | None, tuple[str, ...]]
"""Description, address and types of an entity."""


class LinkBuilder:
    """Builds links.

    Args:
        kb: the knowledge base, whose current state is read.
    """

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb = kb
        self._texts: tuple[View, dict[int, Description]] = (kb.view, {})

    def build(self, analysis: Analysis, decoded: Sequence[DecodedSpan], scores: np.ndarray) -> tuple[Link | None, ...]:
        """The links of decoded spans; None for those to entities that were removed since the text was analyzed.

        Args:
            analysis: of the text.
            decoded: spans to link.
            scores: of the candidates of all spans of the analysis. *Shape:* (m, k), float32.
        """
        rows, n_rows = analysis.spans.rows, len(self._kb.catalogue)
        # Rows of -1 are at the end; none is too high unless another catalogue was built since.
        of_links = [[row for row in rows[d.span].tolist() if 0 <= row < n_rows] for d in decoded]
        distinct = list(dict.fromkeys(row for of_link in of_links for row in of_link))
        names = dict(zip(distinct, self._kb.titles_and_ids(distinct), strict=True))
        links: list[Link | None] = []
        for span, of_link in zip(decoded, of_links, strict=True):
            if not of_link or not names[of_link[0]][0]:
                links.append(None)
                continue
            of_span = zip(of_link, scores[span.span].tolist(), strict=False)
            candidates = tuple(Candidate(row, names[row][1], names[row][0], score) for row, score in of_span)
            best, mention = candidates[0], analysis.text[span.start : span.end]
            about = (best.row, best.kb_id, best.title, best.score, candidates, *self.described(best.row))
            links.append(Link(span.start, span.end, mention, *about))
        return tuple(links)

    def described(self, row: int) -> Description:
        """Description, address and types of an entity; those of recent links are kept, since reading one parses its line."""
        kept = self._texts
        if kept[0] is not self._kb.view or len(kept[1]) > KEPT_TEXTS:
            kept = self._texts = (self._kb.view, {})
        view, texts = kept
        if row not in texts:
            entity = view.catalogue[row]
            texts[row] = entity.text, entity.url, entity.types
        return texts[row]

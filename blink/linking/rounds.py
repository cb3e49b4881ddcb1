"""Runs the stages on rounds of texts, over one state of the knowledge base from the first stage of a round to its last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from blink.kb.index.selector import RowSelector
from blink.kb.live.view import View
from blink.kb.where import Where
from blink.linking.analysis import Analysis, TokenizedText, WindowBatch, WindowInput
from blink.linking.candidates import without_broken_rows, without_rows
from blink.linking.document import NameMemory
from blink.linking.merging import MergedWindows, with_added
from blink.linking.ranking import ranked
from blink.linking.scoring import ScoredSpans
from blink.linking.sections import Section
from blink.linking.spans import CharacterSpan
from blink.linking.stages import Stages

Requested: TypeAlias = tuple[CharacterSpan, ...] | None
"""The caller's spans of a text."""


@dataclass(frozen=True)
class Request:
    """How texts are analyzed; ``round_characters`` as of `Linker.stream`."""

    keep: Collection[str]
    batch_size: int
    min_mention_log_prob: float
    where: Where
    round_characters: int | None = None


class Round:
    """The stages over a state of the knowledge base.

    Args:
        stages: the stages.
        view: the state.
        entity_size: dimension of mention and entity vectors.
        selector: rows that may be linked; None for all.
    """

    def __init__(self, stages: Stages, view: View, entity_size: int, selector: RowSelector | None = None) -> None:
        self.stages = stages if selector is None else stages.filtered(selector)
        self.view, self._entity_size, self._selector = view, entity_size, selector

    def filtered(self, selector: RowSelector) -> Round:
        """The same where some rows alone may be linked."""
        return Round(self.stages, self.view, self._entity_size, selector)

    def scored(
        self, sections: Sequence[Section], request: Request
    ) -> Iterator[tuple[Section, TokenizedText, list[WindowBatch]]]:
        """Yield texts with their windows and the outputs of the stages up to the graph prior."""
        stages, texts = self.stages, [section.text for section in sections]
        sources = [TokenizedText(*pair) for pair in zip(texts, stages.tokenizer.tokenize(texts), strict=True)]
        spans = [section.requested for section in sections if section.requested is not None]
        # Either all texts have requested spans, or none.
        windows = stages.windows.requested(sources, spans) if spans else stages.windows.inputs(sources)
        detected = self._detected([window for of_text in windows for window in of_text], request)
        batches = ranked(detected, stages, request.keep)
        for section, source, of_text in zip(sections, sources, windows, strict=True):
            yield section, source, list(islice(batches, len(of_text)))

    def _detected(self, inputs: Sequence[WindowInput], request: Request) -> list[WindowBatch]:
        """Mention detector and dense candidates, for all windows of a round."""
        detector, reranker, ids = self.stages.detector, self.stages.reranker, [window.ids for window in inputs]
        topics = "features" in request.keep or (reranker is not None and reranker.reads_topics)
        options = replace(detector.options, topics=topics)
        if inputs and inputs[0].requested is not None:
            spans = [[window.requested] for window in inputs if window.requested is not None]
            mentions = detector.embed(ids, spans, request.batch_size, options)
        else:
            least = max(request.min_mention_log_prob, detector.options.min_mention_log_prob)
            least = least if reranker is None else max(least, reranker.network.min_mention_log_prob)
            options = replace(options, min_mention_log_prob=least)
            splitter = self.stages.splitter
            split = None if splitter is None else lambda i, spans, scores: splitter.split(inputs[i], spans, scores)
            mentions = detector.detect(ids, request.batch_size, options, split)
        retrieved = self.stages.candidates.retrieve(mentions)
        return [WindowBatch(*stage_outputs) for stage_outputs in zip(inputs, mentions, retrieved, strict=True)]

    def merged(
        self,
        source: TokenizedText,
        batches: Sequence[WindowBatch],
        requested: Requested,
        request: Request,
        names: NameMemory | None,
    ) -> Analysis:
        """Merge the windows of a text, and apply coherence and the document stage."""
        stages, windows = self.stages, MergedWindows(batches, self.stages.candidates.size)
        spans = with_prior = windows.spans(batch.spans for batch in batches)
        if stages.coherence is not None:
            spans = stages.coherence.rescore(spans)
        proposed, coherent = len(spans), spans
        if stages.document is not None and requested is None:
            spans = stages.document.rescore(spans, source, names)
        outputs: dict[str, Callable[[], Any]] = {
            "mention_vectors": lambda: windows.mention_vectors(self._entity_size),
            "features": windows.features,
            "scores_before_prior": lambda: self._linkable(windows.spans(batch.before_prior for batch in batches)),
            "scores_before_coherence": lambda: self._linkable(with_prior),
            "scores_before_document": lambda: self._linkable(coherent),
        }
        extras = {name: outputs[name]() for name in request.keep}
        if len(spans) > proposed:
            extras = with_added(extras, spans.select(np.arange(proposed, len(spans))))
        return Analysis(source.text, source.encoding.offsets, self._linkable(spans), requested, **extras)

    def _linkable(self, spans: ScoredSpans) -> ScoredSpans:
        if self._selector is not None:  # whatever a stage without filters adds
            return without_rows(spans, ~self._selector.mask)
        return without_broken_rows(spans, self.view.catalogue)

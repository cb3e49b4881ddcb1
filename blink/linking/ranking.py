"""Ranks the candidates of all windows of a round together: names, features, reranker and graph prior.

A question has two or three spans, so what a call of numpy costs by itself would exceed the work on them by far. Blocks of
windows bound the memory of long rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from blink.data.ranges import bounds_of
from blink.errors import SettingsError
from blink.linking.analysis import DetectedMentions, WindowBatch
from blink.linking.scoring import ScoredSpans
from blink.linking.stages import Stages

SPANS_AT_ONCE = 512
"""Spans of a block, at which no further window is added to it."""


def ranked(batches: Sequence[WindowBatch], stages: Stages, keep: Collection[str] = ()) -> Iterator[WindowBatch]:
    """Yield windows with the outputs of the stages behind the dense candidates.

    Args:
        batches: windows with mentions and dense candidates.
        stages: of the linker.
        keep: outputs that the windows retain, of `blink.linking.analysis.KEEP`.

    Raises:
        SettingsError: features are needed, and the knowledge base has no names or there is no featurizer.
    """
    needs_features = stages.reranker is not None or "features" in keep
    if not needs_features and stages.graph_prior is None:
        yield from batches
        return
    for block in _blocks(batches):
        some = [batch for batch in block if len(batch.mentions)]
        with_scores = iter(_ranked_block(some, stages, keep, needs_features) if some else ())
        for batch in block:
            yield next(with_scores) if len(batch.mentions) else batch


def _blocks(batches: Sequence[WindowBatch]) -> Iterator[list[WindowBatch]]:
    block, spans = list[WindowBatch](), 0
    for batch in batches:
        block.append(batch)
        spans += len(batch.mentions)
        if spans >= SPANS_AT_ONCE:
            yield block
            block, spans = [], 0
    if block:
        yield block


def _ranked_block(
    batches: Sequence[WindowBatch], stages: Stages, keep: Collection[str], needs_features: bool
) -> list[WindowBatch]:
    bounds = bounds_of(np.array([len(batch.mentions) for batch in batches])).tolist()
    windows = list(pairwise(bounds))
    mentions = DetectedMentions.concatenate([batch.mentions for batch in batches])
    spans = ScoredSpans.concatenate([batch.retrieved for batch in batches])
    if needs_features:
        contexts = [batch.input.context(batch.mentions) for batch in batches]
        candidates = stages.candidates.expand(spans, mentions, [string for context in contexts for string in context.strings])
        if stages.featurizer is None:
            raise SettingsError("the featurizer is disabled, and its features are needed; give a featurizer")
        features = stages.featurizer.measure(candidates, contexts)
        if "features" in keep:
            batches = [replace(b, features=features.matrices(*at)) for b, at in zip(batches, windows, strict=True)]
        if stages.reranker is not None:
            spans = stages.reranker.rerank(features, contexts, spans.rows.shape[1])
            batches = [replace(b, reranked=spans.select(slice(*at))) for b, at in zip(batches, windows, strict=True)]
    if stages.graph_prior is not None:
        spans = stages.graph_prior.rescore(spans, mentions.vectors)
        batches = [replace(b, rescored=spans.select(slice(*at))) for b, at in zip(batches, windows, strict=True)]
    return list(batches)

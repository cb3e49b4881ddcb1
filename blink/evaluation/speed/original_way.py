"""The original's way to link, with the weights of a model of today: the baseline of figures of speed.

Li et al. 2020's program in its exact mode: float32, batches in file order, every text padded to one length and encoded twice
(once for the mentions, once to score entities), the 50 best spans of a text kept where none passes the threshold, and a product
of the matrices of all spans and all entities. At its start it reads every entity into dictionaries and all vectors into memory.
It has no reranker, so none runs here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis
from blink.linking.decoder import JOINT, Decoder, Thresholds
from blink.linking.scoring import ScoredSpans
from blink.model.loading import load_model
from blink.model.tokenizer import pad

MENTIONS = 50
"""Spans of a text that are kept where none passes the threshold (``--top_k``)."""
ENTITIES = 10
"""Entities of a span (``--num_cand_entities``)."""


class OriginalWay:
    """Links texts the original's way.

    Args:
        model: folder of the model.
        kb: folder of the knowledge base.
        padding: tokens that every text is padded or cut to.
        encodings: passes of the encoder over each text: 2 as the original, or 1.
    """

    def __init__(self, model: Path, kb: Path, *, padding: int = 128, encodings: int = 2) -> None:
        self._model = load_model(model).eval()
        base = KnowledgeBase.open(kb)
        self._title_of = {entity.row: entity.title for entity in base.catalogue}
        self._text_of = {entity.row: entity.text for entity in base.catalogue}
        self._id_of = {entity.row: entity.kb_id for entity in base.catalogue}
        assert base.vectors is not None  # a knowledge base that is read from a folder has them
        self._matrix = torch.from_numpy(np.array(base.vectors, dtype=np.float32))
        self._padding, self._encodings = padding, encodings
        self._threshold = self._model.config.threshold
        self._decoder = Decoder(JOINT, Thresholds(self._threshold))

    def link(self, texts: Sequence[str], batch_size: int) -> list[list[tuple[int, int, int]]]:
        """Start, end and entity of the links of each text."""
        return [links for at in range(0, len(texts), batch_size) for links in self._batch(texts[at : at + batch_size])]

    @torch.inference_mode()
    def _batch(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        model, tokenizer = self._model, self._model.tokenizer
        encodings = tokenizer.tokenize(texts)
        inputs = [[tokenizer.cls_id, *e.codes.tolist()[: self._padding - 2], tokenizer.sep_id] for e in encodings]
        ids, real = pad(inputs, tokenizer.pad_id, self._padding)
        mask = torch.from_numpy(real)
        hidden = self._encoded(torch.from_numpy(ids), mask)
        scores = model.score_spans(hidden, mask).without_ends(mask)
        if model.config.whole_words:
            scores = scores.whole_words(torch.from_numpy(tokenizer.inside_words(ids)))
        logits, start, end = scores.top(MENTIONS)
        passed = torch.nn.functional.logsigmoid(logits) > self._threshold
        passed |= ~passed.any(1, keepdim=True)
        passed &= logits > float("-inf")
        text = passed.nonzero()[:, 0]
        vectors = model.embed_mentions(hidden, text, start[passed], end[passed])
        entity_scores, rows = (column.numpy() for column in (vectors @ self._matrix.T).topk(ENTITIES))
        columns = (start[passed].numpy() - 1, end[passed].numpy() - 1, logits[passed].numpy(), rows, entity_scores)
        bounds = np.searchsorted(text.numpy(), np.arange(1, len(texts)))
        spans = (ScoredSpans(*of_text) for of_text in zip(*(np.split(column, bounds) for column in columns), strict=True))
        return [
            self._links(Analysis(string, encoding.offsets, of_text))
            for string, encoding, of_text in zip(texts, encodings, spans, strict=True)
        ]

    def _encoded(self, ids: Tensor, mask: Tensor) -> Tensor:
        for _ in range(self._encodings - 1):
            self._model.encode_context(ids, mask)
        return self._model.encode_context(ids, mask)

    def _links(self, analysis: Analysis) -> list[tuple[int, int, int]]:
        return [(d.start, d.end, int(analysis.spans.rows[d.span, 0])) for d in self._decoder.decode(analysis)]

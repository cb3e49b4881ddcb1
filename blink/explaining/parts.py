"""What scores are made of: the mention, the entity, the encoder, the reranker, and the stages behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from blink.linking.analysis import SCORES_BEFORE, Analysis
from blink.linking.decoder import MODES
from blink.linking.features import FEATURES
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans, link_probabilities, log_sigmoid, log_softmax

STAGES = ("prior", "coherence", "document")
"""Parts that stages add, in the order of `SCORES_BEFORE`."""
_LOGIT = FEATURES.index("logit")


class ScoreParts:
    """The parts of the scores of a text.

    Attributes:
        scores: of all spans and candidates, as links report them. *Shape:* (m, k), float32.

    Args:
        linker: that analyzed the text.
        analysis: of the text; parts are left out where it lacks their stage.
    """

    def __init__(self, linker: Linker, analysis: Analysis) -> None:
        self._analysis, self._is_probability = analysis, MODES[linker.mode].scores is link_probabilities
        self.scores = linker.decoder.scores(analysis)
        self._entity = log_softmax(analysis.spans.entity_logits)
        if self._is_probability:
            self._entity = np.exp(self._entity)
        before = {name: getattr(analysis, name) for name in SCORES_BEFORE}
        self._before = {
            name: (spans, linker.decoder.scores(replace(analysis, spans=spans)))
            for name, spans in before.items()
            if spans is not None
        }
        stages = linker.stages
        behind = zip(STAGES, (stages.graph_prior, stages.coherence, stages.document), strict=True)
        self._stages = [name for name, stage in behind if stage is not None]
        self._is_reranked = stages.reranker is not None

    def mention(self, i: int) -> float:
        """How sure it is that a span names something in the knowledge base: a probability, or the logarithm of one."""
        if self._analysis.requested is not None:
            return 1.0 if self._is_probability else 0.0
        if self._is_probability:
            return float(self.scores[i][np.isfinite(self.scores[i])].sum())
        return float(log_sigmoid(self._analysis.spans.mention_logits[i]))

    def of(self, i: int, row: int) -> Mapping[str, float]:
        """The parts of the score of a candidate, by name.

        - entity: that the span names this entity if it names one of the candidates, a probability or the logarithm of one.
        - encoder: inner product of the encoder.
        - reranker: log-odds of the reranker.
        - base: the score without the stages behind the reranker.
        - prior, coherence, document: what each of these stages added to it; base and these add up to the score.
        """
        parts = {"entity": _value(self._analysis.spans, self._entity, i, row), "encoder": self._encoder(i, row)}
        scores = [self._score_before(name, i, row) for name in SCORES_BEFORE if name in self._before]
        if len(scores) == len(SCORES_BEFORE):
            if self._is_reranked:
                reranked = self._before[SCORES_BEFORE[0]][0]
                parts["reranker"] = _value(reranked, reranked.entity_logits, i, row)
            parts["base"] = scores[0]
            scores.append(_value(self._analysis.spans, self.scores, i, row))
            changes = zip(STAGES, pairwise(scores), strict=True)
            parts |= {name: _change(old, new) for name, (old, new) in changes if name in self._stages}
        return {name: value for name, value in parts.items() if value is not None}

    def _score_before(self, name: str, i: int, row: int) -> float | None:
        spans, scores = self._before[name]
        score = _value(spans, scores, i, row)
        # The document stage adds candidates, which had no probability before.
        return 0.0 if score is None and self._is_probability else score

    def _encoder(self, i: int, row: int) -> float | None:
        features = self._analysis.features
        if features is not None:
            return _value(features.spans, features.values[..., _LOGIT], i, row)
        spans = self._before.get(SCORES_BEFORE[0], (self._analysis.spans,))[0]
        return None if self._is_reranked else _value(spans, spans.entity_logits, i, row)


def _value(spans: ScoredSpans, values: np.ndarray, i: int, row: int) -> float | None:
    """The value of a candidate; None where the span lacks it."""
    column = np.flatnonzero(spans.rows[i] == row)
    return float(values[i, column[0]]) if len(column) and np.isfinite(values[i, column[0]]) else None


def _change(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None else new - old

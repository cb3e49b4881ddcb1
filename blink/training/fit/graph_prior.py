"""Fits the weights of a graph prior to a model's scores, see `blink.linking.graph_prior`.

The projections of mentions and graph vectors are learned on training texts that the model was not trained on. The weights of
the terms are then fitted on development texts by maximum likelihood, none of them below 0. The cut-off is selected by weak F1,
since a prior changes the scale of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from blink.data.prior_file import PriorTable, PriorWeights
from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.errors import DataError, SettingsError
from blink.evaluation.sweep import curve, grid
from blink.linking.analysis import Analysis
from blink.linking.coherence import MIN_MENTION_LOG_PROB, PriorStages, Relatedness, mean_field_update, relatedness_of
from blink.linking.decoder import Decoder
from blink.linking.graph_prior import EntityAlignment, GraphPrior, agreement, gated, projected
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans, link_probabilities, log_softmax
from blink.linking.siblings import Siblings
from blink.training.fit.calibration import CUTOFFS
from blink.training.settings import PriorTuneSettings

COHERENCE = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Weights of coherence that are evaluated."""
MIN_LINK_PROBABILITY = 0.002
"""Spans with a smaller probability of being a link, about 90 %, are not fitted on: no weights would make them links."""
F1_TOLERANCE = 0.003
"""Largest loss of F1, against the best, of a cut-off that counts as best: about one mention in each of two small files."""
LEAST_SCORE = -12.0
"""Lowest joint score that is evaluated as cut-off."""
GATE_BIAS = -2.0
"""Initial bias of the gate: nearly closed, so that fitting starts from the scores of the text alone."""
L2_PENALTY = 1e-3
"""Weight of the squared distance of the weights from their initial values, added to the mean cross-entropy per mention."""


@dataclass(frozen=True)
class LabelledText:
    """A text analyzed by a linker without a prior, with its gold.

    Attributes:
        spans: with candidates and scores.
        mention_vectors: of the spans. *Shape:* (m, d), float32.
        alignment: of the knowledge base's entities with the prior's table.
        gold: gold row of each span, -1 without one or if the knowledge base lacks it. *Shape:* (m,), int64.
        counted: mask of the spans to fit on. In partially labelled texts, spans without gold are excluded. *Shape:* (m,), bool.
        analysis: source of the spans.
    """

    spans: ScoredSpans
    mention_vectors: np.ndarray
    alignment: EntityAlignment
    gold: np.ndarray
    counted: np.ndarray
    analysis: Analysis | None = None

    def with_prior(self, prior: PriorStages) -> Analysis:
        """The analysis, with the scores of a linker with this prior."""
        assert self.analysis is not None
        return replace(self.analysis, spans=prior.rescore(self.spans, self.mention_vectors))

    @property
    def indices(self) -> np.ndarray:
        """Indices of the candidates in the table, -1 where it lacks them. *Shape:* (m, k), int64."""
        return self.alignment[self.spans.rows]


def read_labelled(
    linker: Linker,
    samples: Sequence[Sample],
    alignment: EntityAlignment,
    *,
    gold_spans: bool = False,
    progress: Callable[[int], None] = lambda texts: None,
) -> list[LabelledText]:
    """Analyze labelled texts. Texts may be longer than a window.

    Args:
        linker: without a prior.
        samples: the texts with their gold mentions.
        alignment: of the linker's entities with a prior's table.
        gold_spans: analyze the gold mentions as requested spans, instead of the mentions that the model detects.
        progress: called with 1 after each text.

    Raises:
        SettingsError: the linker has a prior.
    """
    if linker.stages.graph_prior is not None:
        raise SettingsError("a prior is tuned on scores without any prior; open the linker without one")
    requested = [[(m.start, m.end) for m in s.mentions or ()] for s in samples] if gold_spans else None
    least = min(linker.min_mention_log_prob, MIN_MENTION_LOG_PROB)
    texts, keep = [s.text for s in samples], ("mention_vectors",)
    labelled = []
    for sample, analysis in zip(
        samples, linker.analyze(texts, spans=requested, keep=keep, min_mention_log_prob=least), strict=True
    ):
        labelled.append(_labelled(sample, analysis, alignment))
        progress(1)
    return labelled


def _labelled(sample: Sample, analysis: Analysis, alignment: EntityAlignment) -> LabelledText:
    gold = {(m.start, m.end): m.row for m in sample.mentions or ()}
    bounds = analysis.span_characters()
    rows = np.array([gold.get(b, NOT_IN_CATALOGUE) for b in bounds], dtype=np.int64)
    counted = np.array([b in gold or not sample.partial for b in bounds], dtype=bool)
    vectors = analysis.mention_vectors
    assert vectors is not None
    without_vectors = replace(analysis, mention_vectors=None)
    rows = np.where(rows == NOT_IN_CATALOGUE, -1, rows)
    return LabelledText(analysis.spans, vectors.astype(np.float32), alignment, rows, counted, without_vectors)


# --- learning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Concatenated spans of many texts.

    Attributes:
        scores: of the candidates, without NIL; -inf where there is no candidate. *Shape:* (n, k), float32.
        mentions: mention vectors. *Shape:* (n, d), float32.
        indices: of the candidates in the table, -1 where it lacks them. *Shape:* (n, k), int64.
        target: index of the right candidate, -1 for NIL. *Shape:* (n,), int64.
    """

    scores: Tensor
    mentions: Tensor
    indices: Tensor
    target: Tensor

    @classmethod
    def of(cls, texts: Sequence[LabelledText], ranked: bool) -> _Batch:
        """The spans to fit on: those whose gold is a candidate and, if the scores model NIL (``ranked``), plausible others."""
        arrays = []
        for text in texts:
            right = (text.spans.rows == text.gold[:, None]) & (text.gold >= 0)[:, None]
            target = np.where(right.any(1), right.argmax(1), -1)
            plausible = link_probabilities(text.spans).sum(1) > MIN_LINK_PROBABILITY if ranked else np.zeros(len(target), bool)
            mask = text.counted & (plausible | (target >= 0))
            arrays.append((text.spans.entity_logits[mask], text.mention_vectors[mask], text.indices[mask], target[mask]))
        if not sum(len(text_arrays[-1]) for text_arrays in arrays):
            raise DataError("the model finds no gold mention in the labelled texts; give more of them, or another model")
        columns = [torch.from_numpy(np.concatenate([p for p in column if len(p)])) for column in zip(*arrays, strict=True)]
        return cls(*columns)

    def select(self, indices: Tensor) -> _Batch:
        return _Batch(self.scores[indices], self.mentions[indices], self.indices[indices], self.target[indices])


class _Projections(nn.Module):
    """Learned projections and gate."""

    def __init__(self, text: int, graph: int, width: int) -> None:
        super().__init__()
        self.text, self.graph = nn.Linear(text, width, bias=False), nn.Linear(graph, width, bias=False)
        # Components of a unit vector are about 1 / sqrt(width), so that initial agreements are about 0.1.
        for layer in (self.text, self.graph):
            nn.init.normal_(layer.weight, std=1.0 / math.sqrt(width))
        self.gate = nn.Parameter(torch.zeros(graph))
        self.gate_bias = nn.Parameter(torch.tensor(GATE_BIAS))
        self.scale, self.shift = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, batch: _Batch, directions: Tensor) -> Tensor:
        of = directions[batch.indices]  # the last row, of -1, is of entities that the graph lacks
        gate = torch.sigmoid(of @ self.gate + self.gate_bias)
        mentions = nn.functional.normalize(batch.mentions, dim=1)
        agreed = torch.einsum("nkr,nr->nk", self.graph(of), self.text(mentions))
        is_candidate = torch.isfinite(batch.scores)
        # Not scale * -inf, whose gradient is NaN.
        scores = self.scale * batch.scores.masked_fill(~is_candidate, 0) + self.shift + gate * agreed
        return scores.masked_fill(~is_candidate, -math.inf)


def learn_vectors(
    texts: Sequence[LabelledText],
    table: PriorTable,
    settings: PriorTuneSettings,
    weights: PriorWeights,
    progress: Callable[[float], None] = lambda loss: None,
) -> PriorWeights:
    """Learn the projections and the gate, by the cross-entropy of the right candidate.

    Args:
        texts: analyzed by a model that was not trained on them, since it is overconfident on its training texts.
        table: with vectors.
        settings: see `PriorTuneSettings`.
        weights: values of all other fields.
        progress: called with the mean loss of each epoch.

    Raises:
        DataError: no gold mention was detected in the texts.
    """
    torch.manual_seed(settings.seed)
    directions = _with_none(table.directions())
    data = _Batch.of(texts, weights.ranked)
    net = _Projections(data.mentions.shape[1], directions.shape[1], settings.width)
    matrices = [net.text.weight, net.graph.weight, net.gate]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": [net.gate_bias, net.scale, net.shift], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate)
    for _ in range(settings.epochs):
        total = 0.0
        for indices in torch.randperm(len(data.target)).split(settings.batch_size):
            batch = data.select(indices)
            loss = _cross_entropy(net(batch, directions), batch, weights.ranked)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(indices)
        progress(total / len(data.target))
    text, graph, gate = (p.detach().numpy().copy() for p in matrices)
    return replace(weights, text=text, graph=graph, gate=gate, gate_bias=float(net.gate_bias.detach()), vector=1.0)


def fit_weights(texts: Sequence[LabelledText], table: PriorTable, weights: PriorWeights, terms: Sequence[str]) -> PriorWeights:
    """Fit scale, shift and the weights of ``terms`` by maximum likelihood. A term whose weight would be negative gets 0.

    For given values of the terms, the log-likelihood is concave in the weights, so that the maximum is unique.

    Raises:
        DataError: no gold mention was detected in the texts.
    """
    batch = _Batch.of(texts, weights.ranked)
    columns: dict[str, Callable[[], Tensor]] = {
        "popularity": lambda: _popularity(batch, table),
        "vector": lambda: _vector(batch, table, weights),
    }
    measured = {name: make() for name, make in columns.items() if name in terms and (name != "vector" or len(weights.text))}
    while True:
        scale, shift, coefficients = _fit_coefficients(batch, list(measured.values()), weights.ranked)
        negative = [name for name, value in zip(measured, coefficients, strict=True) if value < 0]
        if not negative:
            break
        worst = min(zip(coefficients, measured, strict=True))[1]
        measured.pop(worst)
    if scale <= 0:
        raise DataError("the scores of the right candidates are below those of wrong ones; these texts are not for this model")
    values = dict(zip(measured, coefficients, strict=True))
    popularity, vector = values.get("popularity", 0.0), values.get("vector", 0.0)
    return replace(weights, scale=scale, shift=shift if weights.ranked else 0.0, popularity=popularity, vector=vector)


def _popularity(batch: _Batch, table: PriorTable) -> Tensor:
    return _with_none(np.log1p(table.degrees).astype(np.float32))[batch.indices]


def _vector(batch: _Batch, table: PriorTable, weights: PriorWeights) -> Tensor:
    graph = _with_none(gated(table.directions(), weights)).numpy()
    return torch.from_numpy(agreement(graph[batch.indices.numpy()], projected(batch.mentions.numpy(), weights)))


def _fit_coefficients(batch: _Batch, columns: Sequence[Tensor], ranked: bool) -> tuple[float, float, list[float]]:
    """Scale, shift and weights of the columns. In double precision, since the optimum is flat."""
    wide = torch.stack([torch.where(torch.isfinite(batch.scores), batch.scores, 0), *columns], dim=-1).double()
    numbers = torch.zeros(wide.shape[-1] + 1, dtype=torch.float64)
    numbers[0] = 1.0
    begin = numbers.clone()
    numbers.requires_grad_()
    optimizer = torch.optim.LBFGS([numbers], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = (wide @ numbers[:-1] + numbers[-1]).masked_fill(~torch.isfinite(batch.scores), -math.inf)
        value = _cross_entropy(scores, batch, ranked) + L2_PENALTY * (numbers - begin).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    scale, *rest, shift = numbers.detach().tolist()
    return scale, shift, rest


def _cross_entropy(scores: Tensor, batch: _Batch, ranked: bool) -> Tensor:
    if not ranked:
        return nn.functional.cross_entropy(scores, batch.target)
    return nn.functional.cross_entropy(torch.cat([scores.new_zeros(len(scores), 1), scores], 1), batch.target + 1)


def _with_none(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([values, np.zeros((1, *values.shape[1:]), np.float32)]))


# --- coherence and the cut-off ------------------------------------------------------------------------------------------


def fit_coherence(
    texts: Sequence[LabelledText], table: PriorTable, weights: PriorWeights, kinds: Sequence[str]
) -> PriorWeights:
    """Select kind and weight of coherence by the likelihood of the texts; weight 0 if none improves it.

    Args:
        texts: development texts.
        table: of the prior.
        weights: with all other weights fitted.
        kinds: kinds of relatedness to evaluate.
    """
    alone = replace(weights, coherence=0.0)
    priors = {id(text.alignment): GraphPrior(table, alone, text.alignment) for text in texts}
    before = [replace(text, spans=priors[id(text.alignment)].rescore(text.spans, text.mention_vectors)) for text in texts]
    best = alone
    least = sum(_negative_log_likelihood(text, weights.ranked) for text in before)
    for kind in kinds:
        related, siblings = _cached(relatedness_of(table, kind)), Siblings.from_table(table)
        for weight in COHERENCE[1:]:
            loss = sum(
                _negative_log_likelihood(_coherent(text, related, weight, weights.ranked, siblings), weights.ranked)
                for text in before
            )
            if loss < least - 1e-6:
                least, best = loss, replace(weights, coherence=weight, relatedness=kind)
    return best


def _cached(related: Relatedness) -> Relatedness:
    """The same with a cache, since every weight is evaluated on the same texts."""
    results: dict[bytes, np.ndarray] = {}

    def cached(indices: np.ndarray) -> np.ndarray:
        key = indices.tobytes()
        if key not in results:
            results[key] = related(indices)
        return results[key]

    return cached


def _coherent(text: LabelledText, related: Relatedness, weight: float, ranked: bool, siblings: Siblings | None) -> LabelledText:
    if len(text.spans) < 2:
        return text
    return replace(text, spans=mean_field_update(text.spans, text.indices, related, weight, ranked, siblings))


def _negative_log_likelihood(text: LabelledText, ranked: bool) -> float:
    """Sum of -log p of the gold entities of the counted spans, with NIL if the scores model it."""
    if not text.counted.any():
        return 0.0
    logits, right = text.spans.entity_logits[text.counted], (text.spans.rows == text.gold[:, None])[text.counted]
    right &= (text.gold[text.counted] >= 0)[:, None]
    if ranked:
        logits = np.concatenate([np.zeros((len(logits), 1), np.float32), logits], 1)
        right = np.concatenate([~right.any(1, keepdims=True), right], 1)
    shares = log_softmax(logits)
    return float(-shares[right & np.isfinite(shares)].sum())


@dataclass(frozen=True)
class DevPredictions:
    """Development texts analyzed by a linker with the prior.

    Attributes:
        decoder: of links.
        samples: the texts.
        analyses: one per text.
    """

    decoder: Decoder
    samples: Sequence[Sample]
    analyses: Sequence[Analysis]


def select_cutoff(sets: Sequence[DevPredictions], ranked: bool) -> tuple[float, float]:
    """The cut-off with the best weak F1, and that F1: the mean over the sets, and over covered and all texts of each.

    Of probabilities within `F1_TOLERANCE` of the best F1 the highest is used, since a prior raises wrong links too.
    """
    thresholds = (
        CUTOFFS
        if ranked
        else grid([a for predictions in sets for a in predictions.analyses], sets[0].decoder.mode, lowest=LEAST_SCORE)
    )
    sweeps = []
    for predictions in sets:
        points = curve(predictions.decoder, predictions.analyses, predictions.samples, thresholds)
        sweeps += [[p.point("weak", covered=covered).f1 for p in points] for covered in (True, False)]
    means = np.mean(sweeps, axis=0)
    good = np.flatnonzero(means >= means.max() - (F1_TOLERANCE if ranked else 0.0))
    return float(thresholds[good[-1]]), float(means[good[-1]])

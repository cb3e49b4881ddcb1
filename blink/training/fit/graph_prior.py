"""Finds how much a prior over entities is to count beside a model's scores, see `blink.linking.graph_prior`.

The projections of mentions and graph vectors are learned on training texts that the model was not trained on; the handful of
numbers that weigh the terms are then fitted on development texts by their likelihood, none of them below 0, and the cut-off,
which another scale of scores moves, by weak F1.
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
from blink.training.fit.calibration import CUTOFFS
from blink.training.fit.reranker import require_one_window
from blink.training.settings import PriorTuneSettings

COHERENCE = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Weights of coherence that are tried."""
HOPELESS = 0.002
"""Spans that are links with a smaller probability, nine in ten, are left out: no weights would make links of them."""
CAREFUL = 0.003
"""F1 below the best that still counts as best: about one mention in each of two files of a few hundred."""
LEAST_SCORE = -12.0
"""Joint scores below it are not tried as a cut-off."""
GATE_BIAS = -2.0
"""Where the gate begins: nearly shut, so that fitting starts at the scores of the text alone."""
SHRINK = 1e-3
"""Weight of the squares of the fitted numbers, beside the mean cross-entropy of a mention."""


@dataclass(frozen=True)
class LabelledText:
    """A text as a linker analyzes it without any prior, with its gold.

    Attributes:
        spans: with candidates and scores.
        mention_vectors: of the spans. *Shape:* (m, d), float32.
        alignment: of the knowledge base's entities with the prior's table.
        gold: row that each span names, -1 where none, or none that the knowledge base has. *Shape:* (m,), int64.
        counted: spans that count: of texts that are labelled in part, those without gold do not. *Shape:* (m,), bool.
        analysis: where the spans come from.
    """

    spans: ScoredSpans
    mention_vectors: np.ndarray
    alignment: EntityAlignment
    gold: np.ndarray
    counted: np.ndarray
    analysis: Analysis | None = None

    def with_prior(self, prior: PriorStages) -> Analysis:
        """The analysis of a linker with these stages."""
        assert self.analysis is not None
        return replace(self.analysis, spans=prior.rescore(self.spans, self.mention_vectors))

    @property
    def indices(self) -> np.ndarray:
        """Of the candidates in the table, -1 where it lacks them. *Shape:* (m, k), int64."""
        return self.alignment[self.spans.rows]


def read_labelled(
    linker: Linker,
    samples: Sequence[Sample],
    alignment: EntityAlignment,
    *,
    gold_spans: bool = False,
    progress: Callable[[int], None] = lambda texts: None,
) -> list[LabelledText]:
    """Analyze labelled texts of one window each.

    Args:
        linker: without a prior.
        samples: the texts with their gold mentions.
        alignment: of the linker's entities with a prior's table.
        gold_spans: link the gold mentions alone, as requested spans, instead of those that the model proposes.
        progress: called with 1 after each text.

    Raises:
        SettingsError: a text is empty or longer than one window, or the linker has a prior.
    """
    if linker.stages.graph_prior is not None:
        raise SettingsError("a prior is tuned beside scores without any prior; open the linker without one")
    require_one_window(linker.model, samples)
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
    """Spans of many texts side by side.

    Attributes:
        scores: of the candidates, without "nothing"; -inf where there is none. *Shape:* (n, k), float32.
        mentions: *Shape:* (n, d), float32.
        places: *Shape:* (n, k), int64.
        target: place of the right candidate, -1 for "nothing". *Shape:* (n,), int64.
    """

    scores: Tensor
    mentions: Tensor
    places: Tensor
    target: Tensor

    @classmethod
    def of(cls, texts: Sequence[LabelledText], ranked: bool) -> _Batch:
        """The spans that count: those that name a candidate, and where scores know "nothing", others that might."""
        parts = []
        for text in texts:
            right = (text.spans.rows == text.gold[:, None]) & (text.gold >= 0)[:, None]
            target = np.where(right.any(1), right.argmax(1), -1)
            hopeful = link_probabilities(text.spans).sum(1) > HOPELESS if ranked else np.zeros(len(target), bool)
            chosen = text.counted & (hopeful | (target >= 0))
            parts.append((text.spans.entity_logits[chosen], text.mention_vectors[chosen], text.indices[chosen], target[chosen]))
        if not sum(len(part[-1]) for part in parts):
            raise DataError("the model finds no gold mention in the labelled texts; give more of them, or another model")
        columns = [torch.from_numpy(np.concatenate([p for p in column if len(p)])) for column in zip(*parts, strict=True)]
        return cls(*columns)

    def select(self, chosen: Tensor) -> _Batch:
        return _Batch(self.scores[chosen], self.mentions[chosen], self.places[chosen], self.target[chosen])


class _Projections(nn.Module):
    """The learned part: projections and gate."""

    def __init__(self, text: int, graph: int, width: int) -> None:
        super().__init__()
        self.text, self.graph = nn.Linear(text, width, bias=False), nn.Linear(graph, width, bias=False)
        # At length 1 the numbers of a vector are about 1 / sqrt(width): begin with agreements of about 0.1.
        for layer in (self.text, self.graph):
            nn.init.normal_(layer.weight, std=1.0 / math.sqrt(width))
        self.gate = nn.Parameter(torch.zeros(graph))
        self.gate_bias = nn.Parameter(torch.tensor(GATE_BIAS))
        self.scale, self.shift = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, batch: _Batch, directions: Tensor) -> Tensor:
        of = directions[batch.places]  # the last row, of -1, is of entities that the graph lacks
        gate = torch.sigmoid(of @ self.gate + self.gate_bias)
        mentions = nn.functional.normalize(batch.mentions, dim=1)
        agreed = torch.einsum("nkr,nr->nk", self.graph(of), self.text(mentions))
        there = torch.isfinite(batch.scores)
        # Not scale * -inf, whose gradient is not a number.
        scores = self.scale * batch.scores.masked_fill(~there, 0) + self.shift + gate * agreed
        return scores.masked_fill(~there, -math.inf)


def learn_vectors(
    texts: Sequence[LabelledText],
    table: PriorTable,
    settings: PriorTuneSettings,
    weights: PriorWeights,
    progress: Callable[[float], None] = lambda loss: None,
) -> PriorWeights:
    """Learn the projections and the gate, by the cross-entropy of the right candidate.

    Args:
        texts: read by a model that was not trained on them: of those it was, it is too sure.
        table: with vectors.
        settings: see `PriorTuneSettings`.
        weights: whose other numbers are kept.
        progress: called with the mean loss of each epoch.

    Raises:
        DataError: no text has a gold mention that was found.
    """
    torch.manual_seed(settings.seed)
    directions = _with_none(table.directions())
    whole = _Batch.of(texts, weights.ranked)
    net = _Projections(whole.mentions.shape[1], directions.shape[1], settings.width)
    matrices = [net.text.weight, net.graph.weight, net.gate]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": [net.gate_bias, net.scale, net.shift], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate)
    for _ in range(settings.epochs):
        total = 0.0
        for chosen in torch.randperm(len(whole.target)).split(settings.batch_size):
            batch = whole.select(chosen)
            loss = _cross_entropy(net(batch, directions), batch, weights.ranked)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        progress(total / len(whole.target))
    text, graph, gate = (p.detach().numpy().copy() for p in matrices)
    return replace(weights, text=text, graph=graph, gate=gate, gate_bias=float(net.gate_bias.detach()), vector=1.0)


def fit_numbers(texts: Sequence[LabelledText], table: PriorTable, weights: PriorWeights, terms: Sequence[str]) -> PriorWeights:
    """Fit scale, shift and the weights of ``terms`` by likelihood; a term that would have to be below 0 gets 0.

    Given their values the log-likelihood is concave in these numbers, so that there is one best set.

    Raises:
        DataError: no text has a gold mention that was found.
    """
    batch = _Batch.of(texts, weights.ranked)
    columns: dict[str, Callable[[], Tensor]] = {
        "popularity": lambda: _popularity(batch, table),
        "vector": lambda: _vector(batch, table, weights),
    }
    measured = {name: make() for name, make in columns.items() if name in terms and (name != "vector" or len(weights.text))}
    while True:
        scale, shift, found = _likeliest(batch, list(measured.values()), weights.ranked)
        negative = [name for name, value in zip(measured, found, strict=True) if value < 0]
        if not negative:
            break
        worst = min(zip(found, measured, strict=True))[1]
        measured.pop(worst)
    if scale <= 0:
        raise DataError("the scores of the right candidates are below those of wrong ones; these texts are not for this model")
    values = dict(zip(measured, found, strict=True))
    popularity, vector = values.get("popularity", 0.0), values.get("vector", 0.0)
    return replace(weights, scale=scale, shift=shift if weights.ranked else 0.0, popularity=popularity, vector=vector)


def _popularity(batch: _Batch, table: PriorTable) -> Tensor:
    return _with_none(np.log1p(table.degrees).astype(np.float32))[batch.places]


def _vector(batch: _Batch, table: PriorTable, weights: PriorWeights) -> Tensor:
    graph = _with_none(gated(table.directions(), weights)).numpy()
    return torch.from_numpy(agreement(graph[batch.places.numpy()], projected(batch.mentions.numpy(), weights)))


def _likeliest(batch: _Batch, columns: Sequence[Tensor], ranked: bool) -> tuple[float, float, list[float]]:
    """Scale, shift and weights of the columns. Double precision: the optimum is flat."""
    wide = torch.stack([torch.where(torch.isfinite(batch.scores), batch.scores, 0), *columns], dim=-1).double()
    numbers = torch.zeros(wide.shape[-1] + 1, dtype=torch.float64)
    numbers[0] = 1.0
    begin = numbers.clone()
    numbers.requires_grad_()
    optimizer = torch.optim.LBFGS([numbers], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = (wide @ numbers[:-1] + numbers[-1]).masked_fill(~torch.isfinite(batch.scores), -math.inf)
        value = _cross_entropy(scores, batch, ranked) + SHRINK * (numbers - begin).square().sum()
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
    """Choose kind and weight of coherence by the likelihood of the texts; none where it is of no use.

    Args:
        texts: development texts.
        table: of the prior.
        weights: all others, already fitted.
        kinds: of relatedness that are tried.
    """
    alone = replace(weights, coherence=0.0)
    priors = {id(text.alignment): GraphPrior(table, alone, text.alignment) for text in texts}
    before = [replace(text, spans=priors[id(text.alignment)].rescore(text.spans, text.mention_vectors)) for text in texts]
    best = alone
    least = sum(_surprise(text, weights.ranked) for text in before)
    for kind in kinds:
        related = _cached(relatedness_of(table, kind))
        for weight in COHERENCE[1:]:
            found = sum(_surprise(_coherent(text, related, weight, weights.ranked), weights.ranked) for text in before)
            if found < least - 1e-6:
                least, best = found, replace(weights, coherence=weight, relatedness=kind)
    return best


def _cached(related: Relatedness) -> Relatedness:
    """The same with a cache: every weight is tried on the same texts."""
    results: dict[bytes, np.ndarray] = {}

    def cached(indices: np.ndarray) -> np.ndarray:
        key = indices.tobytes()
        if key not in results:
            results[key] = related(indices)
        return results[key]

    return cached


def _coherent(text: LabelledText, related: Relatedness, weight: float, ranked: bool) -> LabelledText:
    if len(text.spans) < 2:
        return text
    return replace(text, spans=mean_field_update(text.spans, text.indices, related, weight, ranked))


def _surprise(text: LabelledText, ranked: bool) -> float:
    """Sum of -log p of what the counted spans name, "nothing" included where scores know it."""
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
    """Development texts as a linker with the prior analyzes them.

    Attributes:
        decoder: of links.
        samples: the texts.
        analyses: of each.
    """

    decoder: Decoder
    samples: Sequence[Sample]
    analyses: Sequence[Analysis]


def choose_cutoff(sets: Sequence[DevPredictions], ranked: bool) -> tuple[float, float]:
    """The cut-off of the best weak F1, the mean over sets and over covered and all texts of each, and that F1.

    Of probabilities that are within `CAREFUL` of the best the highest is taken: a prior makes wrong links likelier too.
    """
    tried = CUTOFFS if ranked else grid([a for each in sets for a in each.analyses], sets[0].decoder.mode, lowest=LEAST_SCORE)
    sweeps = []
    for each in sets:
        points = curve(each.decoder, each.analyses, each.samples, tried)
        sweeps += [[p.point("weak", covered=covered).f1 for p in points] for covered in (True, False)]
    means = np.mean(sweeps, axis=0)
    good = np.flatnonzero(means >= means.max() - (CAREFUL if ranked else 0.0))
    return float(tried[good[-1]]), float(means[good[-1]])

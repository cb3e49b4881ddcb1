"""Finds how much a prior over entities is to count beside a model's scores, see `blink.linking.graph_prior`.

The projections of mentions and graph vectors are learned on training texts that the model was not trained on; the handful of
numbers that weigh the terms are then fitted on development texts by their likelihood, none of them below 0, and the cut-off,
which another scale of scores moves, by weak F1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from blink.data.prior_file import PriorTable, PriorWeights
from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.errors import DataError
from blink.evaluation.sweep import curve, grid
from blink.linking.coherence import LEAST_MENTION, Relatedness, relatedness_of, settle
from blink.linking.graph_prior import EntityAlignment, GraphPrior, agreement, gated, projected
from blink.linking.linker import Analysis, Linker, characters
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
    """A text as a linker read it, before any prior.

    Attributes:
        spans: with candidates and scores.
        mentions: vectors of the spans. *Shape:* (m, d), float32.
        joined: the knowledge base's entities in the prior's table.
        gold: row that each span names, -1 where none, or none that the knowledge base has. *Shape:* (m,), int64.
        kept: which spans say something: of texts that are labelled in part the others are left out. *Shape:* (m,), bool.
        reading: where the spans come from, as links are chosen from it.
    """

    spans: ScoredSpans
    mentions: np.ndarray
    joined: EntityAlignment
    gold: np.ndarray
    kept: np.ndarray
    reading: Analysis | None = None

    def read_with(self, prior: GraphPrior) -> Analysis:
        """The reading that a linker with this prior would make."""
        assert self.reading is not None
        return replace(self.reading, spans=prior.settle(prior.rescore(self.spans, self.mentions)))

    @property
    def places(self) -> np.ndarray:
        """Of the candidates in the table, -1 where it lacks them. *Shape:* (m, k), int64."""
        return self.joined[self.spans.rows]


class _Recorder:
    """Stands in for a `GraphPrior`, and keeps what one would be given, window by window."""

    def __init__(self) -> None:
        self.windows: list[tuple[ScoredSpans, np.ndarray]] = []

    def rescore(self, spans: ScoredSpans, mentions: np.ndarray) -> ScoredSpans:
        # Of windows without spans a reader tells nothing where no window has any.
        if len(spans):
            self.windows.append((spans, mentions.astype(np.float32)))
        return spans

    def settle(self, spans: ScoredSpans) -> ScoredSpans:
        return spans


def read_labelled(
    linker: Linker,
    samples: Sequence[Sample],
    places: EntityAlignment,
    *,
    given: bool = False,
    progress: Callable[[int], None] = lambda texts: None,
) -> list[LabelledText]:
    """Read labelled texts of one window each; the linker must have no prior, and has none afterwards.

    Args:
        linker: reads.
        samples: the texts with their gold mentions.
        places: of the linker's entities in a prior's table.
        given: read the gold mentions alone, as if they were given, instead of those that the model proposes.
        progress: called with 1 after each text.

    Raises:
        SettingsError: a text is empty or longer than one window.
    """
    require_one_window(linker.reader.model, samples)
    recorder, floor = _Recorder(), min(linker.floor, LEAST_MENTION)
    linker.prior = recorder  # type: ignore[assignment]
    try:
        bounds = [[(m.start, m.end) for m in s.mentions or ()] for s in samples] if given else None
        readings = []
        for reading in linker.read([s.text for s in samples], spans=bounds, floor=floor):
            readings.append(reading)
            progress(1)
    finally:
        linker.prior = None
    windows = iter(recorder.windows)
    found = [_seen(r, s, _of_text(windows, r, given), places) for r, s in zip(readings, samples, strict=True)]
    assert next(windows, None) is None
    return found


def _of_text(windows: Iterator[tuple[ScoredSpans, np.ndarray]], reading: Analysis, given: bool) -> np.ndarray:
    """Mention vectors of a text: of its one window, or of one for each given mention."""
    vectors = [next(windows)[1] for _ in range(len(reading.spans) if given else min(len(reading.spans), 1))]
    return np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)


def _seen(reading: Analysis, sample: Sample, mentions: np.ndarray, places: EntityAlignment) -> LabelledText:
    gold = {(m.start, m.end): m.row for m in sample.mentions or ()}
    spans = reading.spans
    at = reading.given or [characters(reading, s, e) for s, e in zip(spans.start.tolist(), spans.end.tolist(), strict=True)]
    wanted = np.array([gold.get(bounds, NOT_IN_CATALOGUE) for bounds in at], dtype=np.int64)
    kept = np.array([bounds in gold or not sample.partial for bounds in at], dtype=bool)
    return LabelledText(spans, mentions, places, np.where(wanted == NOT_IN_CATALOGUE, -1, wanted), kept, reading)


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
            chosen = text.kept & (hopeful | (target >= 0))
            parts.append((text.spans.entity_logits[chosen], text.mentions[chosen], text.places[chosen], target[chosen]))
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
    priors = {id(text.joined): GraphPrior(table, alone, text.joined) for text in texts}
    before = [replace(text, spans=priors[id(text.joined)].rescore(text.spans, text.mentions)) for text in texts]
    best = alone
    least = sum(_surprise(text, weights.ranked) for text in before)
    for kind in kinds:
        related = _remembered(relatedness_of(table, kind))
        for weight in COHERENCE[1:]:
            found = sum(_surprise(_settled(text, related, weight, weights.ranked), weights.ranked) for text in before)
            if found < least - 1e-6:
                least, best = found, replace(weights, coherence=weight, relatedness=kind)
    return best


def _remembered(related: Relatedness) -> Relatedness:
    """The same, but what was asked before is not computed again: every weight asks the same of every text."""
    known: dict[bytes, np.ndarray] = {}

    def remembered(places: np.ndarray) -> np.ndarray:
        key = places.tobytes()
        if key not in known:
            known[key] = related(places)
        return known[key]

    return remembered


def _settled(text: LabelledText, related: Relatedness, weight: float, ranked: bool) -> LabelledText:
    if len(text.spans) < 2:
        return text
    return replace(text, spans=settle(text.spans, text.places, related, weight, ranked))


def _surprise(text: LabelledText, ranked: bool) -> float:
    """Sum of -log p of what the kept spans name, "nothing" included where scores know it."""
    if not text.kept.any():
        return 0.0
    logits, right = text.spans.entity_logits[text.kept], (text.spans.rows == text.gold[:, None])[text.kept]
    right &= (text.gold[text.kept] >= 0)[:, None]
    if ranked:
        logits = np.concatenate([np.zeros((len(logits), 1), np.float32), logits], 1)
        right = np.concatenate([~right.any(1, keepdims=True), right], 1)
    shares = log_softmax(logits)
    return float(-shares[right & np.isfinite(shares)].sum())


@dataclass(frozen=True)
class DevPredictions:
    """Development texts as a linker with the prior reads them.

    Attributes:
        linker: chooses among what was read.
        samples: the texts.
        readings: of each.
    """

    linker: Linker
    samples: Sequence[Sample]
    readings: Sequence[Analysis]


def choose_cutoff(sets: Sequence[DevPredictions], ranked: bool) -> tuple[float, float]:
    """The cut-off of the best weak F1, the mean over sets and over covered and all texts of each, and that F1.

    Of probabilities that are within `CAREFUL` of the best the highest is taken: a prior makes wrong links likelier too.
    """
    tried = CUTOFFS if ranked else grid([r for each in sets for r in each.readings], sets[0].linker.mode, floor=LEAST_SCORE)
    sweeps = []
    for each in sets:
        points = curve(each.linker, each.readings, each.samples, tried)
        sweeps += [[p.point("weak", covered=covered).f1 for p in points] for covered in (True, False)]
    means = np.mean(sweeps, axis=0)
    good = np.flatnonzero(means >= means.max() - (CAREFUL if ranked else 0.0))
    return float(tried[good[-1]]), float(means[good[-1]])

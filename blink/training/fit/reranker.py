"""Fits the reranker on spans that a model detects in labelled texts that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from blink.data.records import NOT_IN_CATALOGUE, Sample
from blink.errors import DataError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import Analysis
from blink.linking.features import FEATURES
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.config import FEATURE_GROUPS
from blink.model.reranker import RerankerNetwork, Scaling
from blink.training.settings import RankSettings

Layers: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
PRIOR = 1e-4
"""Weight of the squared logarithm of the scale, added to the mean cross-entropy per span."""
LEAST_SPREAD = 0.1
"""Least standard deviation of a feature: one that is constant in the training data must not become huge elsewhere. Most
features are 0 or 1, so that a rare one is at most 10."""


@dataclass(frozen=True)
class LabelledSpans:
    """Spans with the features of their candidates, and the index of the right candidate.

    Attributes:
        features: *Shape:* (n, candidates, features), float32.
        real: mask of candidates, false for padding. *Shape:* (n, candidates), bool.
        target: index of the right candidate, -1 for NIL: no mention, or an entity that is not a candidate.
            *Shape:* (n,), int64.
        repeats: how often each span is used in an epoch; None for once. *Shape:* (n,), int64.
    """

    features: np.ndarray
    real: np.ndarray
    target: np.ndarray
    repeats: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.target)

    def repeated(self, times: int) -> LabelledSpans:
        """The same spans, used so many times in an epoch."""
        return replace(self, repeats=np.full(len(self), times, dtype=np.int64))

    @classmethod
    def concatenate(cls, spans: Sequence[LabelledSpans]) -> LabelledSpans:
        """Concatenate spans, padded to the largest number of candidates.

        Raises:
            DataError: there is no span.
        """
        if not sum(map(len, spans)):
            raise DataError(
                "the models propose no span in the labelled texts; train them longer, or lower --min-mention-log-prob"
            )
        width = max(p.features.shape[1] for p in spans)
        return cls(
            np.concatenate([_widened(p.features, width) for p in spans]),
            np.concatenate([_widened(p.real, width) for p in spans]),
            np.concatenate([p.target for p in spans]),
            np.concatenate([np.ones(len(p), dtype=np.int64) if p.repeats is None else p.repeats for p in spans]),
        )


_NO_SPANS = LabelledSpans(np.empty((0, 0, len(FEATURES)), np.float32), np.empty((0, 0), np.bool_), np.empty(0, np.int64))


def labelled_spans(
    model: BiEncoder,
    kb: KnowledgeBase,
    samples: Sequence[Sample],
    *,
    min_mention_log_prob: float,
    precision: str = "auto",
    progress: Callable[[int], None] = lambda texts: None,
) -> LabelledSpans:
    """Detect spans with a model, and compute the features of their candidates. Texts may be longer than a window.

    A span is a mention if it equals a gold mention, see `label_spans`.

    Raises:
        SettingsError: the knowledge base has no names.
        DataError: there is no span above ``min_mention_log_prob``.
    """
    if kb.names is None or kb.vectors is None:
        raise SettingsError("a reranker needs the names of a knowledge base; build one with `blink kb build`")
    linker = Linker(model, kb, rank=False, precision=precision)
    labelled = []
    analyses = linker.analyze([s.text for s in samples], keep=("features",), min_mention_log_prob=min_mention_log_prob)
    for sample, analysis in zip(samples, analyses, strict=True):
        labelled.append(label_spans(sample, analysis))
        progress(1)
    return LabelledSpans.concatenate(labelled)


def label_spans(sample: Sample, analysis: Analysis) -> LabelledSpans:
    """Label the spans of a text by its gold mentions.

    Left out are spans without gold in partially labelled texts, unless they overlap a gold mention, and spans without gold
    that overlap `Sample.unlabelled`.

    Args:
        sample: the text with its gold mentions.
        analysis: of the text, with features.
    """
    if not len(analysis.spans):
        return _NO_SPANS
    features, bounds = analysis.features, analysis.span_characters()
    assert features is not None
    gold = {(m.start, m.end): m.row for m in sample.mentions or ()}
    rows = features.spans.rows
    gold_rows = np.array([gold.get(b, NOT_IN_CATALOGUE) for b in bounds])
    right = (rows == gold_rows[:, None]) & (gold_rows != NOT_IN_CATALOGUE)[:, None]
    target = np.where(right.any(1), right.argmax(1), -1)
    counted = np.array([b in gold or not sample.may_be_unlabelled(*b) for b in bounds])
    return LabelledSpans(features.values[counted], (rows >= 0)[counted], target[counted])


def fit_reranker(
    spans: LabelledSpans, settings: RankSettings, progress: Callable[[float], None] = lambda loss: None
) -> RerankerNetwork:
    """Fit a reranker by the cross-entropy of the right candidate, or NIL, over all candidates of a span and NIL.

    Args:
        spans: of texts that the model was not trained on, since it is overconfident on its training texts.
        settings: see `RankSettings`.
        progress: called with the mean loss of each epoch of each member of the ensemble.
    """
    inputs = _Inputs.of(spans)
    members = [_fit_member(inputs, settings, i, progress) for i in range(settings.members)]
    return RerankerNetwork(
        FEATURES, inputs.mean.numpy(), inputs.spread.numpy(), _merged(members), settings.min_mention_log_prob
    )


@dataclass(frozen=True)
class _Inputs:
    """Spans without the padding of their candidates, which is most of the memory and time.

    Attributes:
        features: of all candidates, scaled by mean and spread. *Shape:* (candidates, features), float32.
        mean, spread: of each feature. *Shape:* (features,), float32.
        index: candidates of each span in ``features``, -1 for padding. *Shape:* (spans, width), int64.
        target: as in `LabelledSpans`. *Shape:* (spans,), int64.
        epoch: the spans of an epoch, in order, with their repetitions. *Shape:* (uses,), int64.
    """

    features: Tensor
    mean: Tensor
    spread: Tensor
    index: Tensor
    target: Tensor
    epoch: np.ndarray

    @classmethod
    def of(cls, spans: LabelledSpans) -> _Inputs:
        features = torch.from_numpy(spans.features[spans.real])
        mean, spread = features.mean(0), features.std(0).clamp(min=LEAST_SPREAD)
        index = np.full(spans.real.shape, -1, dtype=np.int64)
        index[spans.real] = np.arange(len(features))
        scaled = features.sub_(mean).div_(spread)
        epoch = np.repeat(np.arange(len(spans)), 1 if spans.repeats is None else spans.repeats)
        return cls(scaled, mean, spread, torch.from_numpy(index), torch.from_numpy(spans.target), epoch)


def _fit_member(inputs: _Inputs, settings: RankSettings, member: int, progress: Callable[[float], None]) -> Layers:
    torch.manual_seed(settings.seed + member)
    random = np.random.default_rng([settings.seed, member])
    net = _network(len(FEATURES), settings)
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    n_spans = len(inputs.epoch)
    steps = settings.epochs * -(-n_spans // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    for _ in range(settings.epochs):
        total = 0.0
        for batch in torch.from_numpy(random.permutation(inputs.epoch)).split(settings.batch_size):
            index = inputs.index[batch]
            target, is_candidate = inputs.target[batch], index >= 0
            span, _ = is_candidate.nonzero(as_tuple=True)
            features = inputs.features[index[is_candidate]] * _feature_mask(len(batch), settings.left_out, random)[span]
            scores = features.new_zeros(is_candidate.shape).masked_scatter(is_candidate, net(features).squeeze(-1))
            loss = _cross_entropy(scores, is_candidate, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        progress(total / n_spans)
    return [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in net if isinstance(m, nn.Linear)]


def _merged(members: Sequence[Layers]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Layers of one network that computes the mean of several: their weights form block-diagonal matrices."""
    layers = []
    for depth in range(len(members[0])):
        weights, biases = zip(*(member[depth] for member in members), strict=True)
        if depth == 0:
            layers.append((np.concatenate(weights), np.concatenate(biases)))
        elif depth < len(members[0]) - 1:
            block_diagonal = torch.block_diag(*map(torch.from_numpy, weights)).numpy()
            layers.append((block_diagonal, np.concatenate(biases)))
        else:
            layers.append((np.concatenate(weights, axis=1) / len(members), np.mean(biases, axis=0)))
    return tuple(layers)


def fit_scaling(reranker: RerankerNetwork, spans: LabelledSpans) -> Scaling:
    """Fit scale and shifts of a reranker's scores by the cross-entropy (Platt 1999; Guo et al. 2017).

    Args:
        reranker: the reranker; its present scaling is ignored.
        spans: that the reranker was not fitted on.
    """
    # A reranker of an earlier version has fewer features.
    features = spans.features[..., [FEATURES.index(name) for name in reranker.features]]
    raw = torch.from_numpy(reranker.scaled(Scaling()).scores(features, spans.real)).masked_fill(
        ~torch.from_numpy(spans.real), 0
    )
    real, target = torch.from_numpy(spans.real), torch.from_numpy(spans.target)
    uncased = torch.from_numpy(~reranker.is_cased(features)).float()
    numbers = torch.tensor([0.0, 0.0, 0.0], requires_grad=True)  # log of the scale, shift, shift of texts without capitals
    optimizer = torch.optim.LBFGS([numbers], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = _cross_entropy(raw * numbers[0].exp() + numbers[1] + numbers[2] * uncased, real, target)
        # For a few texts without errors the maximum-likelihood scale is infinite.
        value = value + PRIOR * (numbers[0].square() + numbers[2].square())
        value.backward()
        return value

    optimizer.step(loss)
    scale, shift, uncased_shift = float(numbers[0].detach().exp()), *numbers[1:].tolist()
    return Scaling(scale, shift, uncased_shift)


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, width - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])


def _network(inputs: int, settings: RankSettings) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (inputs, settings.hidden):
        layers += [nn.Linear(size, settings.hidden), nn.GELU(approximate="tanh"), nn.Dropout(settings.dropout)]
    return nn.Sequential(*layers, nn.Linear(settings.hidden, 1))


def _cross_entropy(scores: Tensor, real: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the right candidate over the candidates and NIL, which has score 0 and target -1."""
    nothing = scores.new_zeros(len(scores), 1)
    logits = torch.cat([nothing, scores.masked_fill(~real, float("-inf"))], dim=1)
    return nn.functional.cross_entropy(logits, target + 1)


def _feature_mask(spans: int, rate: float, random: np.random.Generator) -> Tensor:
    """Dropout of whole feature groups: 0 for a share ``rate`` of the groups, else 1. *Shape:* (spans, features)."""
    mask = random.random((spans, len(FEATURE_GROUPS))) >= rate
    of_feature = np.repeat(np.arange(len(FEATURE_GROUPS)), [len(names) for names in FEATURE_GROUPS.values()])
    return torch.from_numpy(mask[:, of_feature].astype(np.float32))

"""Updates a fitted reranker by corrections: in seconds, close to the old one, and only where held-out links do not get worse.

The new weights minimise the cross-entropy of the corrected spans plus ``strength`` times the divergence of the new from the old
probabilities on other texts (Kullback-Leibler; distillation from the old model, after Li and Hoiem 2016, "Learning without
Forgetting"). A smaller strength follows the corrections more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from blink.data.records import Sample
from blink.errors import DataError
from blink.evaluation.counts import EvaluatedText, assess, evaluated_text
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.features import FEATURES
from blink.linking.linker import Linker
from blink.linking.reranker import Reranker
from blink.linking.scoring import log_softmax
from blink.model.linking_model import LinkingModel
from blink.model.reranker import RerankerNetwork, Scaling
from blink.training.fit.calibration import HALVES, DevSet
from blink.training.fit.reranker import LabelledSpans, label_spans

STRENGTHS = (1.0, 4.0, 16.0, 64.0)
"""Tried in order: the first whose update makes no held-out set worse, and the corrected texts better, is kept."""
MAX_ITERATIONS = 100
DECAY = 0.01
"""Weight of the squared change of the last layer, at strength 1."""
LEAST_LOGIT = -1e4
"""Of padding. Not minus infinity, whose product with a probability of zero is not a number."""
REPLAYED_TEXTS, REPLAYED_SPANS = 150, 3000
"""Descriptions of entities, and spans of them, on which the new reranker is to agree with the old one."""
_SEED = 52313


@dataclass(frozen=True)
class HeldOut:
    """Links of texts before and after an update.

    Attributes:
        name: of the texts.
        right: right links, before and after.
        wrong: wrong links, before and after.
        gold: gold mentions.
        repaired: gold mentions that only the new reranker links right.
        broken: gold mentions that only the old one links right.
    """

    name: str
    right: tuple[int, int]
    wrong: tuple[int, int]
    gold: int
    repaired: int
    broken: int

    @property
    def f1(self) -> tuple[float, float]:
        """Strong F1 before and after; 0 where there is neither link nor gold."""
        before, after = (2 * r / max(1, r + w + self.gold) for r, w in zip(self.right, self.wrong, strict=True))
        return before, after

    @property
    def is_better(self) -> bool:
        """Whether there are more right or fewer wrong links, on balance."""
        return self.right[1] - self.right[0] > self.wrong[1] - self.wrong[0]


@dataclass(frozen=True)
class Update:
    """The result of `update_reranker`.

    Attributes:
        network: the new reranker; None if the old one is kept.
        strength: of the new one, or the last that was tried.
        fitted: the corrected texts, with the weights that were fitted to them.
        corrections: the same, each half with weights that were fitted on the other.
        held_out: other texts.
        spans: corrected spans that the weights were fitted to.
    """

    network: RerankerNetwork | None
    strength: float
    fitted: HeldOut
    corrections: HeldOut
    held_out: tuple[HeldOut, ...]
    spans: int


def update_reranker(
    model: LinkingModel,
    kb: KnowledgeBase,
    corrections: Sequence[Sample],
    held_out: Sequence[tuple[str, DevSet]],
    progress: Callable[[int], None] = lambda texts: None,
) -> Update:
    """Fit a model's reranker to corrections.

    Args:
        model: with a reranker.
        kb: knowledge base of the corrections.
        corrections: labelled in part, as by `blink.data.corrections`.
        held_out: named texts on which links must not get worse: strong F1 of each set is at least what it was. Without any, the
            halves of the corrections decide, each with weights that were fitted on the other.
        progress: called with finished texts, each time.

    Raises:
        DataError: the model has no reranker, or no correction is a span that it proposes.
    """
    network = model.reranker
    if network is None:
        raise DataError("the model has no reranker to update; fit one: blink rank MODEL --kb KB --train FILE")
    reader = Linker(model, kb, rank=False)
    of_texts = list(_spans(reader, network, corrections, progress))
    replayed = _replayed(reader, network, kb, progress)
    spans = LabelledSpans.concatenate(of_texts)
    before = [_links(model, network, dev, progress) for _, dev in held_out]
    corrected = DevSet(kb, corrections)
    links_before = _links(model, network, corrected, progress)
    result = None
    for strength in STRENGTHS:
        links_cross_fitted = links_before
        if all(any(s.id in half for s in corrections) for half in HALVES):
            links_cross_fitted = _cross_fitted(model, network, corrected, of_texts, replayed, strength, progress)
        new = fit_update(network, spans, replayed, strength)
        sets = tuple(
            compared(name, old, _links(model, new, dev, progress)) for (name, dev), old in zip(held_out, before, strict=True)
        )
        of_corrections = compared("corrections", links_before, links_cross_fitted)
        fitted = compared("corrections", links_before, _links(model, new, corrected, progress))
        is_no_worse = all(s.f1[1] >= s.f1[0] for s in sets or (of_corrections,))
        is_kept = is_no_worse and fitted.is_better
        result = Update(new if is_kept else None, strength, fitted, of_corrections, sets, len(spans))
        if is_kept:
            break
    assert result is not None
    return result


def _spans(
    reader: Linker, network: RerankerNetwork, samples: Sequence[Sample], progress: Callable[[int], None]
) -> Iterator[LabelledSpans]:
    texts = [sample.text for sample in samples]
    analyses = reader.analyze(texts, keep=("features",), min_mention_log_prob=network.min_mention_log_prob)
    for sample, analysis in zip(samples, analyses, strict=True):
        yield label_spans(sample, analysis)
        progress(1)


def _replayed(
    reader: Linker, network: RerankerNetwork, kb: KnowledgeBase, progress: Callable[[int], None]
) -> LabelledSpans | None:
    """Spans of descriptions of the knowledge base, drawn by seed; their gold is not used."""
    rows = np.random.default_rng(_SEED).permutation(len(kb.catalogue))[: 4 * REPLAYED_TEXTS].tolist()
    texts = [entity.text for entity in (kb.catalogue[row] for row in rows) if entity.text][:REPLAYED_TEXTS]
    samples = [Sample(str(i), text, ()) for i, text in enumerate(texts)]
    with_spans = [s for s in _spans(reader, network, samples, progress) if len(s)]
    if not with_spans:
        return None
    spans = LabelledSpans.concatenate(with_spans)
    # Most spans are clearly nothing; those that might be linked say more, and one in four of those drawn is any other.
    chance = _linked_probability(network, spans)
    ranked, n_best = np.argsort(-chance, kind="stable"), REPLAYED_SPANS * 3 // 4
    others = np.random.default_rng(_SEED).permutation(ranked[n_best:])[: REPLAYED_SPANS - n_best]
    drawn = np.sort(np.concatenate([ranked[:n_best], others]))
    return LabelledSpans(spans.features[drawn], spans.real[drawn], spans.target[drawn])


def _linked_probability(network: RerankerNetwork, spans: LabelledSpans) -> np.ndarray:
    """Probability of each span to name an entity. *Shape:* (n,), float32."""
    scores = network.scores(spans.features[..., [FEATURES.index(name) for name in network.features]], spans.real)
    nothing = np.zeros((len(spans), 1), np.float32)
    return 1 - np.exp(log_softmax(np.concatenate([nothing, scores], axis=1))[:, 0])


def _cross_fitted(
    model: LinkingModel,
    network: RerankerNetwork,
    corrected: DevSet,
    of_texts: Sequence[LabelledSpans],
    replayed: LabelledSpans | None,
    strength: float,
    progress: Callable[[int], None],
) -> list[EvaluatedText]:
    """Links of each half of the corrections with weights fitted on the other half, in the order of the corrections."""
    linked: dict[int, EvaluatedText] = {}
    for half, other in (HALVES, HALVES[::-1]):
        indices = [i for i, s in enumerate(corrected.samples) if s.id in half]
        rest = [spans for s, spans in zip(corrected.samples, of_texts, strict=True) if s.id in other and len(spans)]
        fitted = fit_update(network, LabelledSpans.concatenate(rest), replayed, strength) if rest else network
        of_half = DevSet(corrected.kb, [corrected.samples[i] for i in indices])
        linked |= zip(indices, _links(model, fitted, of_half, progress), strict=True)
    return [linked[i] for i in range(len(corrected.samples))]


def _links(model: LinkingModel, network: RerankerNetwork, dev: DevSet, progress: Callable[[int], None]) -> list[EvaluatedText]:
    linker = Linker(model, dev.kb, stages={"reranker": Reranker(network)})
    linked = linker.link([s.text for s in dev.samples], progress=progress)
    return [evaluated_text(sample, links) for sample, links in zip(dev.samples, linked, strict=True)]


def compared(name: str, before: Sequence[EvaluatedText], after: Sequence[EvaluatedText]) -> HeldOut:
    """Links of the same texts before and after, by strong matching."""
    right, wrong = [0, 0], [0, 0]
    repaired = broken = 0
    for pair in zip(before, after, strict=True):
        hits: list[set[int]] = []
        for side, text in enumerate(pair):
            of_text = {gold for gold, _ in assess(text).strong}
            hits.append(of_text)
            right[side] += len(of_text)
            wrong[side] += len(text.predicted) - len(of_text)
        repaired += len(hits[1] - hits[0])
        broken += len(hits[0] - hits[1])
    gold = sum(len(text.gold) for text in before)
    return HeldOut(name, (right[0], right[1]), (wrong[0], wrong[1]), gold, repaired, broken)


def fit_update(
    network: RerankerNetwork, spans: LabelledSpans, replayed: LabelledSpans | None, strength: float
) -> RerankerNetwork:
    """A reranker close to ``network`` that follows the labels of ``spans``: its last layer is fitted again.

    The objective is convex, and what the layers before compute is computed once, so that a fit takes a fraction of a second.

    Args:
        network: the old reranker.
        spans: with labels.
        replayed: spans on which the probabilities are to stay what they are; None for none.
        strength: weight of the latter, and of the squared change of the weights.
    """
    weight, bias = network.layers[-1]
    old = torch.from_numpy(np.append(weight[0], bias))
    fitted, kept = _LastLayer.of(network, spans), None if replayed is None else _LastLayer.of(network, replayed)
    target = torch.from_numpy(spans.target) + 1
    before = None if kept is None else kept(old).log_softmax(1)
    change = torch.zeros_like(old, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(fitted(old + change), target) + strength * DECAY * change.square().sum()
        if kept is not None and before is not None:
            after = kept(old + change).log_softmax(1)
            value = value + strength * nn.functional.kl_div(after, before, log_target=True, reduction="batchmean")
        value.backward()
        return value

    optimizer.step(loss)
    new = (old + change).detach().numpy()
    return replace(network, layers=(*network.layers[:-1], (new[None, :-1], new[-1:])))


@dataclass(frozen=True)
class _LastLayer:
    """Log-odds of the candidates of spans as a function of the last layer: those of `RerankerNetwork.scores`.

    Attributes:
        inputs: of the last layer, and 1 for its bias. *Shape:* (candidates, hidden + 1), float32.
        real: *Shape:* (spans, width), bool.
        scaling: of the scores.
        uncased: 1 for candidates in texts without capital letters. *Shape:* (candidates,), float32.
    """

    inputs: Tensor
    real: Tensor
    scaling: Scaling
    uncased: Tensor

    @classmethod
    def of(cls, network: RerankerNetwork, spans: LabelledSpans) -> _LastLayer:
        values = spans.features[..., [FEATURES.index(name) for name in network.features]]
        x = torch.from_numpy((values[spans.real] - network.mean) / network.spread)
        for weight, bias in network.layers[:-1]:
            x = nn.functional.gelu(x @ torch.from_numpy(weight).T + torch.from_numpy(bias), approximate="tanh")
        uncased = ~network.is_cased(values)[spans.real]
        inputs = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        return cls(inputs, torch.from_numpy(spans.real), network.scaling, torch.from_numpy(uncased).float())

    def __call__(self, weights: Tensor) -> Tensor:
        """Logits of "nothing", which are 0, and of the candidates. *Shape:* (spans, 1 + width)."""
        moved = self.scaling.shift + self.scaling.uncased_shift * self.uncased
        scores = (self.inputs @ weights) * self.scaling.scale + moved
        logits = scores.new_full(self.real.shape, LEAST_LOGIT).masked_scatter(self.real, scores)
        return torch.cat([scores.new_zeros(len(self.real), 1), logits], dim=1)

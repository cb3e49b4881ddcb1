"""Filtered ranks of true answers among all entities, and what is reported of them.

A question's other true answers are left out; of equal scores, the rank is the mean of the best and the worst that sorting could
give ("realistic", Berrendorf et al. 2020). Scores are computed in float64, so that equal ones compare as equal however entities
are split into chunks. PyKEEN's evaluator gives the same ranks where scores are well separated, which a test holds; it compares
scores exactly, so that rounding decides between equal entities, and takes all entities at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from blink.kglm.graph.answers import Answers, mean_counts
from blink.kglm.graph.model import Questions, questions_of
from blink.kglm.graph.triples import Graph
from blink.runs.finite import NotFinite

CLOSE, CLOSE_SHARE = 1e-10, 1e-9
"""Scores no further apart, absolutely or as a share of the true answer's, count as equal."""
HITS = (1, 3, 10)
CATEGORIES = ("1-1", "1-N", "N-1", "N-N")
MANY = 1.5
"""From so many tails per head (or heads per tail) on average, a relation counts as one to N (or N to one)."""
DEGREES = (0, 6, 21, 101)
"""First degree of each bucket."""


class Scorer(Protocol):
    """Scores candidates as answers; a `GraphModel` is one."""

    def scores(self, questions: Questions, candidates: Tensor | slice | None = None) -> Tensor:
        """*Shapes:* see `GraphModel.scores`."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of the answers of both questions of each triple. *Shapes:* (2 * triples,) all.

    Attributes:
        questions: all for tails, then all for heads.
        answers: true answers.
        optimistic: 1 + entities with a higher score, int64.
        equal: other entities with the same score, int64.
    """

    questions: Questions
    answers: Tensor
    optimistic: Tensor
    equal: Tensor

    @property
    def realistic(self) -> Tensor:
        """Mean of the best and the worst rank that equal scores allow, float64."""
        return self.optimistic.double() + self.equal.double() / 2

    @property
    def pessimistic(self) -> Tensor:
        """The worst rank that equal scores allow, int64."""
        return self.optimistic + self.equal


@torch.no_grad()
def rank(
    scorer: Scorer,
    triples: Tensor,
    known: Answers,
    entities: int,
    *,
    batch_size: int = 512,
    chunk: int = 16384,
    progress: Callable[[int], None] = lambda done: None,
) -> Ranks:
    """Rank the answers of both questions of each triple among all entities.

    Args:
        scorer: scores candidates.
        triples: what is asked. *Shape:* (n, 3), int64, on the scorer's device.
        known: true answers, which are left out but for the one that is ranked.
        entities: how many there are.
        batch_size: questions at once.
        chunk: entities at once.
        progress: gets the number of questions done after each batch.

    Raises:
        NotFinite: a true answer's score is no number.
    """
    questions, answers = questions_of(triples)
    optimistic, equal = torch.empty_like(answers), torch.empty_like(answers)
    for start in range(0, len(answers), batch_size):
        part = slice(start, start + batch_size)
        optimistic[part], equal[part] = _rank_batch(scorer, questions[part], answers[part], known, entities, chunk)
        progress(len(answers[part]))
    return Ranks(questions, answers, optimistic, equal)


def _rank_batch(
    scorer: Scorer, questions: Questions, answers: Tensor, known: Answers, entities: int, chunk: int
) -> tuple[Tensor, Tensor]:
    own = scorer.scores(questions, answers.unsqueeze(1)).double()
    if not own.isfinite().all():
        raise NotFinite("the model gives scores that are no numbers; lower train.lr, or raise a regulariser, and train again")
    tolerance = CLOSE + CLOSE_SHARE * own.abs()
    rows, others = known.of(known.find(questions))
    rows = torch.cat([rows, torch.arange(len(answers), device=rows.device)])  # the answer itself is neither above nor equal
    others = torch.cat([others, answers])
    above, equal = torch.zeros_like(answers), torch.zeros_like(answers)
    for first in range(0, entities, chunk):
        last = min(first + chunk, entities)
        scores = scorer.scores(questions, slice(first, last)).double()
        here = (others >= first) & (others < last)
        scores[rows[here], others[here] - first] = -torch.inf
        higher = scores > own + tolerance
        above += higher.sum(1)
        equal += ((scores >= own - tolerance) & ~higher).sum(1)
    return above + 1, equal


# -- reports -------------------------------------------------------------------------------------------------------------


def summary(ranks: Tensor) -> dict[str, float | int]:
    """MRR, mean rank, hits and number of realistic ranks. *Shape:* (n,), float64."""
    if not len(ranks):
        return {"questions": 0}
    hits = {f"hits@{k}": (ranks <= k).double().mean().item() for k in HITS}
    return {"mrr": (1 / ranks).mean().item(), **hits, "mean_rank": ranks.mean().item(), "questions": len(ranks)}


def report(ranks: Ranks, graph: Graph) -> dict[str, object]:
    """`summary` over all questions, by side, by category of the relation, by degree of the answer and by relation."""
    values, heads = ranks.realistic.cpu(), ranks.questions.heads.cpu()
    relations, answers = ranks.questions.relations.cpu(), ranks.answers.cpu()
    category = relation_categories(graph)[relations]
    bucket = torch.bucketize(torch.from_numpy(graph.degrees)[answers], torch.tensor(DEGREES), right=True) - 1
    named = [f"{low}-{high - 1}" for low, high in itertools.pairwise(DEGREES)] + [f"{DEGREES[-1]}+"]
    return {
        **summary(values),
        "tails": summary(values[~heads]),
        "heads": summary(values[heads]),
        "by_category": {name: summary(values[category == i]) for i, name in enumerate(CATEGORIES)},
        "by_answer_degree": {name: summary(values[bucket == i]) for i, name in enumerate(named)},
        "by_relation": {graph.relations[r]: summary(values[relations == r]) for r in relations.unique().tolist()},
    }


def relation_categories(graph: Graph) -> Tensor:
    """Which of `CATEGORIES` each relation is, by its training triples. *Shape:* (relations,), int64."""
    known = Answers(torch.from_numpy(graph.train), len(graph.entities), len(graph.relations))
    tails, heads = mean_counts(known, len(graph.relations))
    return (heads >= MANY).long() * 2 + (tails >= MANY).long()


class RelationFrequency:
    """The baseline that knows only how often an entity answers a relation's question in training.

    Args:
        triples: training triples. *Shape:* (n, 3), int64.
        entities: how many there are.
    """

    def __init__(self, triples: Tensor, entities: int) -> None:
        self._entities = entities
        asked, answers = questions_of(triples)
        self._keys, self._counts = (self._kinds(asked) * entities + answers).unique(return_counts=True)

    def scores(self, questions: Questions, candidates: Tensor | slice | None = None) -> Tensor:
        """Counts, float64, of a slice of all entities or, *shape:* (batch, n), of some for each; see `GraphModel.scores`."""
        kinds = self._kinds(questions)
        if isinstance(candidates, Tensor):
            wanted = kinds.unsqueeze(1) * self._entities + candidates
            found = torch.searchsorted(self._keys, wanted).clamp_max(len(self._keys) - 1)
            return torch.where(self._keys[found] == wanted, self._counts[found], 0).double()
        first, last, _ = (candidates or slice(None)).indices(self._entities)
        kinds, rows = kinds.unique(return_inverse=True)
        counts = torch.zeros(len(kinds), last - first, dtype=torch.float64)
        bounds = torch.searchsorted(self._keys, kinds.unsqueeze(1) * self._entities + torch.tensor([first, last]))
        for row, (start, end) in enumerate(bounds.tolist()):
            counts[row, self._keys[start:end] % self._entities - first] = self._counts[start:end].double()
        return counts[rows]

    def _kinds(self, questions: Questions) -> Tensor:
        return questions.relations * 2 + questions.heads

"""The true answers of questions, by question: what may not count as a wrong one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blink.kglm.graph.model import Questions, questions_of


class Answers:
    """True answers, as sorted arrays: the answers of question ``i`` are ``targets[offsets[i] : offsets[i + 1]]``.

    Args:
        triples: true triples; a triple may stand there more than once. *Shape:* (n, 3), int64.
        entities: rows of entities.
        relations: rows of relations.

    Attributes:
        questions: the questions that have answers, each once.
        offsets: *Shape:* (questions + 1,), int64.
        targets: answers, ascending within a question. *Shape:* (answers,), int64.
    """

    def __init__(self, triples: Tensor, entities: int, relations: int) -> None:
        self._entities, self._relations = entities, relations
        asked, targets = questions_of(triples)
        order = torch.argsort(targets)
        order = order[torch.argsort(self._key(asked)[order], stable=True)]
        keys, targets = self._key(asked)[order], targets[order]
        first = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
        first[1:] = (keys[1:] != keys[:-1]) | (targets[1:] != targets[:-1])
        self._keys, counts = torch.unique_consecutive(keys[first], return_counts=True)
        self.targets = targets[first]
        self.offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        places = torch.arange(len(counts), device=keys.device).repeat_interleave(counts)
        self._pairs = places * entities + self.targets
        self._answered = places[torch.argsort(self.targets)]  # by answer: the questions that it is an answer of
        self._answered_offsets = torch.bincount(self.targets + 1, minlength=entities + 1).cumsum(0)

    @property
    def questions(self) -> Questions:
        """The questions that have answers, in the order of ``offsets``."""
        side_relation = self._keys // self._entities
        return Questions(self._keys % self._entities, side_relation % self._relations, side_relation >= self._relations)

    @property
    def counts(self) -> Tensor:
        """Answers of each question. *Shape:* (questions,), int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def find(self, questions: Questions) -> Tensor:
        """Where questions stand; -1 for those without answers. *Shape:* (batch,), int64."""
        keys = self._key(questions)
        place = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        return torch.where(self._keys[place] == keys, place, -1)

    def of(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Answers of questions by their places, which may be -1.

        Returns:
            for each answer, the row of ``places`` that it belongs to, and the entity. *Shapes:* (answers,) both.
        """
        counts = torch.where(places >= 0, self.counts[places], 0)
        rows = torch.arange(len(places), device=places.device).repeat_interleave(counts)
        within = torch.arange(len(rows), device=places.device) - (counts.cumsum(0) - counts)[rows]
        return rows, self.targets[self.offsets[places[rows]] + within]

    def contains(self, places: Tensor, candidates: Tensor) -> Tensor:
        """Which candidates are true answers.

        Args:
            places: of the questions, or -1. *Shape:* (batch,).
            candidates: entities, shared, *shape:* (n,), or for each question its own, *shape:* (batch, n).

        Returns:
            *Shape:* (batch, n), bool.
        """
        if candidates.dim() == 1:
            return self._contains_shared(places, candidates)
        pairs = places.unsqueeze(1) * self._entities + candidates
        found = torch.searchsorted(self._pairs, pairs).clamp_max(len(self._pairs) - 1)
        return (self._pairs[found] == pairs) & (places >= 0).unsqueeze(1)

    def _contains_shared(self, places: Tensor, candidates: Tensor) -> Tensor:
        """`contains` for shared candidates, which looks at the questions of each candidate: far fewer than there are pairs."""
        own, rows = places.unique(return_inverse=True)
        entities, columns = candidates.unique(return_inverse=True)
        row_of = places.new_full((len(self._keys) + 1,), -1)
        row_of[own] = torch.arange(len(own), device=places.device)  # -1 is the place behind the last, which nothing answers
        counts = self._answered_offsets[entities + 1] - self._answered_offsets[entities]
        column = torch.arange(len(entities), device=places.device).repeat_interleave(counts)
        within = torch.arange(len(column), device=places.device) - (counts.cumsum(0) - counts)[column]
        row = row_of[self._answered[self._answered_offsets[entities[column]] + within]]
        found = torch.zeros(len(own), len(entities), dtype=torch.bool, device=places.device)
        found[row[row >= 0], column[row >= 0]] = True
        return found[rows][:, columns]

    def to(self, device: torch.device | str) -> Answers:
        """The same on another device."""
        twin = object.__new__(Answers)
        for name, value in vars(self).items():
            setattr(twin, name, value.to(device) if isinstance(value, Tensor) else value)
        return twin

    def _key(self, questions: Questions) -> Tensor:
        side = self._relations * questions.heads + questions.relations
        return side * self._entities + questions.anchors


def answers_of(splits: Sequence[Tensor], entities: int, relations: int) -> Answers:
    """`Answers` of several splits together."""
    return Answers(torch.cat(list(splits)), entities, relations)


def mean_counts(known: Answers, relations: int) -> Tensor:
    """Answers per question of each relation on average: tails per head, and heads per tail. *Shape:* (2, relations), float."""
    asked, means = known.questions, []
    for side in (False, True):
        own = asked.heads == side
        sums = torch.zeros(relations).index_add_(0, asked.relations[own], known.counts[own].float())
        means.append(sums / torch.bincount(asked.relations[own], minlength=relations).clamp_min(1))
    return torch.stack(means)

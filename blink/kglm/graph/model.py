"""Tables of entity and relation vectors, and the scores that an interaction makes of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blink.kglm.config import Settings
from blink.kglm.graph.interactions import Interaction, Rows, make_interaction
from blink.kglm.settings import GraphModelSection
from blink.runs.seeds import generator_for


@dataclass(frozen=True)
class Questions:
    """Questions ``(h, r, ?)`` and ``(?, r, t)``. *Shapes:* (batch,) all.

    Attributes:
        anchors: rows of the entities that are given.
        relations: rows of the relations, as in the graph.
        heads: whether the head is asked for, bool.
    """

    anchors: Tensor
    relations: Tensor
    heads: Tensor

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, rows: Tensor | slice) -> Questions:
        return Questions(self.anchors[rows], self.relations[rows], self.heads[rows])

    def to(self, device: torch.device | str) -> Questions:
        """The same on another device."""
        return Questions(self.anchors.to(device), self.relations.to(device), self.heads.to(device))


def questions_of(triples: Tensor) -> tuple[Questions, Tensor]:
    """Both questions of each triple: all for tails, then all for heads, and their answers.

    *Shapes:* (n, 3); questions and answers of length 2n.
    """
    head, relation, tail = triples.unbind(1)
    heads = torch.arange(2 * len(triples), device=triples.device) >= len(triples)
    questions = Questions(torch.cat([head, tail]), relation.repeat(2), heads)
    return questions, torch.cat([tail, head])


INITIALISERS: dict[str, Any] = {
    "xavier_normal": lambda table, scale, random: nn.init.xavier_normal_(table, gain=scale, generator=random),
    "xavier_uniform": lambda table, scale, random: nn.init.xavier_uniform_(table, gain=scale, generator=random),
    "normal": lambda table, scale, random: nn.init.normal_(table, std=scale, generator=random),
    "uniform": lambda table, scale, random: nn.init.uniform_(table, -scale, scale, generator=random),
}
"""Draws the first values of a table. *Shape:* (rows, numbers)."""


class GraphModel(nn.Module):
    """Vectors of entities and relations, and how they score.

    Args:
        interaction: see `make_interaction`.
        entities: rows of the entity tables.
        relations: relations of the graph; with ``reciprocal``, tables have twice as many rows.
        settings: the section ``model``.

    Attributes:
        interaction: how vectors become scores.
        entity_tables: a table per vector that the interaction needs of an entity. *Shapes:* (entities, ...).
        relation_tables: the same for relations.
        reciprocal: whether "which head?" is asked by vectors of its own, as a question for a tail.
        dtype: what scores are computed in.
    """

    def __init__(self, interaction: Interaction, entities: int, relations: int, settings: GraphModelSection) -> None:
        super().__init__()
        self.interaction, self.reciprocal, self.dtype = interaction, settings.reciprocal, torch.float32
        self.relations, self._settings = relations, settings
        shapes = interaction.shapes(settings.dim, settings.relation_dim or settings.dim)
        self.entity_tables = _tables(entities, shapes[0])
        self.relation_tables = _tables(relations * (2 if self.reciprocal else 1), shapes[1])
        self._entity_dropout = nn.Dropout(settings.entity_dropout)
        self._relation_dropout = nn.Dropout(settings.relation_dropout)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.entity_tables[0].device

    @property
    def entities(self) -> int:
        """How many entities there are."""
        return len(self.entity_tables[0])

    def start(self, seed: int) -> None:
        """Draw first values of all tables."""
        random = generator_for(seed, "tables")
        with torch.no_grad():
            for table in (*self.entity_tables, *self.relation_tables):
                INITIALISERS[self._settings.init](table.view(len(table), -1), self._settings.init_scale, random)
            self.interaction.start_relations(list(self.relation_tables), random)

    def exact(self) -> GraphModel:
        """The same tables, read in float64 and without dropout: what ranks are made by."""
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        twin.interaction = copy.deepcopy(self.interaction).double().eval()
        twin._entity_dropout = twin._relation_dropout = nn.Dropout(0.0)
        twin.dtype = torch.float64
        return twin

    # -- scores ------------------------------------------------------------------------------------------------------

    def scores(self, questions: Questions, candidates: Tensor | slice | None = None) -> Tensor:
        """Score candidates as answers.

        Args:
            questions: *Shapes:* (batch,).
            candidates: entities that all questions are asked of, *shape:* (n,), or each of its own, *shape:* (batch, n); a
                slice of all entities, or None for all.

        Returns:
            *Shape:* (batch, n).
        """
        return self.scores_of_rows(self.rows(questions), questions.heads, candidates)

    def rows(self, questions: Questions) -> tuple[Rows, Rows]:
        """Vectors of the anchors and relations of questions, as they enter scores."""
        return self.entity_rows(questions.anchors), self._relation_rows(self._relation_ids(questions))

    def scores_of_rows(self, rows: tuple[Rows, Rows], heads: Tensor, candidates: Tensor | slice | None) -> Tensor:
        """`scores` of questions whose `rows` are known."""
        if self.reciprocal:
            heads = torch.zeros_like(heads)
        return self.interaction(*rows, heads, self.entity_rows(slice(None) if candidates is None else candidates))

    def score_hrt(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Plausibility of triples, as answers to "which tail?". *Shapes:* (n,) all."""
        asked = Questions(heads, relations, torch.zeros_like(heads, dtype=torch.bool))
        return self.scores(asked, tails.unsqueeze(1)).squeeze(1)

    def score_tails(self, heads: Tensor, relations: Tensor, candidates: Tensor | slice | None = None) -> Tensor:
        """Scores of ``(h, r, ?)``. *Shapes:* (batch,) twice, and (batch, n); see `scores`."""
        return self.scores(Questions(heads, relations, torch.zeros_like(heads, dtype=torch.bool)), candidates)

    def score_heads(self, relations: Tensor, tails: Tensor, candidates: Tensor | slice | None = None) -> Tensor:
        """Scores of ``(?, r, t)``. *Shapes:* (batch,) twice, and (batch, n); see `scores`."""
        return self.scores(Questions(tails, relations, torch.ones_like(tails, dtype=torch.bool)), candidates)

    # -- vectors -----------------------------------------------------------------------------------------------------

    def entity_rows(self, which: Tensor | slice) -> Rows:
        """Vectors of entities as they enter scores: normalised and with dropout where that is asked for."""
        rows = [self._read(table, which) for table in self.entity_tables]
        if self._settings.normalize:
            rows[0] = functional.normalize(rows[0], dim=-1)
        return tuple(self._entity_dropout(x) for x in rows)

    def _relation_ids(self, questions: Questions) -> Tensor:
        return questions.relations + self.relations * questions.heads if self.reciprocal else questions.relations

    def _relation_rows(self, which: Tensor) -> Rows:
        return tuple(self._relation_dropout(self._read(table, which)) for table in self.relation_tables)

    def _read(self, table: Tensor, which: Tensor | slice) -> Tensor:
        if isinstance(which, Tensor) and self._settings.sparse and table.dim() == 2:
            return functional.embedding(which, table, sparse=True).to(self.dtype)
        return table[which].to(self.dtype)

    def entity_vectors(self, ids: Tensor | None = None) -> Tensor:
        """Vectors of entities, all tables side by side, without dropout. *Shape:* (n, numbers)."""
        parts = [table if ids is None else table[ids] for table in self.entity_tables]
        return torch.cat([part.detach().flatten(1) for part in parts], 1)

    def penalty(self, questions: Questions, answers: Tensor, p: float, weighted: bool) -> Tensor:
        """``mean(|h|_p^p + |r|_p^p + |t|_p^p)`` over triples; p = 3 is N3 (Lacroix et al. 2018).

        Args:
            questions: *Shapes:* (batch,).
            answers: their answers. *Shape:* (batch,).
            p: the power; of complex numbers, that of their moduli.
            weighted: whether a row counts as often as it occurs; otherwise the mean is over the different rows.
        """
        entities = [(table, ids) for ids in (questions.anchors, answers) for table in self.entity_tables]
        relations = [(table, self._relation_ids(questions)) for table in self.relation_tables]
        total = self.entity_tables[0].new_zeros(())
        for table, ids in entities + (relations if self.interaction.regular_relations else []):
            rows = self._read(table, ids if weighted else ids.unique())
            total = total + self.interaction.moduli(rows.flatten(1)).pow(p).sum(1).mean()
        return total


def _tables(rows: int, shapes: list[tuple[int, ...]]) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(torch.zeros(rows, *shape)) for shape in shapes])


def make_model(settings: Settings, entities: int, relations: int) -> GraphModel:
    """The model that settings describe, with the first values that their seed draws.

    Raises:
        SettingsError: a setting is not allowed.
    """
    model = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_for(settings.seed, "interaction").initial_seed())  # networks of PyKEEN's draw from it
        interaction = make_interaction(model.name, model.dim, model.relation_dim or model.dim, model.arguments)
    made = GraphModel(interaction, entities, relations, model)
    made.start(settings.seed)
    return made

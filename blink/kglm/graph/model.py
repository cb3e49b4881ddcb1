"""Graph models: entity and relation embeddings, scored by an interaction."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blink.kglm.graph.interactions import Interaction, Rows, make_interaction
from blink.kglm.settings import GraphModelSection, GraphSections
from blink.runs.seeds import generator_for


@dataclass(frozen=True)
class Queries:
    """Queries ``(h, r, ?)`` and ``(?, r, t)``. *Shapes:* (batch,) all.

    Attributes:
        anchors: the known entities.
        relations: relations of the graph.
        heads: whether the head is predicted, bool.
    """

    anchors: Tensor
    relations: Tensor
    heads: Tensor

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, rows: Tensor | slice) -> Queries:
        return Queries(self.anchors[rows], self.relations[rows], self.heads[rows])

    def to(self, device: torch.device | str) -> Queries:
        """Copy to a device."""
        return Queries(self.anchors.to(device), self.relations.to(device), self.heads.to(device))


def queries_of(triples: Tensor) -> tuple[Queries, Tensor]:
    """Tail queries, then head queries of all triples, and their answers. *Shapes:* (n, 3) to (2n,) both."""
    head, relation, tail = triples.unbind(1)
    heads = torch.arange(2 * len(triples), device=triples.device) >= len(triples)
    queries = Queries(torch.cat([head, tail]), relation.repeat(2), heads)
    return queries, torch.cat([tail, head])


INITIALISERS: dict[str, Any] = {
    "xavier_normal": lambda table, scale, random: nn.init.xavier_normal_(table, gain=scale, generator=random),
    "xavier_uniform": lambda table, scale, random: nn.init.xavier_uniform_(table, gain=scale, generator=random),
    "normal": lambda table, scale, random: nn.init.normal_(table, std=scale, generator=random),
    "uniform": lambda table, scale, random: nn.init.uniform_(table, -scale, scale, generator=random),
}
"""Initialize a table. *Shape:* (rows, width)."""


class GraphModel(nn.Module):
    """Embeddings of entities and relations with an interaction.

    Args:
        interaction: see `make_interaction`.
        entities: number of entities.
        relations: number of relations; with ``reciprocal``, tables have twice as many rows.
        settings: the section ``model``.

    Attributes:
        interaction: computes scores from embeddings.
        entity_tables: a table for each entity vector of the interaction. *Shapes:* (entities, ...).
        relation_tables: a table for each relation vector of the interaction.
        reciprocal: whether head queries are tail queries of separate inverse relations.
        dtype: dtype of the scores.
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
        """Device of the tables."""
        return self.entity_tables[0].device

    @property
    def entities(self) -> int:
        """Number of entities."""
        return len(self.entity_tables[0])

    def start(self, seed: int) -> None:
        """Initialize all tables."""
        random = generator_for(seed, "tables")
        with torch.no_grad():
            for table in (*self.entity_tables, *self.relation_tables):
                INITIALISERS[self._settings.init](table.view(len(table), -1), self._settings.init_scale, random)
            self.interaction.start_relations(list(self.relation_tables), random)

    def exact(self) -> GraphModel:
        """A model over the same tables for ranking, in float64 and without dropout."""
        model = copy.copy(self)
        model._modules = dict(self._modules)
        model.interaction = copy.deepcopy(self.interaction).double().eval()
        model._entity_dropout = model._relation_dropout = nn.Dropout(0.0)
        model.dtype = torch.float64
        return model

    # -- scores ------------------------------------------------------------------------------------------------------

    def scores(self, queries: Queries, candidates: Tensor | slice | None = None) -> Tensor:
        """Score candidates as answers.

        Args:
            queries: *Shapes:* (batch,).
            candidates: entities, shared by all queries, *shape:* (n,), or per query, *shape:* (batch, n); or a slice of all
                entities; None for all.

        Returns:
            *Shape:* (batch, n).
        """
        return self.scores_of_rows(self.rows(queries), queries.heads, candidates)

    def rows(self, queries: Queries) -> tuple[Rows, Rows]:
        """Embeddings of the anchors and relations of queries, with normalization and dropout."""
        return self.entity_rows(queries.anchors), self._relation_rows(self._relation_ids(queries))

    def scores_of_rows(self, rows: tuple[Rows, Rows], heads: Tensor, candidates: Tensor | slice | None) -> Tensor:
        """`scores` from the `rows` of queries."""
        if self.reciprocal:
            heads = torch.zeros_like(heads)
        return self.interaction(*rows, heads, self.entity_rows(slice(None) if candidates is None else candidates))

    def score_hrt(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        """Scores of triples, as tail queries. *Shapes:* (n,) all."""
        queries = Queries(heads, relations, torch.zeros_like(heads, dtype=torch.bool))
        return self.scores(queries, tails.unsqueeze(1)).squeeze(1)

    # -- vectors -----------------------------------------------------------------------------------------------------

    def entity_rows(self, ids: Tensor | slice) -> Rows:
        """Embeddings of entities, with normalization and dropout as in the settings."""
        rows = [self._lookup(table, ids) for table in self.entity_tables]
        if self._settings.normalize:
            rows[0] = functional.normalize(rows[0], dim=-1)
        return tuple(self._entity_dropout(x) for x in rows)

    def _relation_ids(self, queries: Queries) -> Tensor:
        return queries.relations + self.relations * queries.heads if self.reciprocal else queries.relations

    def _relation_rows(self, ids: Tensor) -> Rows:
        return tuple(self._relation_dropout(self._lookup(table, ids)) for table in self.relation_tables)

    def _lookup(self, table: Tensor, ids: Tensor | slice) -> Tensor:
        if isinstance(ids, Tensor) and self._settings.sparse and table.dim() == 2:
            return functional.embedding(ids, table, sparse=True).to(self.dtype)
        return table[ids].to(self.dtype)

    def entity_vectors(self, ids: Tensor | None = None) -> Tensor:
        """Embeddings of entities without dropout, all tables concatenated. *Shape:* (n, width)."""
        tables = [table if ids is None else table[ids] for table in self.entity_tables]
        return torch.cat([table.detach().flatten(1) for table in tables], 1)

    def penalty(self, queries: Queries, answers: Tensor, p: float, weighted: bool) -> Tensor:
        """``mean(|h|_p^p + |r|_p^p + |t|_p^p)`` over triples; p = 3 is N3 (Lacroix et al. 2018).

        Args:
            queries: *Shapes:* (batch,).
            answers: answers of the queries. *Shape:* (batch,).
            p: the power; for complex numbers, of their moduli.
            weighted: whether rows are weighted by their frequency; otherwise the mean is over unique rows.
        """
        entities = [(table, ids) for ids in (queries.anchors, answers) for table in self.entity_tables]
        relations = [(table, self._relation_ids(queries)) for table in self.relation_tables]
        total = self.entity_tables[0].new_zeros(())
        for table, ids in entities + (relations if self.interaction.regular_relations else []):
            rows = self._lookup(table, ids if weighted else ids.unique())
            total = total + self.interaction.moduli(rows.flatten(1)).pow(p).sum(1).mean()
        return total


def _tables(rows: int, shapes: list[tuple[int, ...]]) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(torch.zeros(rows, *shape)) for shape in shapes])


def make_model(settings: GraphSections, entities: int, relations: int) -> GraphModel:
    """Create the model of the settings, initialized with their seed.

    Raises:
        SettingsError: a setting is not allowed.
    """
    model = settings.model
    with torch.random.fork_rng(devices=[]):
        # PyKEEN's modules use the global generator.
        torch.manual_seed(generator_for(settings.seed, "interaction").initial_seed())
        interaction = make_interaction(model.name, model.dim, model.relation_dim or model.dim, model.arguments)
    graph_model = GraphModel(interaction, entities, relations, model)
    graph_model.start(settings.seed)
    return graph_model

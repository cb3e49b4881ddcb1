"""The model: LUKE with its masked-entity head, which scores the candidates of each mention.

Yamada et al. 2022, "Global Entity Disambiguation with BERT", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LukeConfig, LukeModel
from transformers.models.luke.modeling_luke import EntityPredictionHeadTransform, LukePreTrainedModel

from examples.luke.convert import MASK, PAD
from examples.luke.pretrained import PretrainedLuke, make_plain

NO_CANDIDATE = -1e32
"""Score of padding: finite, so that a row without candidates has no NaN gradient."""


@dataclass
class DisambiguationOutput:
    """Scores of candidates, `NO_CANDIDATE` where there is none. *Shape:* (n, entities, candidates)."""

    logits: Tensor


class CandidateHead(nn.Module):
    """LUKE's masked-entity head without its decoder, which is the entity table.

    Attributes:
        transform: from a state to an entity's vector.
        bias: of each entity. *Shape:* (entities,).
    """

    def __init__(self, config: LukeConfig) -> None:
        super().__init__()
        self.transform = EntityPredictionHeadTransform(config)
        self.bias = nn.Parameter(torch.zeros(config.entity_vocab_size))


class LukeForEntityDisambiguation(LukePreTrainedModel):
    """Scores the candidates of masked entities: transform(state) . E[candidate] + bias[candidate].

    Entity table and biases are frozen. The vector of the masked entity is trained: a separate parameter replaces its row.

    Attributes:
        mask_embedding: vector of a masked entity. *Shape:* (entity size,).
    """

    def __init__(self, config: LukeConfig) -> None:
        super().__init__(config)
        self.luke = LukeModel(config)
        self.entity_predictions = CandidateHead(config)
        self.mask_embedding = nn.Parameter(torch.zeros(config.entity_emb_size))
        self.table.register_forward_hook(self._with_own_mask)
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def table(self) -> nn.Embedding:
        """The table of entities. *Shape:* (entities, entity size)."""
        return self.luke.entity_embeddings.entity_embeddings

    def forward(self, candidates: Tensor, **inputs: Tensor) -> DisambiguationOutput:
        """Score candidates.

        Args:
            candidates: rows of the table, -1 where there is none. *Shape:* (n, entities, candidates), int64.
            inputs: see `examples.luke.features.collate`.
        """
        states = self.luke(**inputs).entity_last_hidden_state
        queries = self.entity_predictions.transform(states)
        rows = candidates.clamp(min=0)
        logits = (self.table.weight[rows] @ queries.unsqueeze(-1)).squeeze(-1) + self.entity_predictions.bias[rows]
        return DisambiguationOutput(logits.float().masked_fill(candidates < 0, NO_CANDIDATE))

    def _with_own_mask(self, module: nn.Module, arguments: tuple[Tensor, ...], vectors: Tensor) -> Tensor:
        masked = (arguments[0] == self.config.entity_mask_id).unsqueeze(-1)
        return torch.where(masked, self.mask_embedding.to(vectors.dtype), vectors)


@torch.no_grad()
def begin(model: LukeForEntityDisambiguation, source: PretrainedLuke) -> None:
    """Copy the pre-trained head and the vector of the masked entity into a new model with a loaded encoder."""
    weights = {name: value.clone() for name, value in source.model.entity_predictions.state_dict().items()}
    del weights["decoder.weight"]
    pad = source.entities[PAD]  # the encoder has moved it to row 0
    weights["bias"][[0, pad]] = weights["bias"][[pad, 0]]
    model.entity_predictions.load_state_dict(weights, strict=True)
    mask = source.entities[MASK]
    model.config.entity_mask_id = pad if mask == 0 else mask
    model.mask_embedding.copy_(model.table.weight[model.config.entity_mask_id])
    make_plain(model.luke, model.config)

"""Two heads that transformers lacks: cloze questions, and spans with only one of two sources.

Both follow the paper (Yamada et al. 2020, sections 4.4 and A); they are saved and loaded like any model of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LukeConfig, LukeModel
from transformers.models.luke.modeling_luke import LukePreTrainedModel


@dataclass
class HeadOutput:
    """Output of a head."""

    logits: Tensor


class LukeForCloze(LukePreTrainedModel):
    """Scores each entity of a passage as the filler of a gap: Linear([gap ; candidate]) -> 1.

    Entity 0 of an input is the gap, the others are candidates.
    """

    def __init__(self, config: LukeConfig) -> None:
        super().__init__(config)
        self.luke = LukeModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.scorer = nn.Linear(2 * config.hidden_size, 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, **inputs: Tensor) -> HeadOutput:
        """Score candidates.

        Args:
            inputs: see `examples.luke.features.collate`.

        Returns:
            logits. *Shape:* (n, entities - 1); those of padding are undefined.
        """
        entities = self.luke(**inputs).entity_last_hidden_state
        gap, candidates = entities[:, :1], entities[:, 1:]
        both = torch.cat([gap.expand_as(candidates), candidates], dim=2)
        return HeadOutput(self.scorer(self.dropout(both)).squeeze(-1))


class LukeForSpans(LukePreTrainedModel):
    """Classifies spans by one source only: ``word`` (states at their ends, 2H) or ``entity`` (the entity's state, H).

    The source is the configuration's ``span_source``. Both together are transformers' LukeForEntitySpanClassification.
    """

    def __init__(self, config: LukeConfig) -> None:
        super().__init__(config)
        self.source = config.span_source
        self.luke = LukeModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        width = 2 * config.hidden_size if self.source == "word" else config.hidden_size
        labels: Any = config.num_labels
        self.classifier = nn.Linear(width, labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, entity_start_positions: Tensor, entity_end_positions: Tensor, **inputs: Any) -> HeadOutput:
        """Classify spans.

        Args:
            entity_start_positions: first token of each span. *Shape:* (n, spans), int64.
            entity_end_positions: last token of each span. *Shape:* (n, spans), int64.
            inputs: see `examples.luke.features.collate`; with source ``word``, entities are ignored.

        Returns:
            logits. *Shape:* (n, spans, labels).
        """
        if self.source == "word":
            words = self.luke(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
            ends = torch.stack([entity_start_positions, entity_end_positions], dim=2)
            picked = words[torch.arange(len(words), device=words.device)[:, None, None], ends]
            states = picked.flatten(2)
        else:
            states = self.luke(**inputs).entity_last_hidden_state
        return HeadOutput(self.classifier(self.dropout(states)))

"""Options of named entity recognition."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Positive
from blink.runs.settings import Settings


class NerOptions(Settings):
    """Options of the task."""

    max_seq_length: Annotated[int, Field(ge=8)] = 512
    """Tokens per input, special ones included."""
    max_entity_length: Positive = 128
    """Candidates per input."""
    max_mention_length: Positive = 16
    """Tokens of a candidate."""
    no_entity_feature: bool = False
    """Classify by word states only."""
    no_word_feature: bool = False
    """Classify by entity states only."""
    train_on_dev_set: bool = False
    """Train on eng.testa, the development set, too."""
    strict: bool = False
    """Fail on gold names longer than --max-mention-length instead of warning."""

    @model_validator(mode="after")
    def _require_room(self) -> NerOptions:
        if self.no_entity_feature and self.no_word_feature:
            raise SettingsError("--no-entity-feature and --no-word-feature leave nothing to classify by; give one of them")
        if self.max_seq_length - 2 <= self.max_mention_length:
            problem = f"--max-seq-length is {self.max_seq_length} and --max-mention-length {self.max_mention_length}"
            raise SettingsError(f"{problem}; the first must be greater by more than 2")
        return self

    @property
    def source(self) -> str:
        """States that are classified; see `examples.luke.heads.LukeForSpans`."""
        return "word" if self.no_entity_feature else "entity" if self.no_word_feature else "both"

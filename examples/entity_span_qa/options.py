"""Options of cloze questions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Positive
from blink.runs.settings import Settings


class ClozeOptions(Settings):
    """Options of the task."""

    max_seq_length: Annotated[int, Field(ge=16)] = 512
    """Tokens per input, special ones included."""
    max_query_length: Positive = 90
    """Tokens of the question."""
    doc_stride: Positive = 128
    """Tokens from one window of a long passage to the next."""

    @model_validator(mode="after")
    def _require_room(self) -> ClozeOptions:
        if self.max_query_length + 4 >= self.max_seq_length:
            problem = f"--max-query-length is {self.max_query_length} and --max-seq-length {self.max_seq_length}"
            raise SettingsError(f"{problem}; they leave no room for the passage")
        return self

"""Options of question answering."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Positive
from blink.runs.settings import Settings


class QaOptions(Settings):
    """Options of the task; for the files see `examples.reading_comprehension.links`."""

    with_negative: bool = True
    """SQuAD 2.0, with unanswerable questions; else 1.1."""
    doc_stride: Positive = 128
    """Tokens from one window of a long passage to the next."""
    max_query_length: Positive = 64
    """Tokens of the question."""
    max_seq_length: Annotated[int, Field(ge=16)] = 512
    """Tokens per input, special ones included."""
    max_entity_length: Positive = 128
    """Entities of an input."""
    max_answer_length: Positive = 30
    """Tokens of an answer."""
    n_best_size: Positive = 20
    """Candidate answers that are written."""
    null_score_diff_threshold: float = 0.0
    """Minimum margin of no answer over the best answer."""
    min_mention_link_prob: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Minimum probability of a link."""
    no_entity: bool = False
    """Use words only."""
    wiki_link_db_file: str | None = None
    """Links of Wikipedia's pages.  [default: enwiki_20160305.pkl, if it exists]"""
    link_redirects_file: str | None = None
    """Article to page.  [default: enwiki_20160305_redirects.pkl, if it exists]"""
    model_redirects_file: str | None = None
    """Target to entity.  [default: enwiki_20181220_redirects.pkl, if it exists]"""

    @model_validator(mode="after")
    def _require_room(self) -> QaOptions:
        if self.max_query_length + 4 >= self.max_seq_length:
            problem = f"--max-query-length is {self.max_query_length} and --max-seq-length {self.max_seq_length}"
            raise SettingsError(f"{problem}; they leave no room for the passage")
        return self
